"""What every pod of a study is told of its simulator."""

from collections.abc import Callable

from prefect_simopt.compute_config import WorkPoolComputeConfig
from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.session import carried_function, local_compute
from prefect_simopt.simulators.bundle import pack
from prefect_simopt.simulators.config import ContainerSimulator
from prefect_simopt.simulators.container import check_container
from prefect_simopt.simulators.transport import SimulatorInfo
from prefect_simopt.spec import StudySpec
from prefect_simopt.tasks.child import Plan
from prefect_simopt.tasks.pool import Pool
from prefect_simopt.tasks.sidecar import sidecar

__all__ = ["planner"]


def planner(spec: StudySpec) -> Callable[[Pool], Plan]:
    """Makes the plan once the pool is known: packs the simulator's files, and loads it here to know what it is.

    A container simulator is not loaded: all that is known of it is in the spec.

    Raises:
        SpecError: when called: the simulator is a function that has no file, or the pool has no containers.
        SimulatorError: when called: it is missing or broken here.
    """

    def plan(pool: Pool) -> Plan:
        if carried_function.get() is not None:
            way_out = "put it into a file and name that: simulator=`wing.py:drag`"
            raise SpecError(
                [Problem("simulator", f"a function of a notebook cannot be sent to a work pool; {way_out}")]
            )
        described = spec.simulator.model_dump(mode="json")
        document, archive = pack(described)
        names = spec.keywords
        if isinstance(spec.simulator, ContainerSimulator):
            assert isinstance(spec.compute, WorkPoolComputeConfig)  # noqa: S101 - the spec's own rule
            if pool.kind != "kubernetes":
                message = f"a container simulator needs a pool of type kubernetes; {pool.name} is of type {pool.kind}"
                raise SpecError([Problem("compute.pool", message)])
            info = SimulatorInfo(check_container(described, names, spec.conditional))
            beside = sidecar(spec.simulator, spec.compute, pool)
            return Plan(info, document, archive, names, spec.metrics, spec.conditional, spec.slopes, beside)
        compute = local_compute(spec, workers=1)
        try:
            info = compute.start()
        finally:
            compute.close()
        return Plan(info, document, archive, names, spec.metrics, spec.conditional, spec.slopes)

    return plan
