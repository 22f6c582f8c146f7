"""Five nodes, real actors and nats-servers, radios on ptys, one link to the centre: see `valley.py`.

Texts from the far end are answered through three hops; whoever dies in the middle of a fragmented message,
it arrives once; a stranger with a radio changes nothing.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from actors.mesh.radio import Heard, RadioError, RadioSettings
from actors.mesh.rylr896 import Rylr896
from simulators.radio.air import Event as AirEvent
from tests.scenarios.valley import FAR, GATE, MID, SPREADING_FACTOR, STRANGER, Valley, valley

pytestmark = [pytest.mark.nats, pytest.mark.modem, pytest.mark.timeout(600)]

VALLEYS = int(os.environ.get("EVY_CHAOS_VALLEYS", "0"))
ANSWER = "Heat the joint with the torch"
SHORT = "How do I solder the tap of a zumbatone?"
LONG = (
    "How do I solder the tap of a zumbatone? The long one of my uncle Zorvan has fallen off its frame "
    "twice since Tuesday, and the smaller brass tube beside the resonator came loose when the children of "
    "the neighbour played the slow part of the second gobbolka; we tried wax and wire and a strip of tin "
    "from a biscuit box and none of it held for longer than one evening, and the festival of the seven "
    "lanterns begins in nine days and nobody else in the village owns a torch, flux or the right kind of "
    "rod. My cousin Ilbrett says that the old makers of Quammel joined theirs with a paste of pewter "
    "filings, borax and vinegar over charcoal, but her kiln cracked in the frost, the bellows leak, and "
    "the only charcoal merchant left for the coast with both of his mules and my good tongs. The bell is "
    "spun from thin bronze, perhaps a millimetre, with a rim rolled over an iron hoop that rings when it "
    "is warm."
)
"""More than two frames, packed."""
LARGE_OCTETS = 150
"""What only a fragment of it has."""
WITHIN_S = 150.0
"""Most take seconds; an answer whose only way died waits for the next try."""
REPLAYED = 6
NETWORK, TRANSMITTER, COUNTER = 1, 2, 4
"""Octets of a frame; the counter's first says that millions of frames went by meanwhile."""
REFUSED = ("forged", "replayed")
"""Counters of the mesh's state machine."""


def answers(land: Valley, number: str) -> list[str]:
    return [text for text in land.stage.read_by(number) if ANSWER in text]


async def is_answered(land: Valley, number: str) -> None:
    """Waits for the centre's answer on a phone."""
    if not await land.stage.until(lambda: bool(answers(land, number)), WITHIN_S):
        told = [
            (event.kind, event.actor, event.fields) for event in land.stage.events if event.actor != "node"
        ]
        status = {name: await node.status() for name, node in land.nodes.items()}
        pytest.fail(f"{number} got {land.stage.read_by(number)}\n{told[-40:]}\n{status}")


async def first_large_frame(land: Valley, senders: Iterable[str], send: str, number: str) -> str:
    """Texts the far node and waits until one of ``senders`` has sent a whole fragment on; gives who did."""
    assert await land.stage.until(lambda: land.knows_uplink, WITHIN_S)
    wanted = set(senders)
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def see(event: AirEvent) -> None:
        if event.sender in wanted and event.octets >= LARGE_OCTETS and not found.done():
            found.set_result(event.sender)

    land.air.listeners.append(see)
    try:
        await land.stage.text(number, send)
        async with asyncio.timeout(WITHIN_S):
            return await found
    finally:
        land.air.listeners.remove(see)


async def dies_in_the_middle(land: Valley, senders: Iterable[str], number: str, *, detour: bool) -> str:
    """Whoever of ``senders`` carries a long question on loses its power; it is answered all the same."""
    victim = await first_large_frame(land, senders, LONG, number)
    node = land.nodes[victim]
    await node.die()
    if detour:
        await is_answered(land, number)
        await node.come_back()
    else:
        await asyncio.sleep(2)
        await node.come_back()
        await is_answered(land, number)
    return victim


def turned(frame: bytes, octet: int) -> bytes:
    """The frame with one octet greater than it was."""
    return bytes([*frame[:octet], (frame[octet] + 1) % 256, *frame[octet + 1 :]])


class Stranger:
    """Somebody with a module of their own, tuned as the valley's, beside the middle node."""

    def __init__(self, land: Valley) -> None:
        own = land.air.modules[land.air.named(MID)]
        settings = RadioSettings(spreading_factor=SPREADING_FACTOR, network=own.network)
        self._radio = Rylr896(str(land.air.directory / STRANGER), settings)
        self._mid = 1 + list(land.nodes).index(MID)
        self.heard: list[Heard] = []

    async def listen(self) -> None:
        await self._radio.open()
        try:
            async for frame in self._radio.frames():
                self.heard.append(frame)
        finally:
            await self._radio.close()

    @property
    def of_mid(self) -> list[bytes]:
        """Frames that the middle node sent: the far one has heard most of them too."""
        return [each.frame for each in self.heard if each.frame[TRANSMITTER] == self._mid]

    async def disturb(self) -> int:
        """Replays what it heard, sends some of it changed, and noise; gives how many frames left."""
        chance = random.Random(8)
        frames = self.of_mid[-REPLAYED:]
        ahead = [turned(frame, COUNTER) for frame in frames]
        elsewhere = [turned(frame, NETWORK) for frame in frames[:4]]
        changed = [turned(frame, len(frame) - 1) for frame in frames[:4]]
        noise = [chance.randbytes(length) for length in (1, 17, 18, 60, 200)]
        sent = 0
        for frame in [*frames, *ahead, *elsewhere, *changed, *noise]:
            with contextlib.suppress(RadioError):
                await self._radio.transmit(frame)
                sent += 1
        return sent


async def a_stranger_changes_nothing(land: Valley, stranger: Stranger) -> None:
    """Replays and forgeries are counted, and lead to no message and to no route."""
    assert await land.until(lambda: len(stranger.of_mid) >= REPLAYED, WITHIN_S)
    asked = len(land.asked_at_centre)
    assert await land.until(lambda: len(land.events("sent")) == 2 * asked, WITHIN_S)  # notice and answer
    before = await land.nodes[FAR].status()
    assert before
    assert await stranger.disturb() > REPLAYED
    after = await land.nodes[FAR].status()
    assert after
    counted = {name: after.counters.get(name, 0) - before.counters.get(name, 0) for name in REFUSED}
    assert all(counted.values()), (before.counters, after.counters)
    # Noise may drown a neighbour for a while; it never makes one.
    assert {route.destination for route in after.routes} <= {route.destination for route in before.routes}
    assert {each.address for each in after.neighbours} <= {each.address for each in before.neighbours}
    assert (len(land.asked_at_centre), len(land.events("sent"))) == (asked, 2 * asked)


@pytest.mark.skipif(not VALLEYS, reason="minutes of real air time: EVY_CHAOS_VALLEYS=1, or make chaos")
@pytest.mark.parametrize("seed", range(1, 1 + max(1, VALLEYS)))
async def test_the_far_end_is_answered_whoever_dies(tmp_path: Path, seed: int) -> None:
    async with valley(tmp_path, seed) as land:
        await land.route(WITHIN_S)
        stranger = Stranger(land)
        listening = asyncio.create_task(stranger.listen())

        # Either of two ways dies while it carries the question: the other one takes it.
        first = await dies_in_the_middle(land, {"east", "west"}, "+15557000002", detour=True)
        await land.carries(({"east", "west"} - {first}).pop(), WITHIN_S)
        second = await dies_in_the_middle(land, {"east", "west"}, "+15557000003", detour=True)
        assert {first, second} == {"east", "west"}

        # The only way dies and comes back.
        assert await dies_in_the_middle(land, {MID}, "+15557000004", detour=False) == MID

        await a_stranger_changes_nothing(land, stranger)
        # Noise may have taken the way for a while: who asks then is answered by the node itself.
        assert await land.stage.until(lambda: land.knows_uplink, WITHIN_S)
        await land.stage.text("+15557000001", SHORT)
        await is_answered(land, "+15557000001")
        listening.cancel()

        for number in range(1, 5):
            assert len(answers(land, f"+1555700000{number}")) == 1
        asked = [saw.what for saw in land.asked_at_centre]
        assert len(asked) == len(set(asked)) == 4
        assert not [event for event in land.air.events if event.violation and event.sender != STRANGER]
        assert land.nodes[GATE].actors.kills == land.nodes[FAR].actors.kills == 0
