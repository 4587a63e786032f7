"""A supervisor and its flow, without any host."""

import socket

from prefect_simopt.simulators.supervisor import Supervisor


def test_a_supervisor_whose_flow_fell_behind_rests_once_everything_is_read():
    flow, its = socket.socketpair()
    with flow, its:
        supervisor = Supervisor(its)
        supervisor._report({"done": ["x" * (1 << 22)]})
        assert supervisor._flow.unsent
        while supervisor._flow.unsent:
            flow.recv(1 << 20)
            for key, _ in supervisor._selector.select(10.0):
                key.data()
        assert supervisor._selector.select(0.0) == []
