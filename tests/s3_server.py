"""A real S3 server, for all tests that need one."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

__all__ = ["S3Server"]

SERVER = "versitygw"
HOW = (
    f"the S3 server `{SERVER}` is missing. Build it with `CGO_ENABLED=0 go install "
    "github.com/versity/versitygw/cmd/versitygw@v1.8.0`, and put it on the PATH or name it in SIMOPT_S3_SERVER. "
    "To leave these tests out: pytest -m 'not s3'."
)


class S3Server:
    """A real S3 server on a port of its own, on loopback by default, which tests may kill and start again."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        cached = Path.home() / ".cache/test-cluster/bin" / SERVER
        found = os.environ.get("SIMOPT_S3_SERVER") or shutil.which(SERVER) or str(cached)
        if not Path(found).exists():
            pytest.fail(HOW)
        self.binary, self.folder, self.host = found, folder, host
        (folder / "lab").mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind((host, 0))
            self.port = probe.getsockname()[1]
        self.options = {
            "key": "test",
            "secret": "testsecret",
            "endpoint_url": f"http://{host}:{self.port}",
            "retry_seconds": 20,
        }
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "ROOT_ACCESS_KEY": "test", "ROOT_SECRET_KEY": "testsecret"}
        command = [self.binary, "--quiet", "--port", f"{self.host}:{self.port}", "posix", str(self.folder)]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex((self.host, self.port)) == 0:
                    return
            time.sleep(0.02)
        pytest.fail(f"{self.binary} does not listen on port {self.port}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
