"""A process that has a store open and changes it all the time, until it is killed.

python -m tests.plugins.cache.store.worker DIRECTORY MAX_SIZE SEED put|part|purge
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from hashlib import blake2b

from pingap.stages.caching.place import CachePlace
from pingap.stages.plugins.cache.store.places import opened
from tests.plugins.cache.store.stores import entry

KEYS = 400


def body_of(key: bytes, version: int) -> bytes:
    """Tells a half one from a whole one: its digest comes first."""
    size = (500, 3_000, 20_000, 90_000)[version % 4]
    text = b"%d " % version + key * (size // len(key))
    return blake2b(text, digest_size=16).digest() + text


def is_whole(key: bytes, body: bytes) -> bool:
    return blake2b(body[16:], digest_size=16).digest() == body[:16] and body.endswith(key)


async def main(directory: str, max_size: int, seed: int, what: str) -> None:
    dice = random.Random(seed)
    store = opened(CachePlace("disk", directory, max_size), directory, lambda level, text: print(level, text, flush=True))
    part = store.part(None) if what == "part" else None
    print("ready", flush=True)
    while True:
        orders = []
        for _ in range(16):
            key = b"n\0http://a/%d" % dice.randrange(KEYS)
            body = body_of(key, dice.randrange(1 << 20))
            if what == "purge" and dice.random() < 0.1:
                orders.append(store.purge_all(b"n", dice.random() < 0.5))
            elif dice.random() < 0.2 and (growing := store.part(len(body))) is not None:
                if (waits := growing.write(body)) is not None:
                    await waits
                orders.append(store.put(key, entry(key, len(body), tags=(b"t",)), growing, store.mark()))
            else:
                orders.append(store.put(key, entry(key, len(body), tags=(b"t",)), body, store.mark()))
        await asyncio.gather(*orders)
        if part is not None and part.size < 2_000_000 and (waits := part.write(os.urandom(50_000))) is not None:
            await waits
        print("round", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
