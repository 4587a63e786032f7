"""From the name of a block in a study spec to what it stands for."""

from typing import TYPE_CHECKING, Any, cast

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.spec import StoreConfig, StudySpec

if TYPE_CHECKING:
    from prefect_simopt.blocks.store import StudyStore

__all__ = ["resolve_store", "store_options"]


def resolve_store(spec: StudySpec) -> tuple[StudySpec, dict[str, Any]]:
    """The spec with its store's address, and the storage options, which are in no spec.

    Raises:
        SpecError: there is no block of the name that the spec gives.
    """
    name = spec.store.block
    if name is None:
        return spec, {}
    block = _load(name)
    return spec.model_copy(update={"store": StoreConfig(url=block.url, block=name)}), block.options()


def store_options(name: str | None) -> dict[str, Any]:
    """How to reach the store of a StudyStore block, secrets included; nothing where no block is named.

    Raises:
        SpecError: there is no block of the name.
    """
    return {} if name is None else _load(name).options()


def _load(name: str) -> "StudyStore":
    from prefect_simopt.blocks.store import StudyStore  # it brings prefect-aws along, which takes a second

    try:
        return cast("StudyStore", StudyStore.load(name))
    except ValueError:
        way_out = "create it in Prefect's UI under Blocks, or in Python: StudyStore(url=...).save(name)"
        raise SpecError(
            [Problem("store.block", f"there is no StudyStore block of this name; {way_out}", name)]
        ) from None
