"""Whether a destination may be reached: the one question that TCP, UDP and whatever else goes out must ask first.

A name is judged before it is looked up, an address before anything is sent to it. ``Policy`` knows the
rules and the inventory; what only the engine's kernel knows (which addresses are its own) is asked of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dconnect.core.address import IPAddress
from dconnect.proxy.policy import Policy


class Judge:
    """The judgement in force now; stateless itself, so one serves all fronts."""

    __slots__ = ("_is_local", "policy")

    def __init__(self, policy: Callable[[], Policy], is_local: Callable[[IPAddress], Awaitable[bool]]) -> None:
        """Wire it.

        Args:
            policy: the rules in force now; may raise DialError NOT_READY.
            is_local: as ``Sockets.is_local``, whether an address is the machine's that sockets live on.
        """
        self.policy = policy
        """For whoever wants to skip the question for a container, the usual destination."""
        self._is_local = is_local

    def name_objection(self, name: str) -> str:
        """Why a name (in lower case) may not even be looked up, as the end of a sentence; empty when it may.

        Raises: DialError NOT_READY.
        """
        return self.policy().name_objection(name)

    async def objection(self, address: IPAddress, name: str = "") -> str:
        """Why nothing may be sent to a canonical address, as the end of a sentence; empty when it may.

        ``name`` is what the client called it, if not by address.

        Raises: DialError NOT_READY.
        """
        policy = self.policy()
        if policy.is_container(address):
            return ""
        objection = policy.objection(address, name)
        if not objection and not policy.is_opened(address) and await self._is_local(address):
            return "the engine's own addresses are refused"
        return objection
