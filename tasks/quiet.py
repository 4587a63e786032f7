"""Takes out of Prefect's logs what would drown what a person looks for there."""

import logging

from prefect_simopt.errors import SimoptError

__all__ = ["hush"]


class _OftenRun(logging.Filter):
    """Leaves out the several task runs a second: the log tells of generations and failed trials."""

    def filter(self, record: logging.LogRecord) -> bool:
        ours = getattr(record, "task_name", "") in ("evaluate", "record", "report")
        return not ours or (record.levelno >= logging.WARNING and not record.msg.startswith("Task run failed with"))


class _AlreadySaid(logging.Filter):
    """Leaves out the traceback of an error that the flow run's final state has told in words."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], SimoptError))


def hush() -> None:
    """Do so, in this process; once is enough."""
    for name, each in (("prefect.task_runs", _OftenRun()), ("prefect.flow_runs", _AlreadySaid())):
        logger = logging.getLogger(name)
        if not any(isinstance(known, type(each)) for known in logger.filters):
            logger.addFilter(each)
