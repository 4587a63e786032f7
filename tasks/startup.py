"""Flow runs that do not start: why, and for how long that is borne."""

import time

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from prefect_simopt.compute_config import WorkPoolComputeConfig
from prefect_simopt.errors import ComputeError
from prefect_simopt.tasks.child import Child
from prefect_simopt.tasks.cluster import Cluster
from prefect_simopt.tasks.diagnosis import Diagnosis, diagnose
from prefect_simopt.tasks.pace import Logger
from prefect_simopt.tasks.pool import Pool

__all__ = ["StartWatch"]

LOOK_SECONDS = 10.0  # between two looks at why a flow run does not start
LOOKS = 3  # flow runs looked at in each round: the others wait for the same
FATAL_SECONDS = 60.0  # an image that cannot be had may be a registry that is restarting
SLOW = 3  # start deadlines that a pod has to begin its flow run, once its container runs


class StartWatch:
    """Tells the study's log why flow runs do not start, and gives up after its start deadline.

    Args:
        pool: that they are to start on.
        cluster: of the pool.
        config: of the spec.
        logger: of the study's flow run.
    """

    def __init__(self, pool: Pool, cluster: Cluster, config: WorkPoolComputeConfig, logger: Logger) -> None:
        self._pool, self._cluster, self._config, self._logger = pool, cluster, config, logger
        self._busy = 0.0
        self._looks = 0

    def begin_round(self, *, busy: bool) -> None:
        """Begin to look at all of them once; `busy` says whether any flow run is running, which others wait for."""
        self._looks = 0
        if busy:
            self._busy = time.monotonic()

    def look(self, client: SyncPrefectClient, child: Child, run: FlowRun) -> None:
        """Look at a flow run that has not started.

        Raises:
            ComputeError: it has not for too long, or never will; says why.
        """
        now = time.monotonic()
        since = child.begun if child.trouble.fatal else max(child.begun, self._busy)
        late = now - since > self._config.start_deadline
        stuck = child.trouble.fatal and now - child.troubled > min(FATAL_SECONDS, self._config.start_deadline)
        due = self._looks < LOOKS and now - child.looked > LOOK_SECONDS
        if not (late or stuck or due):
            return
        self._looks += 1
        found = self._diagnose(client, child, run)
        late = late and not (found.running and now - since < SLOW * self._config.start_deadline)
        if late or (stuck and found.fatal):
            within = f"within {now - since:.0f} s" if late else f"for {now - child.begun:.0f} s"
            why = str(found) or "neither Prefect nor the cluster says why; look at it: kubectl describe pod"
            raise ComputeError(f"no pod of the work pool {self._pool.name} could start {within}: {why}")

    def _diagnose(self, client: SyncPrefectClient, child: Child, run: FlowRun) -> Diagnosis:
        """Ask why it has not started, and tell the log what is new."""
        child.looked = time.monotonic()
        if run.state is not None and run.state.is_scheduled():
            found = Diagnosis("", self._pool.idle(client) or f"no worker of {self._pool.name} has taken it yet")
        else:
            found = diagnose(client, run, self._cluster)
        if str(found) and str(found) != str(child.trouble) and not found.running:
            self._logger.warning("the pod for %s has not started: %s", child.name, found)
            child.troubled = child.looked
        child.trouble = found
        return found
