"""TLS between edge and centre, and the encrypted store, on real servers."""

import asyncio
import datetime as dt
import json
import socket
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from actors._runtime.bus import NatsBus
from actors._runtime.certificates import BEGIN, NO_END, create_ca, create_certificate
from actors._runtime.identity import Identity
from actors._runtime.provision import Place, provision
from actors._runtime.server_files import (
    STORE_KEY,
    Bundle,
    create_store_key,
    join,
    settings,
)
from tests.conftest import free_port
from tests.linked import Linked, Machine

pytestmark = pytest.mark.nats


async def says(machine: Machine, words: str) -> None:
    """Waits until a server's log has these words."""
    async with asyncio.timeout(20):
        while not machine.log.exists() or words not in machine.log.read_text():
            await asyncio.sleep(0.05)


def stop_all(linked: Linked) -> None:
    for machine in linked.machines:
        machine.stop()


async def test_an_edge_refuses_a_centre_that_its_authority_does_not_know(tmp_path: Path) -> None:
    linked = Linked(tmp_path, edges=("e1",))
    other_ca, _ = create_ca("somebody else")
    join(
        tmp_path / "e1" / "server",
        msgspec.structs.replace(linked.bundles["e1"], ca=other_ca),
        port=linked.edges["e1"].port,
    )
    try:
        for machine in linked.machines:
            machine.start()
        await says(linked.edges["e1"], "certificate signed by unknown authority")
        await says(linked.hubs["hub1"], "tls: bad certificate")
    finally:
        stop_all(linked)


@pytest.mark.parametrize(
    ("hosts", "until", "reason"),
    [
        (["127.0.0.1"], dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "certificate has expired"),
        (["centre.example.org"], NO_END, "doesn't contain any IP SANs"),
    ],
)
async def test_an_edge_refuses_a_certificate_that_ended_or_is_another_hosts(
    tmp_path: Path, hosts: list[str], until: dt.datetime, reason: str
) -> None:
    linked = Linked(tmp_path, edges=("e1",))
    bundle = linked.authority.server_bundle("hub1")
    assert bundle.hub
    keys = tmp_path / "keys"
    made = create_certificate(
        (keys / "ca.pem").read_text(), (keys / "ca.key").read_text(), "hub1", hosts, until
    )
    hub = msgspec.structs.replace(bundle.hub, certificate=made[0], certificate_key=made[1])
    join(tmp_path / "hub1" / "server", msgspec.structs.replace(bundle, hub=hub))
    try:
        for machine in linked.machines:
            machine.start()
        await says(linked.edges["e1"], reason)
    finally:
        stop_all(linked)


def test_certificates_hold_for_a_machine_that_believes_it_is_1970(tmp_path: Path) -> None:
    linked = Linked(tmp_path, edges=())
    for file in ("ca.pem", "server.pem"):
        read = x509.load_pem_x509_certificate((tmp_path / "hub1" / "server" / file).read_bytes())
        assert (read.not_valid_before_utc, read.not_valid_after_utc) == (BEGIN, NO_END)
        assert BEGIN.timestamp() == 0
    assert linked.authority.state.edges == {}


async def test_nothing_is_said_in_the_clear(tmp_path: Path) -> None:
    linked = Linked(tmp_path, edges=())
    hub = linked.hubs["hub1"]
    try:
        hub.start()
        await says(hub, "Server is ready")
        server = linked.authority.state.servers[0]
        for port in (server.client_port, server.leaf_port):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
                stream = raw.makefile("rb")
                info = json.loads(stream.readline().removeprefix(b"INFO "))
                assert info["tls_required"]
                raw.sendall(b'CONNECT {"verbose":true,"pedantic":false}\r\nPING\r\n')
                assert b"PONG" not in stream.read()  # to the end: the server hangs up
    finally:
        hub.stop()


async def test_the_store_is_encrypted_with_a_key_that_is_not_in_it(tmp_path: Path) -> None:
    key = tmp_path / "stick.key"
    create_store_key(key)
    bundle = Bundle(1, "lilevy", "e1", "")
    port = free_port()
    directory = tmp_path / "e1" / "server"
    machine = Machine(join(directory, bundle, port=port), port)
    text = b"my leg is broken, Elm Street 4"
    try:
        machine.start()
        bus = await NatsBus.connect(Identity("e1", b"", ""), machine.url, "test", wait_s=10)
        await provision(bus.js, Place("e1"))
        await bus.js.publish("sms.in.flash", text)
        await bus.close()
        machine.stop()
        assert in_files(
            tmp_path / "e1" / "nats", text
        )  # in the clear: so the search below can find something

        join(directory, bundle, port=port, store_key_file=key)
        installed = settings(directory)
        assert installed
        machine.environment = {STORE_KEY: installed.store_key()}
        machine.start()
        bus = await NatsBus.connect(Identity("e1", b"", ""), machine.url, "test", wait_s=10)
        assert (await bus.js.get_last_msg("FLASH_e1", "sms.in.flash")).data == text
        await bus.js.publish("sms.in.flash", text + b"!")
        await bus.close()
        machine.stop()
        assert not in_files(tmp_path / "e1" / "nats", text)
    finally:
        machine.stop()


def in_files(directory: Path, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in directory.rglob("*") if path.is_file())
