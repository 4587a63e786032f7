"""Runs the tests as two pytests at once: Prefect's, with one server that they share, and beside them all the others.

Both get the arguments that follow the marker expression: `python tests/run.py "not slow" --last-failed`. Prefect's
client leaves threads in its process that draw random numbers, which Hypothesis does not bear: so it has one of its own.
"""

import os
import subprocess
import sys
import tempfile

NOTHING_TO_RUN = 5  # an exit code of pytest


def main() -> int:
    """Run both; the others' output is seen as it comes, Prefect's at the end."""
    which, *arguments = sys.argv[1:]
    pytest = [sys.executable, "-m", "pytest", *arguments, "--last-failed-no-failures", "none"]
    others = [*pytest, "-m", f"({which}) and not prefect", "-n", str((os.cpu_count() or 2) + 1)]
    prefect = [*pytest, "-m", f"({which}) and prefect", "-o", "cache_dir=.pytest_cache/prefect"]
    with tempfile.TemporaryFile("w+") as output:
        beside = subprocess.Popen(prefect, stdout=output, stderr=subprocess.STDOUT)
        try:
            codes = [subprocess.run(others, check=False).returncode, beside.wait()]
        finally:
            if beside.poll() is None:
                beside.terminate()
                beside.wait()
        output.seek(0)
        print(output.read())
    return max(0 if code == NOTHING_TO_RUN else code for code in codes)


if __name__ == "__main__":
    sys.exit(main())
