"""The pages for people: their links lead somewhere, and they name every key of a study."""

import re
from pathlib import Path

import pytest

from prefect_simopt.spec import StudySpec

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_key_of_a_study_is_described():
    text = (ROOT / "docs" / "study.md").read_text()
    assert [name for name in StudySpec.model_fields if f"{name}:" not in text] == []
