"""Entry point of the console script: loads the rest, which takes long enough for a Ctrl-C."""

from __future__ import annotations

import sys

from dconnect.core.errors import Interrupted


def main() -> None:
    """Run the ``dconnect`` command."""
    try:
        from dconnect.cli.main import app  # noqa: PLC0415 - see above
    except KeyboardInterrupt:
        sys.stderr.write("dconnect: interrupted.\n")
        sys.exit(Interrupted.exit_code)
    app(prog_name="dconnect")
