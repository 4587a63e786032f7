"""How the models of the spec look as a form in Prefect's UI, which is drawn from their JSON schema."""

from typing import Any

from pydantic import ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema

__all__ = ["MODEL", "Tabs"]


def _summarize(schema: dict[str, Any]) -> None:
    """Of a docstring a form shows the first paragraph."""
    if "description" in schema:
        schema["description"] = schema["description"].partition("\n\n")[0]


MODEL = ConfigDict(hide_input_in_errors=True, extra="forbid", frozen=True, json_schema_extra=_summarize)
"""The configuration of all models of the spec."""


class Tabs:
    """Marks a union as one that a form shows as tabs: with `oneOf` and a discriminator, some forms show only text."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        document = handler(schema)
        document.pop("discriminator", None)
        if "oneOf" in document:
            document["anyOf"] = document.pop("oneOf")
        return document
