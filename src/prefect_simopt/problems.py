"""From pydantic's validation errors to sentences that name the place, the value and what would be right."""

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from prefect_simopt.errors import Problem

__all__ = ["problems_of", "wrong_at"]

_SHOWN = 80  # characters of an offending value


def wrong_at(place: str, message: str) -> PydanticCustomError:
    """An error for a validator to raise, about a place below the one that is being validated."""
    return PydanticCustomError("at", "{message}", {"message": message, "at": place})


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Every problem of a validation error of `model`, in the document's order, each place once."""
    problems: dict[str, Problem] = {}
    for details in error.errors(include_url=False):
        path, owner = _place(details, model)
        problem = Problem(path, _sentence(details, owner), _shown(details))
        if (first := problems.get(path)) is not None:  # the branches of a plain union
            also = problem.message.removeprefix("must be ")
            if also in first.message:
                continue
            problem = Problem(path, f"{first.message}, or {also}", first.value or problem.value)
        problems[path] = problem
    return list(problems.values())


def _place(details: ErrorDetails, model: type[BaseModel]) -> tuple[str, type[BaseModel] | None]:
    """The path as in the file, without the tags of unions, and the model that owns its last key."""
    path, owner, candidates = "", None, [model]
    for key in details["loc"]:
        if isinstance(key, int):
            path += f"[{key}]"
            continue
        tagged = [each for each in candidates if _tag(each) == key]
        if len(candidates) > 1 and tagged:
            candidates = tagged
            continue
        if not candidates and key in ("bool", "int", "float", "str", "list", "dict", "constrained-str"):
            continue  # the branch of a plain union
        if key.startswith(("literal[", "function-", "constrained-", "int", "json-")) and not candidates:
            continue
        owner = candidates[0] if candidates else None
        path += f".{key}" if path else key
        found = owner.model_fields.get(key) if owner else None
        candidates = _models(found.annotation) if found else []
    below = "type" if details["type"] == "union_tag_invalid" else str(details.get("ctx", {}).get("at", ""))
    if below:
        path += f".{below}" if path and not below.startswith("[") else below
    return path, owner


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation allows, through lists, unions and `Annotated`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _tag(model: type[BaseModel]) -> Any:
    found = model.model_fields.get("type")
    return found.default if found else None


def _sentence(details: ErrorDetails, owner: type[BaseModel] | None) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        key = str(details["loc"][-1])
        known = list(owner.model_fields) if owner else []
        close = difflib.get_close_matches(key, known, 1)
        return f"unknown key; did you mean {close[0]!r}?" if close else f"unknown key; known here: {', '.join(known)}"
    if kind == "missing":
        found = owner.model_fields.get(str(details["loc"][-1])) if owner else None
        return f"is missing: {found.description}" if found and found.description else "is missing"
    if kind in ("union_tag_invalid", "literal_error"):
        expected = str(context.get("expected_tags") or context.get("expected"))
        given = str(context.get("tag") or details["input"])
        close = difflib.get_close_matches(
            given, [tag.strip("' ") for tag in expected.replace(" or ", ",").split(",")], 1
        )
        return f"must be one of {expected}" + (f"; did you mean {close[0]!r}?" if close else "")
    if kind == "union_tag_not_found" and isinstance(details["input"], dict):
        return "needs a key `type`, which says what it is"
    if kind in ("model_type", "model_attributes_type", "dict_type", "union_tag_not_found"):
        return "must be a mapping of keys to values"
    if kind == "list_type":
        return f"must be a list: [{details['input']}]" if isinstance(details["input"], str) else "must be a list"
    if kind == "string_pattern_mismatch" and owner and (found := owner.model_fields.get(str(details["loc"][-1]))):
        return f"does not fit: {found.description}"
    if kind == "too_short":
        return f"needs at least {context['min_length']}, has {context['actual_length']}"
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message.replace("Input should", "must").replace(
        "valid integer, got a number with a fractional part", "whole number"
    )


def _shown(details: ErrorDetails) -> str:
    if details["type"] == "union_tag_invalid":
        return repr(details["ctx"]["tag"])
    if details["type"] in ("missing", "at") or isinstance(details["input"], BaseModel | dict | list):
        return ""
    text = repr(details["input"])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
