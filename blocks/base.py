"""What all our blocks have: where their logo and their page are."""

from prefect.blocks.core import Block
from pydantic import HttpUrl

__all__ = ["DOCUMENTATION", "LOGO", "Block"]

_HOME = "prefect-simopt/prefect-simopt"
LOGO = HttpUrl(f"https://raw.githubusercontent.com/{_HOME}/main/docs/logo.png")
DOCUMENTATION = HttpUrl(f"https://github.com/{_HOME}/blob/main/docs/prefect.md")
