"""What every pod of a study is told of its simulator."""

from collections.abc import Callable

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.session import carried_function, local_compute
from prefect_simopt.simulators.bundle import pack
from prefect_simopt.spec import StudySpec
from prefect_simopt.tasks.child import Plan
from prefect_simopt.tasks.pool import Pool

__all__ = ["planner"]


def planner(spec: StudySpec) -> Callable[[Pool], Plan]:
    """Makes the plan once the pool is known: packs the simulator's files, and loads it here to know what it is.

    Raises:
        SpecError: when called: the simulator is a function that has no file.
        SimulatorError: when called: it is missing or broken here.
    """

    def plan(_pool: Pool) -> Plan:
        if carried_function.get() is not None:
            way_out = "put it into a file and name that: simulator=`wing.py:drag`"
            raise SpecError(
                [Problem("simulator", f"a function of a notebook cannot be sent to a work pool; {way_out}")]
            )
        document, archive = pack(spec.simulator.model_dump(mode="json"))
        compute = local_compute(spec, workers=1)
        try:
            info = compute.start()
        finally:
            compute.close()
        return Plan(info, document, archive, [each.name for each in spec.space], spec.metrics)

    return plan
