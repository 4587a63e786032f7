"""What Prefect records arrives a little later than it happens."""

import time

__all__ = ["eventually"]


def eventually(look, seconds=90.0):
    """What `look()` gives once it is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
