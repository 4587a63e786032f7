"""A batch as an object of the store: all that a pod needs to run it, when it shares nothing with the flow but that.

It holds no credentials: whoever reads it has reached the store already.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import orjson

from prefect_simopt.errors import StoreError
from prefect_simopt.storage import Storage
from prefect_simopt.trial import Run

__all__ = ["FOLDER", "Assignment"]

FOLDER = "batches"


@dataclass(frozen=True)
class Assignment:
    """A batch, written down.

    Attributes:
        simulator: the spec's simulator as a document; its paths are relative to the folder that `code` holds.
        names: the space's parameters.
        required: metrics without which a run has failed.
        identity: of the simulator, as the flow knows it.
        code: name of the object that holds the simulator's files; empty when it has none.
        timeout: seconds after which a run is killed.
        capacity: trials that the study has room for.
        token: of the study's writer.
        runs: what is to be run.
        conditional: those of the parameters that some runs do not have, and whether they are numbers.
        slopes: those by which the required metrics are to be differentiated.
    """

    simulator: Mapping[str, Any]
    names: Sequence[str]
    required: Sequence[str]
    identity: str
    code: str
    timeout: float
    capacity: int
    token: str
    runs: Sequence[Run]
    conditional: Mapping[str, bool] = field(default_factory=dict)
    slopes: Sequence[str] = ()

    def write(self, storage: Storage) -> str:
        """Write it, and return its key.

        Raises:
            StoreError: the store cannot be written.
        """
        trials = [run.trial for run in self.runs]
        key = f"{FOLDER}/{min(trials):08d}-{max(trials):08d}-{secrets.token_hex(6)}.json"
        storage.write(key, orjson.dumps(asdict(self)))
        return key

    @classmethod
    def read(cls, storage: Storage, key: str) -> Self:
        """The inverse of `write`.

        Raises:
            StoreError: there is none, or it is damaged: the flow that wrote it does not want it any more.
        """
        data = storage.read(key)
        try:
            document = orjson.loads(data or b"")
        except orjson.JSONDecodeError:
            raise StoreError(f"{storage.url}/{key} is missing or damaged: its flow does not want it any more") from None
        return cls(**{**document, "runs": [Run(**run) for run in document["runs"]]})
