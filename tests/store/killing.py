"""Kills a writing process at random moments, again and again, and says what it ran. It forks, so it has no threads.

Usage: killing.py LOCATION_JSON TRIALS KILLS SEED; prints a JSON object on one line.
"""

import os
import random
import signal
import sys
import time

import google_crc32c  # noqa: F401 - imported before the forks, so that they are about writing
import numcodecs  # noqa: F401
import orjson
from play import make_spec, play

from prefect_simopt.storage import StudyLocation


def main() -> None:
    location = StudyLocation.from_json(orjson.loads(sys.argv[1]))
    trials, kills = int(sys.argv[2]), int(sys.argv[3])
    chooser = random.Random(int(sys.argv[4]))
    spec, ran, killed, longest, ended = make_spec(trials), [], 0, 0.05, False
    while not ended:
        last = killed == kills
        reader, writer = os.pipe()
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                play(location, spec, None, lambda number, to=writer: os.write(to, b"%d\n" % number))
            except BaseException as error:
                print(repr(error), file=sys.stderr)
                os._exit(1)
            os._exit(0)
        os.close(writer)
        if not last:
            time.sleep(chooser.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        with os.fdopen(reader, "rb") as said:
            ran += [int(line) for line in said.read().splitlines()]
        ended = os.WIFEXITED(status)
        if ended and os.WEXITSTATUS(status):
            raise SystemExit(1)
        killed += not ended
        if not ran:  # slower than thought: let it come further
            longest = min(2 * max(longest, time.monotonic() - started), 5.0)
    print(orjson.dumps({"killed": killed, "ran": ran}).decode())


main()
