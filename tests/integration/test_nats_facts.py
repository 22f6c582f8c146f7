"""What nats-server does that one would not expect, and that EVY is built around: an upgrade that changes it
should be noticed."""

from pathlib import Path

import pytest

from actors._runtime.bus import NatsBus
from actors._runtime.identity import Identity
from actors._runtime.provision import provision
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
