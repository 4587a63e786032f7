"""Builds the sdist, the wheel from it, installs that into a clean environment, and imports every module."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys
import prefect_simopt
names = [module.name for module in pkgutil.walk_packages(prefect_simopt.__path__, "prefect_simopt.")]
names = [name for name in names if not name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
home = pathlib.Path(prefect_simopt.__file__).parent
assert home.is_relative_to(sys.prefix), f"imported from {home}, not from the environment"
expected = {line for line in sys.argv[1].split(",") if line}
missing = expected - set(names)
assert not missing, f"not in the wheel: {sorted(missing)}"
print(f"{len(names)} modules imported from the wheel")
"""


def expected_modules() -> set[str]:
    """Names of all modules of the source tree, as they are imported."""
    homes = {"prefect_simopt": ROOT / "src" / "prefect_simopt"}
    homes |= {f"prefect_simopt.{part}": ROOT / part for part in ("flows", "tasks", "blocks", "deployments")}
    found = set()
    for package, folder in homes.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            found.add(name)
    return {name for name in found if not name.endswith("__main__")} - {"prefect_simopt"}


def run(*command: object, cwd: Path = ROOT) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=cwd)


def main() -> None:
    """Build, install, import."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", out, ROOT)  # the sdist, the wheel from it
        (wheel,) = out.glob("*.whl")
        environment = out / "venv"
        venv.create(environment)
        python = environment / "bin" / "python"
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python]
        run(*uv, "-c", ROOT / "requirements" / "constraints.txt", f"{wheel}[all]")
        run(python, "-W", "error::ImportWarning", "-c", IMPORT_ALL, ",".join(sorted(expected_modules())), cwd=out)
        run(environment / "bin" / "simopt", "--version", cwd=out)


if __name__ == "__main__":
    main()
