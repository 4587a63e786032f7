"""A tapered cantilever beam under a force at its free end, by Euler-Bernoulli beam elements.

Usage: beam.py DECK OUTPUT. Writes `metrics.json` (mass in kg, sag in mm) and `deflection.npy` (mm at the nodes), and
prints the largest bending stress.
"""

import configparser
import json
import sys
from pathlib import Path

import numpy as np


def solve(length, heights, width, modulus, force):
    """Deflection at the nodes, shape (n + 1,), of a beam of n elements of the given heights, shape (n,)."""
    n = len(heights)
    h = length / n
    stiffness = np.zeros((2 * n + 2, 2 * n + 2))
    # The element of two nodes with deflection and slope each: cubic Hermite shape functions.
    unit = np.array([[12, 6 * h, -12, 6 * h], [6 * h, 4 * h**2, -6 * h, 2 * h**2],
                     [-12, -6 * h, 12, -6 * h], [6 * h, 2 * h**2, -6 * h, 4 * h**2]])  # fmt: skip
    for element, height in enumerate(heights):
        inertia = width * height**3 / 12
        stiffness[2 * element : 2 * element + 4, 2 * element : 2 * element + 4] += modulus * inertia / h**3 * unit
    load = np.zeros(2 * n + 2)
    load[-2] = force
    free = slice(2, None)  # the wall holds the first node's deflection and slope
    solution = np.zeros(2 * n + 2)
    solution[free] = np.linalg.solve(stiffness[free, free], load[free])
    return solution[::2]


def main(deck, output):
    """Read the deck, solve, and leave the results in the output folder."""
    settings = configparser.ConfigParser(inline_comment_prefixes=";")
    settings.read_string(Path(deck).read_text(encoding="utf-8"))
    beam, material = settings["beam"], settings["material"]
    length, width, force = beam.getfloat("length"), beam.getfloat("width"), settings["load"].getfloat("force")
    middles = (np.arange(beam.getint("elements")) + 0.5) / beam.getint("elements")
    heights = beam.getfloat("root") + (beam.getfloat("tip") - beam.getfloat("root")) * middles
    print(f"beam of {len(heights)} elements, {heights[0]:.1f} to {heights[-1]:.1f} mm high")
    print("SIMOPT-PROGRESS 0.1")
    deflection = solve(length, heights, width, material.getfloat("modulus"), force)
    print("SIMOPT-PROGRESS 0.9")
    stress = force * length * (1 - middles) / (width * heights**2 / 6)
    print(f"largest stress: {stress.max():.6g} MPa")
    mass = material.getfloat("density") * width * length * heights.mean()
    np.save(Path(output) / "deflection.npy", deflection)
    (Path(output) / "metrics.json").write_text(json.dumps({"mass": mass, "sag": deflection[-1]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
