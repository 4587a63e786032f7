"""What a study wants of its metrics, in words."""

from collections.abc import Mapping
from typing import Any

__all__ = ["wanted"]


def wanted(spec: Mapping[str, Any]) -> dict[str, str]:
    """What is wanted of each metric that counts, as in `minimize, target 0.002` or `at least 1, at most 5`.

    Args:
        spec: the question as a document.
    """
    wishes: dict[str, list[str]] = {}
    for each in spec["objectives"]:
        wishes[each["metric"]] = [each["direction"], *_limits(each, target="target")]
    for each in spec.get("constraints", ()):
        wishes.setdefault(each["metric"], []).extend(_limits(each, low="at least", high="at most"))
    return {metric: ", ".join(words) for metric, words in wishes.items()}


def _limits(document: Mapping[str, Any], **words: str) -> list[str]:
    return [f"{word} {document[key]:g}" for key, word in words.items() if document.get(key) is not None]
