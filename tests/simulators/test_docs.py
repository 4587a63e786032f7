"""Every example of the pages on simulators, studies and fidelity is complete, and runs."""

import re
from pathlib import Path

import pytest

from prefect_simopt.specfile import load_spec
from prefect_simopt.trial import Run, Status

PAGES = [Path(__file__).parents[2] / "docs" / name for name in ("simulators.md", "study.md", "fidelity.md")]


def examples():
    """The files of each example: blocks up to and with a study.yaml, named by their first line."""
    files = {}
    text = "".join(page.read_text() for page in PAGES)
    for block in re.findall(r"```[a-z]*\n(# [^\n]+\n.*?)```", text, re.DOTALL):
        name = block.split("\n", 1)[0].removeprefix("# ")
        files[name] = block.split("\n", 1)[1]
        if name == "study.yaml":
            yield dict(files)
            files.clear()


@pytest.mark.parametrize("files", list(examples()), ids=lambda files: next(iter(files)))
def test_an_example_runs(place, files):
    for name, text in files.items():
        (place.path / name).write_text(text)
    spec = load_spec(place.path / "study.yaml")
    space = spec.make_space()
    required = [each.metric for each in [*spec.objectives, *spec.constraints]]
    compute = place.start(
        spec.simulator, names=spec.keywords, conditional=spec.conditional, required_metrics=required, slopes=spec.slopes
    )
    points = space.decode([[x] * space.dimensions for x in (0.2, 0.6)])
    if spec.fidelity is not None:
        points = [point | {spec.fidelity.name: spec.fidelity.keyword(spec.fidelity.high)} for point in points]
    outcomes = compute.submit([Run(row, point, seed=row, row=row) for row, point in enumerate(points)]).result(60)
    assert [outcome.status for outcome in outcomes] == [Status.COMPLETE] * 2, outcomes
    assert all(list(outcome.gradients) == (required if spec.slopes else []) for outcome in outcomes)


def test_there_are_examples():
    assert len(list(examples())) >= 7
