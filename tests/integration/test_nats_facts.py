"""What nats-server does that one would not expect, and that EVY is built around: an upgrade that changes it
should be noticed."""

from pathlib import Path

import nats.js.errors
import pytest

from actors._runtime.bus import NatsBus
from actors._runtime.identity import Identity
from actors._runtime.provision import provision
from actors._runtime.store_watch import KEY_OCTETS, set_aside_unreadable
from subjects import names
from tests.conftest import NODE, PLACE, Server

pytestmark = pytest.mark.nats

IDENTITY = Identity(NODE, b"secret of the tests", "0000")


@pytest.mark.parametrize(("writes", "comes_back"), [(1, None), (2, b"1"), (3, b"2")])
async def test_a_deleted_key_comes_back_after_a_crash_if_it_was_written_more_than_once(
    tmp_path: Path, writes: int, comes_back: bytes | None
) -> None:
    """A value that is replaced leaves no mark of its removal in the store (nats-server 2.15.1), so a purge
    marks only the last one, and the one before is there again when the server was killed within about two
    minutes. `Bucket.delete` says so. When this fails for the better, say so there."""
    server = Server(tmp_path / "nats")
    bus = await NatsBus.connect(IDENTITY, server.url, "test", wait_s=10)
    assert await provision(bus.js, PLACE) == []
    bucket = await bus.bucket("session")
    await bucket.put("other", b"keeps the block alive")
    for number in range(1, writes + 1):
        await bucket.put("somebody", b"%d" % number)
    await bucket.delete("somebody")
    assert await bucket.get("somebody") is None
    server.kill()
    await bus.client.close()

    server.start()
    bus = await NatsBus.connect(IDENTITY, server.url, "test", wait_s=10)
    found = await (await bus.bucket("session")).get("somebody")
    await bus.close()
    server.stop()
    assert (found and found[0]) == comes_back


@pytest.mark.parametrize("set_aside", [False, True])
async def test_an_encrypted_stream_is_deleted_when_its_last_block_has_no_key(
    tmp_path: Path, set_aside: bool
) -> None:
    """What a server killed between making a block and its key leaves behind, made by hand here. When the
    first half fails nats-server has learnt to read on: `set_aside_unreadable` may go."""
    server = Server(tmp_path / "nats", store_key="a store key of the tests, 32 long")
    bus = await NatsBus.connect(IDENTITY, server.url, "test", wait_s=10)
    assert await provision(bus.js, PLACE) == []
    for number in range(3):
        await bus.js.publish(f"{names.INFER_SMALL}.routine", b"%d" % number)
    server.kill()
    await bus.client.close()
    [block] = (tmp_path / "nats").glob(f"jetstream/*/streams/WORK_{NODE}/msgs/*.blk")
    keys = [path.stat().st_size for path in (tmp_path / "nats").rglob("*.key")]
    assert set(keys) == {KEY_OCTETS}
    (block.parent / "2.blk").touch()

    if set_aside:
        set_aside_unreadable(tmp_path / "nats")
    server.start()
    bus = await NatsBus.connect(IDENTITY, server.url, "test", wait_s=10)
    try:
        if set_aside:
            assert (await bus.js.stream_info(f"WORK_{NODE}")).state.messages == 3
        else:
            with pytest.raises(nats.js.errors.NotFoundError):
                await bus.js.stream_info(f"WORK_{NODE}")
            assert not block.exists()
    finally:
        await bus.close()
        server.stop()
