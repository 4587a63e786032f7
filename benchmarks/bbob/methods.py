"""The searches that are compared: ours by their names, and the peers' with their own defaults.

Each takes a `Problem` and a seed and goes on until the problem raises `ExhaustedError`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from problems import BATCH, ExhaustedError, Problem

from prefect_simopt.optimizers import make_optimizer
from prefect_simopt.space import Float, Space

__all__ = ["PEERS", "method"]

Method = Callable[[Problem, int], None]


def ours(config: Any) -> Method:
    def search(problem: Problem, seed: int) -> None:
        space = Space([Float(f"x{i}", -5, 5) for i in range(problem.dimension)])
        optimizer = make_optimizer(config, space, seed=seed, batch=BATCH)
        while True:
            ids, x = optimizer.ask(BATCH)
            optimizer.tell(ids, problem(x))

    return search


def random_search(problem: Problem, seed: int) -> None:
    rng = np.random.default_rng(seed)
    while True:
        problem(rng.random((BATCH, problem.dimension)))


def _pymoo(make: Callable[[], Any]) -> Method:
    def search(problem: Problem, seed: int) -> None:
        from pymoo.core.problem import Problem as PymooProblem
        from pymoo.optimize import minimize

        class Box(PymooProblem):
            def __init__(self) -> None:
                super().__init__(n_var=problem.dimension, n_obj=1, xl=0.0, xu=1.0)

            def _evaluate(self, x: np.ndarray, out: dict[str, Any], *_: Any, **__: Any) -> None:
                out["F"] = problem(x)

        while True:
            minimize(Box(), make(), ("n_eval", 10**9), seed=seed, verbose=False)
            seed += 1000

    return search


def _pymoo_pso() -> Any:
    from pymoo.algorithms.soo.nonconvex.pso import PSO

    return PSO(pop_size=BATCH)


def _pymoo_ga() -> Any:
    from pymoo.algorithms.soo.nonconvex.ga import GA

    return GA(pop_size=BATCH)


def _annealing_chains(problem: Problem, seed: int) -> None:
    """16 chains side by side: chain k has every 16th evaluation, so that a round evaluates one point of each."""
    import threading

    from scipy.optimize import dual_annealing

    # Each chain waits until all others have a point too; then the batch is evaluated at once.
    points, values = np.empty((BATCH, problem.dimension)), np.empty(BATCH)
    over = threading.Event()

    def evaluate() -> None:
        try:
            values[:] = problem(points)
        except ExhaustedError:
            over.set()

    barrier = threading.Barrier(BATCH, action=evaluate)

    def chain(k: int) -> None:
        def f(x: np.ndarray) -> float:
            points[k] = x
            barrier.wait()
            if over.is_set():
                raise StopIteration
            return float(values[k])

        restart = 0
        try:
            while True:
                rng = np.random.default_rng([seed, k, restart])
                dual_annealing(f, [(0.0, 1.0)] * problem.dimension, maxiter=10**6, rng=rng)
                restart += 1
        except (StopIteration, threading.BrokenBarrierError):
            barrier.abort()

    threads = [threading.Thread(target=chain, args=(k,), daemon=True) for k in range(BATCH)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _annealing_chain(problem: Problem, seed: int) -> None:
    from scipy.optimize import dual_annealing

    while True:
        dual_annealing(lambda x: float(problem(x[None])[0]), [(0.0, 1.0)] * problem.dimension, maxiter=10**6, rng=seed)
        seed += 1000


def _scipy_de(problem: Problem, seed: int) -> None:
    from scipy.optimize import differential_evolution

    while True:
        differential_evolution(
            lambda x: problem(x.T), [(0.0, 1.0)] * problem.dimension, popsize=1, init=_hypercube(problem, seed),
            vectorized=True, updating="deferred", polish=False, tol=0.0, atol=1e-12, maxiter=10**6, rng=seed,
        )  # fmt: skip
        seed += 1000


def _hypercube(problem: Problem, seed: int) -> np.ndarray:
    from scipy.stats import qmc

    return qmc.LatinHypercube(problem.dimension, rng=seed).random(BATCH)


def _pycma(problem: Problem, seed: int) -> None:
    import cma

    popsize, rng = BATCH, np.random.default_rng(seed)
    while True:
        options = {"bounds": [0, 1], "popsize": popsize, "seed": int(rng.integers(1, 10**6)), "verbose": -9}
        es = cma.CMAEvolutionStrategy(rng.uniform(0.1, 0.9, problem.dimension), 0.2, options)
        while not es.stop():
            x = es.ask()
            es.tell(x, problem(np.array(x)).tolist())
        popsize *= 2


def _cmaes(problem: Problem, seed: int) -> None:
    from cmaes import CMA

    rng = np.random.default_rng(seed)
    while True:
        bounds = np.tile([0.0, 1.0], (problem.dimension, 1))
        mean = rng.uniform(0.1, 0.9, problem.dimension)
        es = CMA(mean, 0.2, bounds=bounds, population_size=BATCH, seed=int(rng.integers(10**6)))
        while not es.should_stop():
            x = np.array([es.ask() for _ in range(BATCH)])
            es.tell(list(zip(x, problem(x).tolist(), strict=True)))


PEERS: dict[str, Method] = {
    "random search": random_search,
    "pymoo PSO": _pymoo(_pymoo_pso),
    "pymoo GA": _pymoo(_pymoo_ga),
    "scipy dual_annealing, 16 chains": _annealing_chains,
    "scipy dual_annealing, one chain": _annealing_chain,
    "scipy DE": _scipy_de,
    "pycma IPOP": _pycma,
    "cmaes": _cmaes,
}


def method(name: str) -> Method:
    """A peer by its name, or one of ours by its type, with settings as in `pso,model=false`."""
    if name in PEERS:
        return PEERS[name]
    kind, *settings = name.split(",")
    values = dict(setting.split("=") for setting in settings)
    return ours({"type": kind} | {k: {"false": False, "true": True}.get(v, v) for k, v in values.items()})
