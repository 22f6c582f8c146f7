"""Real parts for tests: a nats-server of one's own, on a port of its own, in a directory of its own."""

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from actors._runtime.bus import NatsBus
from actors._runtime.identity import Identity
from actors._runtime.provision import Place, provision
from actors._runtime.server_files import STORE_KEY
from actors._runtime.supervisor import (
    nats_configuration,
    nats_environment,
    nats_server_path,
    port_is_free,
)
from actors.knowledge import Texts
from actors.rag import KnowledgeIndex

NODE = "n1"
PLACE = Place(NODE)


def free_port() -> int:
    """A loopback port that nobody listens on, below the range the kernel gives to outgoing connections."""
    while not port_is_free(port := random.randrange(15000, 30000)):
        pass
    return port


class Server:
    """A nats-server process on the shipped edge configuration, that tests may kill and start again."""

    def __init__(
        self,
        store: Path,
        under: Sequence[str] = (),
        *,
        configuration: Path | None = None,
        logs: Path | None = None,
        store_key: str = "",
    ) -> None:
        """``under`` is a command, such as strace, that runs the server it is given; ``logs`` a directory,
        beside the store when not given; with ``store_key`` the store is encrypted."""
        self.store = store
        self.under = under
        self.configuration = configuration or nats_configuration()
        self.logs = logs or store.parent
        self.store_key = store_key
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        environment = {**os.environ, **nats_environment(NODE, self.port, self.store)}
        environment[STORE_KEY] = f'"{self.store_key}"'
        log = (self.logs / f"nats-{self.port}.log").open("ab")
        self.process = subprocess.Popen(
            [*self.under, nats_server_path(), "-c", str(self.configuration)],
            env=environment,
            stderr=log,
            stdout=log,
        )
        log.close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        if self.process.poll() is None:
            self.kill()


@pytest.fixture(scope="session")
def shipped_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeIndex]:
    """The index of all that EVY ships. Building it takes seconds: nobody else builds one of every article."""
    index = KnowledgeIndex.open(tmp_path_factory.mktemp("index"), Texts.load())
    yield index
    index.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "nats")
    yield running
    running.stop()


@pytest.fixture
async def bus(server: Server) -> AsyncIterator[NatsBus]:
    """A connected bus on a fresh server with every stream, durable and bucket of the registry."""
    identity = Identity(NODE, b"secret of the tests", "0000")
    connected = await NatsBus.connect(identity, server.url, "test", wait_s=10)
    assert await provision(connected.js, PLACE) == []
    yield connected
    await connected.close()
    await asyncio.sleep(0)
