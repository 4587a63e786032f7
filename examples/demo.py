"""What `make demo` runs: the coating study, tracked by Prefect, and three lines on what was found."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "examples" / "coating" / "study.yaml"


def main() -> int:
    """Run the study with the installed `simopt`, as a user would."""
    simopt = Path(sys.executable).with_name("simopt")
    store = ROOT / "studies"
    done = subprocess.run(
        [simopt, "run", STUDY, "--store", store, "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return done.returncode
    summary = json.loads(done.stdout)
    best, study = summary["best"], Path(summary["store"]) / summary["name"]
    picture = study.with_suffix(".html")
    subprocess.run([simopt, "report", study, "--output", picture], stdout=subprocess.DEVNULL, check=True)
    reflectance = 100 * best["metrics"]["reflectance"]
    layers = ", ".join(f"{name} = {value:.1f} nm" for name, value in best["parameters"].items())
    trials = summary["trials"]["total"]
    print(f"Found: a coating that reflects {reflectance:.2f} % from 420 to 680 nm ({layers}), in {trials} trials.")
    print(f"Picture: {picture}")
    print("In Prefect's UI: `make up`, open the address that it prints, and start a study from the form of `optimize`.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
