"""A study as in a notebook: a function, what may vary, and the best point, without any file.

Run it with `python examples/notebook/bowl.py`, or paste it into a notebook.
"""

from prefect_simopt import Float, optimize


def bowl(x, y):
    """A valley with its lowest point at (1, 0)."""
    return (x - 1) ** 2 + y**2


if __name__ == "__main__":
    study = optimize(bowl, space=[Float("x", -5, 5), Float("y", -5, 5)], optimizer="pso", trials=200, store="studies")
    print(study.best.parameters, study.best.metrics)
    print(study.trials.tail())
