"""The faults that ``make mutants`` plants; ``mutate.py`` does it.

Each stands for a mistake that this field makes, or that we made; the tests named with it must notice.
"""

from __future__ import annotations

from mutants import agent, dns, gateway, host, http, proxy, transparent, trunk, trunks, tunnel
from mutants.mutant import Mutant

__all__ = ["MUTANTS", "Mutant"]

MUTANTS = (
    *agent.MUTANTS,
    *dns.MUTANTS,
    *gateway.MUTANTS,
    *host.MUTANTS,
    *proxy.MUTANTS,
    *http.MUTANTS,
    *transparent.MUTANTS,
    *trunk.MUTANTS,
    *trunks.MUTANTS,
    *tunnel.MUTANTS,
)
