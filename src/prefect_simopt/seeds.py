"""Seeds of simulator runs, all derived from the study's seed."""

import hashlib

__all__ = ["derive_seed"]


def derive_seed(seed: int, trial: int, replicate: int = 0) -> int:
    """The seed of one run: a hash of the three numbers, in [0, 2**31), which every language's generators take."""
    digest = hashlib.blake2b(f"{seed}/{trial}/{replicate}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
