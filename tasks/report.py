"""The task that says what a study found."""

from collections.abc import Mapping
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from prefect_simopt.report.front import front_of
from prefect_simopt.report.wanted import wanted
from prefect_simopt.study import Study
from prefect_simopt.summary import sentence, summarize
from prefect_simopt.tasks.artifacts import Board

__all__ = ["report"]


@task(
    task_run_name="report",
    retries=2,
    retry_delay_seconds=[1, 5],
    cache_policy=NO_CACHE,
    persist_result=False,
)
def report(study: Study, board: Board) -> dict[str, Any]:
    """Bring the artifacts up to date for the last time, and write the report.

    Args:
        study: as it ended.
        board: what was shown while it ran.

    Returns:
        The summary, as `simopt run --json` prints it.
    """
    summary = summarize(study)
    with get_client(sync_client=True) as client:
        board.publish(client, done=summary["state"] in ("complete", "failed"))
        board.write_report(client, _markdown(study, summary))
    return summary


def _markdown(study: Study, summary: Mapping[str, Any]) -> str:
    parts = [f"# {study.name}", sentence(dict(summary)) + "."]
    if summary["state"] == "failed":
        parts.append(f"**Failed**: {study.verdict}")
    if (best := summary["best"]) is not None:
        units = {each["name"]: each.get("unit") or "" for each in study.spec["space"]}
        rows = [
            f"| {_cell(name)} | {_number(value)} | {_cell(units[name])} |" for name, value in best["parameters"].items()
        ]
        parts.append(
            f"## Best: trial {best['trial']}\n\n| parameter | value | unit |\n|---|---|---|\n" + "\n".join(rows)
        )
        aims = wanted(study.spec)
        rows = [
            f"| {_cell(name)} | {_number(value)} | {aims.get(name, '')} |" for name, value in best["metrics"].items()
        ]
        parts.append("| metric | value | wanted |\n|---|---|---|\n" + "\n".join(rows))
    if (front := front_of(study)) is not None:
        parts.append(f"## Front\n\n{len(front.trials)} trials that no other one dominates; {front.sentence()}.")
    where = study.url
    parts.append(
        "## Where it is\n\n"
        f"- the study: `{where}`\n- on the command line: `simopt show {where}`\n"
        f'- in Python: `xarray.open_zarr("{where}")`, or `prefect_simopt.load_study("{where}")`\n'
        f"- fingerprint: `{summary['fingerprint']}`"
    )
    return "\n\n".join(parts) + "\n"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _cell(str(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
