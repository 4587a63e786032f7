"""What the command line's parts share: exit codes, this very command, and the summary as a last line."""

import argparse
import os
import shlex
import sys
from typing import Any

from prefect_simopt.errors import StoreError
from prefect_simopt.signals import INTERRUPTED

__all__ = ["DONE", "FAILED", "INTERRUPTED", "WRONG_INPUT", "again", "print_summary"]

DONE, WRONG_INPUT, FAILED = 0, 2, 3
"""Exit codes: done; the input is wrong and nothing was run; the study failed."""


def again(name: str = "") -> str:
    """This very command, to be given again.

    Args:
        name: of the study that `--new` has made, which the same command would not go on with.
    """
    words = sys.argv[1:]
    if name:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--new", nargs="?")
        words = [*parser.parse_known_args(words)[1], "--set", f"name={name}"]
    return shlex.join(["simopt", *words])


def print_summary(summary: dict[str, Any], *, as_json: bool) -> None:
    """Print a summary as the last line of standard output.

    Raises:
        StoreError: standard output cannot be written.
    """
    import orjson

    from prefect_simopt.summary import sentence

    try:
        print(orjson.dumps(summary).decode() if as_json else sentence(summary), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StoreError(f"the summary could not be written to standard output: {error.strerror}") from None
