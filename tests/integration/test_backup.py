"""`evy backup` and `evy restore`: a node on a real server, packed at work, and again on an empty machine."""

import asyncio
import gzip
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pyrage
import pytest

from actors._cli.backup import back_up, next_name, rotate
from actors._cli.restore import RestoreError, restore_node
from actors._runtime.actor import Output
from actors._runtime.archive import ArchiveError, verify
from actors._runtime.bus import NatsBus
from actors._runtime.clock import deadline_in
from actors._runtime.config import Config, load_config
from actors._runtime.identity import load_identity
from actors._runtime.own_server import own_server
from actors._runtime.provision import Place, provision, provision_edge
from actors._runtime.snapshot import in_order
from actors._runtime.sources import Sources
from subjects import names
from subjects.errors import ConfigError
from subjects.messages import OutboundSms, Query
from tests.conftest import free_port
from tests.linked import Linked, holds, reaches_centre, running
from tests.scenarios.disks import small_disk, why_not

pytestmark = pytest.mark.nats

NODE = "valley-1"
NUMBER = "+491711234567"


def configured(directory: Path, **more: object) -> Config:
    """A node's `evy.toml` in a directory, its data beside it."""
    directory.mkdir(exist_ok=True)
    path = directory / "evy.toml"
    table = {"name": NODE, "data_dir": str(directory / "data"), "nats_port": free_port(), **more}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    contacts = directory / "contacts.toml"
    path.write_text("\n".join(["[node]", *lines, "[alert]", f'contacts = "{contacts}"', ""]))
    contacts.write_text('[[contacts]]\nname = "Ana"\nnumber = "+15550199"\n')
    (directory / "data").mkdir(exist_ok=True)
    return load_config(path)


@asynccontextmanager
async def alive(config: Config) -> AsyncIterator[NatsBus]:
    """The node's server, where its configuration says that it is."""
    directory = config.node.directory
    async with own_server(NODE, directory / "nats", "", directory / "nats-server.log") as bus:
        await provision(bus.js, Place(NODE))
        yield bus


def reply(config: Config, serial: str) -> Output:
    identity = load_identity(NODE, config.node.directory)
    out = OutboundSms(
        query_id=serial * 32,
        node=NODE,
        text="boil it",
        lang="en",
        lane="routine",
        step="verbatim",
        sender_ref=identity.sender_ref(NUMBER),
    )
    return Output(names.SMS_OUT, "routine", out, out.query_id)


async def lived_in(config: Config, bus: NatsBus) -> None:
    """What a node has after a while: people, a ledger, work that waits, a database, an operator's file."""
    identity = load_identity(NODE, config.node.directory)
    ref = identity.sender_ref(NUMBER)
    for number in range(50):
        await (await bus.bucket("numbers")).put(f"{number:020x}", b"+1555%04d" % number)
    await (await bus.bucket("numbers")).put(ref, NUMBER.encode())
    await (await bus.bucket("numbers")).delete(f"{7:020x}")
    await (await bus.bucket("consent")).put(ref, b'{"stopped":true}')
    await (await bus.bucket("ledger")).create(f"{'1' * 32}.reply.1", b'{"state":"SUBMITTED"}')
    for serial in "12":
        await bus.publish(reply(config, serial), "test")
    with sqlite3.connect(config.node.directory / "events.db") as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE events (kind TEXT)")
        database.execute("INSERT INTO events VALUES ('received')")
    database.close()
    (config.node.directory / "models.toml").write_text("own = true")
    (config.node.directory / "some.log").write_text("noise")


async def running_backup(config: Config, target: Path, *recipients: object) -> None:
    """A backup of a node whose server runs at the address in its configuration."""
    async with alive(config) as bus:
        url = bus.client.connected_url
        assert url is not None
        await lived_in(config, bus)
        here = msgspec.structs.replace(config.node, nats_port=url.port)
        object.__setattr__(config, "node", here)
        done = await back_up(config, target, recipients)
    assert done.running
    assert done.queues[f"WORK_{NODE}"] == 2


async def test_a_node_is_there_again_on_an_empty_machine(tmp_path: Path) -> None:
    config = configured(tmp_path / "old")
    before = load_identity(NODE, config.node.directory)
    file = tmp_path / "node.tar.gz"
    await running_backup(config, file)
    shutil.rmtree(config.node.directory)
    (tmp_path / "old" / "contacts.toml").unlink()

    fresh = configured(tmp_path / "new")
    (tmp_path / "old" / "contacts.toml").unlink(missing_ok=True)
    with pytest.raises(RestoreError, match=f"2 in WORK_{NODE}"):
        await restore_node(file, fresh, [])
    assert list(fresh.node.directory.iterdir()) == []
    done = await restore_node(file, fresh, [], queues="answer")
    assert done.waiting == 2
    directory = fresh.node.directory
    after = load_identity(NODE, directory)
    assert after.secret == before.secret
    assert after.nonce != before.nonce
    assert "Ana" in (tmp_path / "old" / "contacts.toml").read_text()
    with sqlite3.connect(directory / "events.db") as database:
        assert database.execute("SELECT kind FROM events").fetchall() == [("received",)]
    database.close()
    assert not (directory / "some.log").exists()
    assert not (directory / "restoring").exists()
    async with own_server(NODE, directory / "nats", "", directory / "nats-server.log") as bus:
        assert await provision(bus.js, Place(NODE)) == []
        people = await (await bus.bucket("numbers")).keys()
        assert len(people) == 50
        assert f"{7:020x}" not in people
        assert await (await bus.bucket("consent")).get(before.sender_ref(NUMBER)) is not None
        assert (await bus.js.stream_info(f"WORK_{NODE}")).state.messages == 2
        ledger = await bus.bucket("ledger")
        assert await ledger.create(f"{'1' * 32}.reply.1", b"{}") is None, "sent once, never again"
        assert await ledger.create(f"{'2' * 32}.reply.1", b"{}") is not None

    again = configured(tmp_path / "other", name="ridge-2")
    with pytest.raises(RestoreError, match=r"valley-1 .*ridge-2"):
        await restore_node(file, again, [], queues="answer")
    with pytest.raises(RestoreError, match=r"not empty .*--force"):
        await restore_node(file, fresh, [], queues="answer")
    done = await restore_node(file, fresh, [], queues="drop", force=True)
    assert done.waiting == 0
    [aside] = directory.glob("before-restore-*")
    assert (aside / "identity.json").exists()


async def test_of_a_stopped_node_all_waiting_work_is_answered_without_asking(tmp_path: Path) -> None:
    config = configured(tmp_path / "old")
    async with alive(config) as bus:
        await lived_in(config, bus)
    key = pyrage.x25519.Identity.generate()
    file = tmp_path / "node.age"
    done = await back_up(config, file, [key.to_public()])
    assert not done.running
    assert NUMBER.encode() not in file.read_bytes()
    with pytest.raises(ArchiveError, match="is encrypted"):
        verify(file)
    with pytest.raises(ArchiveError, match="another key"):
        verify(file, [pyrage.x25519.Identity.generate()])
    fresh = configured(tmp_path / "new")
    restored = await restore_node(file, fresh, [key])
    assert restored.waiting == 2
    octets = file.read_bytes()
    for number, broken in enumerate((octets[:-40], octets[: len(octets) // 2], octets[:5000])):
        cut = tmp_path / f"cut{number}.age"
        cut.write_bytes(broken)
        with pytest.raises(ArchiveError, match=r"cannot be decrypted|truncated"):
            verify(cut, [key])


def rewritten(file: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A backup whose entries went through ``change``; None leaves one out."""
    with tarfile.open(file) as before, tarfile.open(target, "w:gz") as after:
        for entry in before:
            source = before.extractfile(entry)
            octets = change(entry.name, source.read() if source else b"")
            if octets is not None:
                entry.size = len(octets)
                after.addfile(entry, io.BytesIO(octets))
    return target


async def test_what_is_no_whole_backup_is_refused_by_the_name_of_its_fault(tmp_path: Path) -> None:
    config = configured(tmp_path / "old")
    file = tmp_path / "node.tar.gz"
    await running_backup(config, file)
    octets = file.read_bytes()
    fresh = configured(tmp_path / "new")

    async def refused(path: Path, fault: str) -> None:
        with pytest.raises(ArchiveError, match=fault):
            await restore_node(path, fresh, [], queues="answer")
        assert list(fresh.node.directory.iterdir()) == []

    for number, broken in enumerate((octets[:-10], octets[:-3000], octets[: len(octets) // 3], octets[:3])):
        cut = tmp_path / f"cut{number}"
        cut.write_bytes(broken)
        await refused(cut, "truncated")
    flipped = bytearray(octets)
    flipped[len(octets) // 2] ^= 1
    (tmp_path / "flipped").write_bytes(flipped)
    await refused(tmp_path / "flipped", "damaged|truncated")
    (tmp_path / "noise").write_bytes(os.urandom(5000))
    await refused(tmp_path / "noise", "no backup")
    with gzip.open(tmp_path / "foreign", "wb") as foreign, tarfile.open(fileobj=foreign, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("photos/cat.jpg"))
    await refused(tmp_path / "foreign", "no backup")
    await refused(tmp_path / "nothing-there", "No such file")

    def newer(name: str, content: bytes) -> bytes:
        return content.replace(b'"format":1', b'"format":2') if name == "header.json" else content

    await refused(rewritten(file, tmp_path / "newer", newer), r"newer EVY .*format 2")

    def tampered(name: str, content: bytes) -> bytes:
        return content + b" " if name == "files/models.toml" else content

    await refused(
        rewritten(file, tmp_path / "tampered", tampered), "files/models.toml is not what was written"
    )
    await refused(
        rewritten(file, tmp_path / "less", lambda name, c: None if name == "files/models.toml" else c),
        "files/models.toml is not",
    )
    await refused(
        rewritten(file, tmp_path / "endless", lambda name, c: None if name == "manifest.json" else c),
        "truncated: its end",
    )

    def escape(archived: tarfile.TarInfo) -> Path:
        target = tmp_path / f"escape{abs(hash(archived.name))}"
        with tarfile.open(file) as before, tarfile.open(target, "w:gz") as after:
            for entry in before:
                after.addfile(entry, before.extractfile(entry))
                if entry.name == "header.json":
                    after.addfile(archived, io.BytesIO(b""))
        return target

    await refused(escape(tarfile.TarInfo("files/../../escaped")), "does not belong there")
    await refused(escape(tarfile.TarInfo("files//etc/passwd")), "does not belong there")
    link = tarfile.TarInfo("files/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    await refused(escape(link), "does not belong there")


def within(directory: Path, name: str) -> bool:
    """Whether something of that name lies below a directory in which others come and go."""
    return any(name in (*folders, *files) for _, folders, files in os.walk(directory))


async def test_a_restore_that_was_killed_is_done_again_and_is_no_node_until_then(tmp_path: Path) -> None:
    config = configured(tmp_path / "old")
    file = tmp_path / "node.tar.gz"
    await running_backup(config, file)
    fresh = configured(tmp_path / "new")
    directory = fresh.node.directory
    command = [sys.executable, "-m", "actors", "--config", str(fresh.path), "restore", str(file)]
    for moment in ("identity.json", "jetstream"):
        process = await asyncio.create_subprocess_exec(*command, "--queues", "answer", start_new_session=True)
        async with asyncio.timeout(60):
            while not within(directory / "restoring", moment) and process.returncode is None:
                await asyncio.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        with pytest.raises(ConfigError, match="was not finished"):
            load_identity(NODE, directory)
    done = await restore_node(file, fresh, [], queues="answer")
    assert done.waiting == 2
    assert load_identity(NODE, directory).node == NODE


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "a disk can be mounted")
async def test_a_full_medium_leaves_no_half_backup(tmp_path: Path) -> None:
    config = configured(tmp_path / "old")
    (config.node.directory / "large").write_bytes(os.urandom(12 * 2**20))
    async with alive(config) as bus:
        await lived_in(config, bus)
    with small_disk(4 * 2**20) as stick:
        for recipients in ([], [pyrage.x25519.Identity.generate().to_public()]):
            with pytest.raises(ArchiveError, match=r"cannot be written: .*No space left"):
                await back_up(config, stick / "node.backup", recipients)
            assert list(stick.iterdir()) == []


def test_rotation_keeps_the_newest_of_this_node_whatever_the_clock_says(tmp_path: Path) -> None:
    (tmp_path / "evy-other-node-000001-20260101T000000Z.tar.gz").touch()
    (tmp_path / "holiday.tar.gz").touch()
    made = []
    for _ in range(5):
        path = next_name(tmp_path, NODE, encrypted=True)
        path.touch()
        made.append(path.name)
    oldest = tmp_path / made[0]
    oldest.rename(tmp_path / "evy-valley-1-000001-20990101T000000Z.tar.gz.age")
    assert len(rotate(tmp_path, NODE, 2)) == 3
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["evy-other-node-000001-20260101T000000Z.tar.gz", *made[3:], "holiday.tar.gz"]
    assert next_name(tmp_path, NODE, encrypted=False).name.startswith("evy-valley-1-000006-")


def test_streams_are_packed_so_that_a_text_on_its_way_is_in_one_of_them() -> None:
    unordered = ["DLQ_n", "EVT_n", "FLASH_n", "KV_ledger_n", "KV_numbers_n", "KV_parts_n", "UP_n", "WORK_n"]
    assert in_order(unordered) == [
        "KV_parts_n",
        "WORK_n",
        "FLASH_n",
        "UP_n",
        "KV_numbers_n",
        "KV_ledger_n",
        "DLQ_n",
        "EVT_n",
    ]


async def test_the_centre_goes_on_with_a_restored_node(tmp_path: Path) -> None:
    """The centre has taken more than the backup knows of: the restored uplink begins again below that. And
    it is back before the centre has noticed that it was gone: as many messages again pass for old ones."""
    linked = Linked(tmp_path, edges=("e1",))
    async with running(linked) as (hub, edges):
        config = Config({"node": {"name": "e1", "data_dir": str(tmp_path / "e1")}})
        port = linked.edges["e1"].port
        config.node = msgspec.structs.replace(config.node, nats_port=port)

        def query(serial: int) -> Output:
            asked = Query(
                id=f"{serial:032x}",
                node="e1",
                sender_ref="0" * 20,
                text="?",
                lang="en",
                lane="routine",
                deadline=deadline_in(60),
            )
            return Output(names.INFER_LARGE, "routine", asked, asked.id)

        for serial in range(3):
            await edges["e1"].publish(query(serial), "test")
        await holds(hub, "IN_e1", 3)
        await holds(edges["e1"], "UP_e1", 0)
        done = await back_up(config, tmp_path / "e1.tar.gz", [])
        assert done.running
        for serial in range(3, 8):
            await edges["e1"].publish(query(serial), "test")
        await holds(hub, "IN_e1", 8)
        linked.edges["e1"].kill()
        await edges["e1"].close()

        await restore_node(tmp_path / "e1.tar.gz", config, [], queues="drop", force=True)
        linked.edges["e1"].start()
        bus = await linked.connect_edge("e1")
        await reaches_centre(bus, "e1")
        await provision(bus.js, Place("e1", centre=True))
        await provision_edge(hub.js, linked.place, "e1")
        keeping = asyncio.create_task(Sources(bus, Place("e1", centre=True), every_s=1).run())
        for serial in range(8, 16):
            await bus.publish(query(serial), "test")
        await holds(hub, "IN_e1", 16, within_s=60)
        keeping.cancel()
        answer = msgspec.json.encode({"v": 1, "hello": "from the centre"})
        await hub.js.publish("down.e1.compress.routine", answer)
        await holds(bus, "WORK_e1", 1, within_s=60)
        await bus.close()
