"""What Optuna's samplers note with trials, as plain values that may be kept in a store.

Most of it is JSON. `CmaEsSampler` alone notes its whole search, pickled; here it is taken apart into numbers and arrays
and only ever pickled again within the process, since nothing that comes out of a store is unpickled.
"""

import pickle
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["pack", "unpack"]

_PICKLED = re.compile(r"(\w+:optimizer):(\d+)")
_PASSING = re.compile(r"\w+:relative_params:\d+")  # said again by the trial's parameters
_PLAIN = (bool, int, float, str, type(None), np.ndarray)


def unpack(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of a trial's system attributes.

    Raises:
        TypeError: a search holds more than numbers and arrays.
    """
    pieces = {int(match[2]): name for name in attributes if (match := _PICKLED.fullmatch(name))}
    kept = {name: each for name, each in attributes.items()
            if name not in pieces.values() and not _PASSING.fullmatch(name)}  # fmt: skip
    if pieces:
        text = "".join(attributes[pieces[i]] for i in sorted(pieces))
        search = pickle.loads(bytes.fromhex(text))  # noqa: S301 - by Optuna, in this process, a moment ago
        state = {name: each.item() if isinstance(each, np.generic) else each
                 for name, each in search.__getstate__().items()}  # fmt: skip
        for name, each in state.items():
            if not isinstance(each, _PLAIN):
                raise TypeError(f"the search of {type(search).__name__} holds {name} of type {type(each).__name__}")
        if "_funhist_values" in state:  # for stopping, which Optuna leaves alone; as yet unused entries are any bytes
            state["_funhist_values"] = np.zeros_like(state["_funhist_values"])
        key = pieces[0].rpartition(":")[0]
        kept["search"] = {"key": key, "class": type(search).__name__, "state": state}
    return kept


def pack(notes: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `unpack`."""
    attributes = {name: each for name, each in notes.items() if name != "search"}
    if (noted := notes.get("search")) is not None:
        import cmaes

        kind = {"CMA": cmaes.CMA, "SepCMA": cmaes.SepCMA}[noted["class"]]
        search = kind.__new__(kind)
        search.__setstate__(dict(noted["state"]))
        attributes[f"{noted['key']}:0"] = pickle.dumps(search).hex()
    return attributes
