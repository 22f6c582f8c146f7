"""The hosts of the scenarios do what they say: real namespaces, real packets."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.hosts import NAMES, Host, Hosts, purge, why_not

ROOT = Path(__file__).parents[2]
PORT = 7000

ECHO = """
import socket, sys, threading
def serve(connection):
    while octets := connection.recv(65536):
        connection.sendall(octets)
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()
"""


@contextlib.contextmanager
def echo(host: Host, address: str | None = None) -> Iterator[None]:
    command = [sys.executable, "-c", ECHO, address or host.address, str(PORT)]
    with host.popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def dialled(host: Host, other: Host, timeout_s: float = 10) -> Iterator[socket.socket]:
    with host.inside():
        connection = socket.socket()
    connection.settimeout(timeout_s)
    with connection:
        connection.connect((other.address, PORT))
        yield connection


def asks(connection: socket.socket, octets: bytes) -> bytes:
    connection.sendall(octets)
    got = b""
    while len(got) < len(octets):
        got += connection.recv(65536)
    return got


def test_every_host_reaches_every_other_and_nothing_else(hosts: Hosts) -> None:
    assert [host.name for host in hosts] == list(NAMES)
    with echo(hosts["hub1"]):
        for name in ("edge1", "edge2", "hub2", "hub3"):
            with dialled(hosts[name], hosts["hub1"]) as connection:
                assert asks(connection, b"hello") == b"hello"
                assert connection.getsockname()[0] == hosts[name].address
    here = subprocess.run(["ip", "address"], capture_output=True, text=True, check=True).stdout
    assert hosts["hub1"].address not in here
    with hosts["edge1"].inside(), socket.socket() as outwards, pytest.raises(OSError, match="unreachable"):
        outwards.connect(("192.0.2.1", 80))


def test_an_unplugged_cable_loses_packets_and_keeps_connections(hosts: Hosts) -> None:
    with echo(hosts["hub1"]), dialled(hosts["edge1"], hosts["hub1"]) as connection:
        assert asks(connection, b"before") == b"before"
        hosts["edge1"].unplug()
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            asks(connection, b"during")
        hosts["edge1"].plug()
        connection.settimeout(10)
        assert connection.recv(100) == b"during"


def test_a_split_parts_two_groups_only(hosts: Hosts) -> None:
    with echo(hosts["hub1"]), dialled(hosts["edge1"], hosts["hub1"]) as connection:
        hosts.part(["edge1"], ["hub1", "hub2"])
        with pytest.raises(TimeoutError), dialled(hosts["edge1"], hosts["hub1"], 0.3):
            pass
        with dialled(hosts["edge2"], hosts["hub1"]) as other:
            assert asks(other, b"not parted") == b"not parted"
        hosts.heal(["edge1"], ["hub1", "hub2"])
        assert asks(connection, b"stands") == b"stands"


def test_the_kernel_limits_the_rate_until_it_is_taken_off(hosts: Hosts) -> None:
    edge = hosts["edge1"]
    with echo(hosts["hub1"]), dialled(edge, hosts["hub1"]) as connection:
        edge.rate(100_000)
        started = time.monotonic()
        assert asks(connection, bytes(60_000)) == bytes(60_000)
        # The first of it passes at once: the bucket, and what the kernel rounds.
        assert time.monotonic() - started >= 0.4
        edge.rate(None)
        assert asks(connection, bytes(60_000)) == bytes(60_000)
        shown = edge.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout
        assert "tbf" not in shown


async def test_a_door_leads_from_the_tests_network_into_a_host(hosts: Hosts) -> None:
    with echo(hosts["hub1"], "127.0.0.1"):
        async with hosts["hub1"].door(PORT) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"knock")
            writer.write_eof()
            async with asyncio.timeout(10):
                assert await reader.read() == b"knock"
            writer.close()


def test_ends_leave_no_namespace_and_no_process() -> None:
    if reason := why_not():
        pytest.skip(reason)
    with contextlib.suppress(ZeroDivisionError), Hosts(["edge1"]) as hosts:
        process = hosts["edge1"].popen([sys.executable, "-c", "import time; time.sleep(600)"])
        raise ZeroDivisionError
    assert process.returncode == -9
    assert not [path for path in Path("/run/netns").iterdir() if f"evy-{os.getpid()}-" in path.name]


def test_what_a_killed_run_left_is_purged() -> None:
    if reason := why_not():
        pytest.skip(reason)
    program = (
        "from tests.scenarios.hosts import Hosts\n"
        "with Hosts(['edge1']) as hosts:\n"
        "    hosts['edge1'].popen(['sh', '-c', 'echo; sleep 600'], stdout=-1).stdout.readline()\n"
        "    print(hosts['edge1'].namespace, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as run:
        assert run.stdout is not None
        namespace = run.stdout.readline().decode().strip()
        assert namespace not in purge()  # it lives
        run.kill()
        run.wait()
        assert namespace in purge()
    assert purge() == []
