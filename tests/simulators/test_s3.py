"""Outcomes and fields on a real S3 server: its client has threads, so that hosts are not forked once it is open."""

import pytest
from s3_server import S3Server

from prefect_simopt.outcomes import FOLDER, decode_outcomes
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Reason, Run

pytestmark = pytest.mark.s3

SOURCE = """
import os
import numpy as np
from prefect_simopt.simulators.contract import Result
def simulate(x):
    print("x is", x)
    if x > 1:
        os._exit(4)
    return Result({"value": x}, {"f": np.full(3, x)})
"""


def test_a_host_that_dies_is_replaced(place, tmp_path_factory):
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        compute = place.start(place.python(SOURCE))
        location = StudyLocation("s3://lab/study", server.options)
        compute.attach(location, 10)
        outcomes = []
        for trial, x in enumerate([0.5, 2.0, 0.25, 3.0, 0.75]):
            outcomes += compute.submit([Run(trial, {"x": x}, seed=1)]).result(60)
        assert [outcome.reason for outcome in outcomes] == [None, Reason.EXIT, None, Reason.EXIT, None]
        storage = location.storage()
        found = [decode_outcomes(storage.read(f"{FOLDER}/{name}"))[0] for name in storage.names(FOLDER)]
        assert sorted((each for group in found for each in group), key=lambda each: each.trial) == outcomes
        assert storage.read("logs/00000001-0-0.txt") == b"x is 2.0\n"
        assert storage.read("fields/f/c/4/0")
        compute.close()
    finally:
        server.kill()
