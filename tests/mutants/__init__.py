"""The faults that ``make mutants`` plants; ``mutate.py`` does it.

Each stands for a mistake that this field makes, or that we made; the tests named with it must notice.
"""

from __future__ import annotations

from mutants import agent, dns, host, http, proxy
from mutants.mutant import Mutant

__all__ = ["MUTANTS", "Mutant"]

MUTANTS = (*agent.MUTANTS, *dns.MUTANTS, *host.MUTANTS, *proxy.MUTANTS, *http.MUTANTS)
