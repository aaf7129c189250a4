"""``dconnect dns install``, ``uninstall`` and ``status``: this host's own resolver asks us for our suffixes."""

from __future__ import annotations

import os
from typing import Any

from dconnect.cli.host import selftest
from dconnect.cli.host.detect import Found, Manager, detect
from dconnect.cli.host.environment import Environment
from dconnect.cli.host.journal import Journal, Record
from dconnect.cli.host.plans import Wish, plan
from dconnect.cli.output import complain, say, say_json
from dconnect.core.address import Target
from dconnect.core.config import AgentConfig
from dconnect.core.errors import DconnectError

_UNDO = "`sudo dconnect dns uninstall` undoes it"


def need_root(command: str) -> None:
    """Refuse a user who may not change this host.

    Raises: DconnectError.
    """
    if os.geteuid() != 0:
        raise DconnectError(f"Only root may change this host's resolver; run `sudo dconnect dns {command}`.")


def server_of(config: AgentConfig) -> Target:
    """Where this host reaches an agent's name server."""
    return Target(config.reach.strip("[]"), config.dns_port)


def install(env: Environment, found: Found, config: AgentConfig, *, dry_run: bool) -> Wish | None:
    """Point the resolver at an agent, and say what was done; None when it was only told.

    Raises: DconnectError; then nothing is left of it.
    """
    wish = Wish(found.manager, config.suffixes, server_of(config))
    _say_found(found)
    say("What is done about it:")
    for line in _steps(wish):
        say(f"  {line}")
    if dry_run:
        return None
    changed = Journal(env).set(wish, _tell)
    domains = _domains(wish.suffixes)
    say(f"This host asks {wish.dns} for names under {domains}{'' if changed else ', as before'}; {_UNDO}.")
    return wish


def try_out(env: Environment, wish: Wish) -> None:
    """Look our names up as any program does, and say who goes past that.

    Raises: DconnectError when it does not work.
    """
    problems = selftest.check(env, wish)
    if problems:
        raise DconnectError(f"It does not work: {' '.join(problems)} Nothing was undone; {_UNDO}.")
    say(f"Tried it: dconnect.{wish.suffixes[0]} is found as by any program.")
    for sentence in bypasses(wish.manager):
        say(sentence)


def uninstall(env: Environment) -> None:
    """Undo all that was ever installed; whether there is an agent or an engine is all the same.

    Raises: DconnectError that says what could not be undone.
    """
    if Journal(env).set(None, _tell):
        say("This host's resolver is as it was before.")
    else:
        say("Nothing was installed on this host.")


def after_down(env: Environment, gone: Target) -> None:
    """Undo an installation that leads to an agent that is no more, or say who can.

    Raises: DconnectError that says what could not be undone.
    """
    journal = Journal(env)
    record = journal.read()
    if record is None or record.wish.dns != gone:
        return
    if os.geteuid() == 0:
        uninstall(env)
    else:
        domains = _domains(record.wish.suffixes)
        complain(f"dconnect: this host still asks {gone} for names under {domains}; {_UNDO}.")


def status(env: Environment, *, as_json: bool) -> bool:
    """Print what is installed; whether that works now, where something is.

    Raises: DconnectError on a system that is not known.
    """
    found, journal = detect(env), Journal(env)
    record = journal.read()
    missing = list(journal.missing(record)) if record is not None else []
    if record is not None and not record.complete:
        missing.append("The installation was interrupted.")
    problems = selftest.check(env, record.wish, patience_s=0) if record is not None else []
    if as_json:
        say_json(_json(found, record, [*missing, *problems]))
    else:
        _say_found(found)
        _say_installed(record, [*missing, *problems])
    return not missing and not problems


def _say_found(found: Found) -> None:
    say(f"Names on this host are served by {found.manager.value}:")
    for clue in found.clues:
        say(f"  {clue}")


def _say_installed(record: Record | None, problems: list[str]) -> None:
    if record is None:
        say("Nothing is installed on this host; `sudo dconnect dns install` does it.")
        return
    say(f"Installed: {_domains(record.wish.suffixes)} from {record.wish.dns}, by {record.wish.manager.value}; {_UNDO}.")
    for problem in problems:
        say(f"  {problem}")
    say("It does NOT work now; `sudo dconnect dns install` does it anew." if problems else "It works.")


def _json(found: Found, record: Record | None, problems: list[str]) -> dict[str, Any]:
    installed = None
    if record is not None:
        wish = record.wish
        installed = {"manager": wish.manager.value, "suffixes": wish.suffixes, "dns": str(wish.dns)}
    return {
        "manager": found.manager.value,
        "clues": found.clues,
        "installed": installed,
        "works": None if record is None else not problems,
        "problems": problems,
    }


def _steps(wish: Wish) -> list[str]:
    return [line for step in plan(wish) for line in str(step).splitlines()]


def _domains(suffixes: tuple[str, ...]) -> str:
    return ", ".join(suffixes)


def _tell(sentence: str) -> None:
    complain(f"dconnect: {sentence}")


def bypasses(manager: Manager) -> tuple[str, ...]:
    """Which programs do not ask this host's resolver, or not in the way of all others."""
    browsers = "Browsers that use DNS over HTTPS do not ask this host; switch that off for these domains."
    match manager:
        case Manager.MACOS:
            return (
                "dig, nslookup and host do not read /etc/resolver, nor do Go programs that were built without cgo.",
                browsers,
            )
        case Manager.RESOLV_CONF:
            return (
                "dig, nslookup and host ask the first server only, and are told REFUSED for other names.",
                "Programs that use musl ask all servers at once and take the first answer, which may be another's.",
                browsers,
            )
        case _:
            return (browsers,)
