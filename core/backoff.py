"""How long to wait before trying again; apart from ``tasks``, so that the supervisor need not load asyncio (9 MiB)."""


def backoff(attempt: int, first: float = 0.05, most: float = 1.0) -> float:
    """Seconds to wait before the given attempt (0 is the first repetition): doubling, bounded."""
    return min(most, first * 2.0 ** min(attempt, 20))
