"""Use a Redis Cluster until standard input ends: redis_client.py ADDRESS PORT, of any node.

Writes one key after the other and reads an earlier one each time; at the end reads all. Says "ready" when it is at
work, and then, as JSON, how many were written and lost. An operation that fails ends it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import sys

from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

BEFORE_READY = 1000
RUN = os.urandom(8).hex()
"""Part of each value: what an earlier run has left is none."""
SECONDS = 10
"""For one operation."""


def main(address: str, port: int) -> None:
    # Without retries: what a tunnel breaks must be seen. Redirections are followed all the same.
    client = RedisCluster(
        host=address, port=port, retry=Retry(NoBackoff(), 0), socket_timeout=SECONDS, socket_connect_timeout=SECONDS
    )
    lost = 0
    for number in itertools.count():
        if number == BEFORE_READY:
            print("ready", flush=True)
        if number > BEFORE_READY and select.select([sys.stdin], [], [], 0)[0]:
            break
        client.set(f"key {number}", f"value {number} {RUN}")
        lost += not is_there(client, random.randrange(number + 1))
    lost += sum(not is_there(client, each) for each in range(number))
    print(json.dumps({"written": number, "lost": lost}))
    client.close()


def is_there(client: RedisCluster, number: int) -> bool:
    return bool(client.get(f"key {number}") == f"value {number} {RUN}".encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
