"""From the name of a block in a study spec to what it stands for."""

from typing import Any, cast

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.spec import StoreConfig, StudySpec

__all__ = ["resolve_store"]


def resolve_store(spec: StudySpec) -> tuple[StudySpec, dict[str, Any]]:
    """The spec with its store's address, and the storage options, which are in no spec.

    Raises:
        SpecError: there is no block of the name that the spec gives.
    """
    name = spec.store.block
    if name is None:
        return spec, {}
    from prefect_simopt.blocks.store import StudyStore  # it brings prefect-aws along, which takes a second

    try:
        block = cast("StudyStore", StudyStore.load(name))
    except ValueError:
        way_out = "create it in Prefect's UI under Blocks, or in Python: StudyStore(url=...).save(name)"
        raise SpecError(
            [Problem("store.block", f"there is no StudyStore block of this name; {way_out}", name)]
        ) from None
    return spec.model_copy(update={"store": StoreConfig(url=block.url, block=name)}), block.options()
