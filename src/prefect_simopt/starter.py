"""The study that `simopt init` writes: small, real, and commented where people will change it."""

from pathlib import Path

from prefect_simopt.errors import SpecError

__all__ = ["write_starter"]

_STUDY = """\
# A study: one question put to one simulator. Run it, or go on with it:  simopt run study.yaml
name: "{name}"

simulator:
  type: python
  entrypoint: simulator.py:simulate     # relative to this file; any program works too: type: command

space:                                  # what may vary
  - {{name: diameter, type: float, low: 0.02, high: 0.2, unit: m}}
  - {{name: thickness, type: float, low: 0.001, high: 0.02, unit: m}}

relations:                              # known before a run
  - "2 * thickness <= 0.9 * diameter"

objectives:                             # what counts
  - {{metric: mass, direction: minimize}}

constraints:                            # what a good design respects
  - {{metric: deflection, high: 0.01}}

optimizer: {{type: pso, population: 16}}
budget: {{trials: 320}}
compute: {{type: local, workers: auto, timeout: 60}}
store: {{url: studies}}
seed: 1
"""

_SIMULATOR = '''\
"""A steel tube, clamped at one end, with a load at the other: its mass and how far it bends."""

import math

LENGTH, LOAD, MODULUS, DENSITY = 2.0, 500.0, 210e9, 7850.0  # m, N, Pa, kg/m3


def simulate(diameter, thickness):
    """Euler-Bernoulli beam theory: deflection = F L^3 / (3 E I)."""
    inner = diameter - 2 * thickness
    inertia = math.pi * (diameter**4 - inner**4) / 64
    area = math.pi * (diameter**2 - inner**2) / 4
    return {
        "mass": DENSITY * area * LENGTH,
        "deflection": LOAD * LENGTH**3 / (3 * MODULUS * inertia),
    }
'''


def write_starter(folder: Path) -> None:
    """Write `study.yaml` and `simulator.py` into a new or empty folder.

    Raises:
        SpecError: the folder holds one of them already, or cannot be written.
    """
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in folder.resolve().name).strip(
        ".-_"
    )
    texts = {"study.yaml": _STUDY.format(name=name or "study"), "simulator.py": _SIMULATOR}
    if taken := [file for file in texts if (folder / file).exists()]:
        raise SpecError(f"{folder} holds {' and '.join(taken)} already; give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            (folder / file).write_text(text)
    except OSError as error:
        raise SpecError(f"{folder} cannot be written: {error.strerror}") from None
