"""The capture sees every byte on a cable: what was said, in order, across packets."""

import random
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.scenarios.capture import Capture, packets, seen, streams
from tests.scenarios.hosts import Host, Hosts

PORT = 7000


def say(host: Host, other: Host, pieces: list[bytes]) -> None:
    """One connection from ``host``, each piece sent by itself and answered by its length."""
    with other.inside():
        server = socket.create_server((other.address, PORT))
    with host.inside():
        connection = socket.socket()
    server.settimeout(20)

    def answer() -> None:
        accepted, _ = server.accept()
        with accepted:
            for piece in pieces:
                got = b""
                while len(got) < len(piece):
                    got += accepted.recv(65536)
                accepted.sendall(b"got %d\n" % len(got))

    answering = threading.Thread(target=answer)
    with server, connection:
        answering.start()
        connection.settimeout(20)
        connection.connect((other.address, PORT))
        for piece in pieces:
            connection.sendall(piece)
            assert connection.recv(100).startswith(b"got")
        answering.join()


def test_sees_what_was_said_both_ways_and_nothing_after_the_end(hosts: Hosts, tmp_path: Path) -> None:
    edge, hub = hosts["edge1"], hosts["hub1"]
    bulk = random.Random(5).randbytes(300_000)
    with Capture(edge, tmp_path / "leaf.pcap") as capture:
        say(edge, hub, [b"a canary is divi", b"ded between packets", bulk])
    say(edge, hub, [b"after the end"])
    told = streams(tmp_path / "leaf.pcap")
    up = next(said for flow, said in told.items() if flow.target == hub.address)
    down = next(said for flow, said in told.items() if flow.source == hub.address)
    assert up == b"a canary is divided between packets" + bulk
    assert down == b"got 16\ngot 19\ngot 300000\n"
    assert capture.packets == len(list(packets(tmp_path / "leaf.pcap")))
    assert not any(b"divided" in frame for frame in packets(tmp_path / "leaf.pcap"))
    assert seen(tmp_path / "leaf.pcap", b"divided")
    assert not seen(tmp_path / "leaf.pcap", b"after the end")


def test_sees_its_own_cable_only(hosts: Hosts, tmp_path: Path) -> None:
    with Capture(hosts["edge2"], tmp_path / "leaf.pcap"):
        say(hosts["edge1"], hosts["hub1"], [b"for hub1"])
        say(hosts["edge2"], hosts["hub1"], [b"from edge2"])
    assert seen(tmp_path / "leaf.pcap", b"from edge2")
    assert not seen(tmp_path / "leaf.pcap", b"for hub1")


def test_tcpdump_can_read_it(hosts: Hosts, tmp_path: Path) -> None:
    if not shutil.which("tcpdump"):
        pytest.skip("no tcpdump: `make setup-ops` installs it")
    with Capture(hosts["edge1"], tmp_path / "leaf.pcap"):
        say(hosts["edge1"], hosts["hub1"], [b"hello"])
    shown = subprocess.run(
        ["tcpdump", "-nr", str(tmp_path / "leaf.pcap"), "tcp"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{hosts['hub1'].address}.{PORT}: Flags [S]" in shown.stdout


def test_a_file_that_is_no_capture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="no pcap file"):
        list(packets(tmp_path / "text"))
