"""Seeds that depend on their purpose alone, not on earlier random numbers."""

import hashlib


def seed_of(*parts: object) -> int:
    """Return a seed of 63 bits, the same for the same parts on every machine."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest(), "big") >> 1
