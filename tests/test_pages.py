"""The pages for people: their links lead somewhere, and they name every key of a study."""

import json
import re
import shlex
from pathlib import Path

import pytest

from prefect_simopt.cli import main
from prefect_simopt.compute_config import LocalComputeConfig, WorkPoolComputeConfig
from prefect_simopt.optimizers.make import ENGINES
from prefect_simopt.spec import StudySpec

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_key_of_a_study_is_described():
    text = (ROOT / "docs" / "study.md").read_text()
    assert [name for name in StudySpec.model_fields if f"{name}:" not in text] == []


@pytest.mark.parametrize("config", [LocalComputeConfig, WorkPoolComputeConfig])
def test_every_key_of_compute_is_described(config):
    text = (ROOT / "docs" / "study.md").read_text()
    assert [name for name in config.model_fields if f"\n  {name}:" not in text] == []


@pytest.mark.parametrize("name", ENGINES)
def test_every_optimizer_is_described_with_its_parameters(name):
    """On a page of its own with its picture, or, where there is nothing to draw, among all of them."""
    everyone = (ROOT / "docs/optimizers.md").read_text()
    page = ROOT / "docs/optimizers" / f"{name}.md"
    text = page.read_text() if page.exists() else everyone
    fields = {f"`{field}`" for field in ENGINES[name].config_type.model_fields if field not in ("type", "points")}
    assert [field for field in fields if field not in text] == []
    assert f"`{name}`" in everyone
    if page.exists():
        assert f"](optimizers/{name}.md)" in everyone
        assert f"images/optimizers/{name}.svg" in text


@pytest.mark.parametrize("page", ["optimizers.md", "optimizers/gradient.md"])
def test_examples_of_optimizers_run(page):
    code = "\n".join(blocks(page, "python"))
    assert code
    exec(compile(code, page, "exec"), {"__name__": "__main__"})


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def test_steering_does_what_its_page_shows(tmp_path, monkeypatch, capsys):
    """The commands, on a study of that name, and the Python."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "points.csv").write_text("x,y\n0.5,0.5\n1.5,-0.5\n")
    spec = {"name": "bowl", "simulator": {"entrypoint": "bowl.py:bowl"}, "budget": {"trials": 20}, "optimizer": "pso",
            "space": [{"name": name, "low": -5, "high": 5} for name in "xy"]}  # fmt: skip
    (tmp_path / "study.yaml").write_text(json.dumps(spec))
    (tmp_path / "bowl.py").write_text("def bowl(x, y):\n    return x**2 + y**2\n")
    assert main(["run", "study.yaml", "--untracked"]) == 0
    for line in blocks("steering.md", "sh")[0].splitlines():
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
    assert main(["run", "study.yaml", "--untracked", "--json"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown.splitlines()[-1])["trials"]["total"] == 400
    (code,) = blocks("steering.md", "python")
    exec(compile(code, "steering.md", "exec"), {"__name__": "__main__"})
