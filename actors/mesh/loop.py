"""The loop around the state machine of the core: its clock, its radio, its file, and who waits for it.

The core (`evy_core.MeshNode`) decides everything and does nothing; here it is done, in an order in which no
power cut loses or doubles anything: what arrived is on the bus before the core's state is on the disk, and
that is there before a frame leaves, the receipt for what arrived included.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from evy_core import MeshArrival, MeshFullError, MeshNode, MeshPoll

from actors._runtime.bus import BusError
from actors._runtime.handling import end
from actors.mesh.keep import Keep
from actors.mesh.radio import Radio, RadioError, RadioFacts
from subjects.errors import EvyError
from subjects.names import Lane

log = logging.getLogger("evy.mesh")

FULL_WAIT_S: Final = 2.0
"""A core that is full is asked again after this; the message stays in its stream meanwhile."""
LONGEST_SLEEP_S: Final = 5.0
"""The core is asked at least so often, whatever it said."""
REOPEN_S: Final = (2.0, 5.0, 15.0, 60.0)
"""Waits before a radio that could not be opened, or did not send, is tried again; the last one repeats."""
RETRY_S: Final = 2.0
"""Wait before the bus, or the disk, is tried again."""

State = Literal["queued", "sent", "relayed", "delivered", "expired", "refused"]
"""What is known of an own message. sent: it left our antenna. relayed: a neighbour has it. delivered: its
destination's receipt is here."""


ENDS: Final = frozenset({"delivered", "expired", "refused"})
"""States in which the mesh has done with a message."""


Begin = Callable[[RadioFacts], tuple[MeshNode, Keep]]
"""Makes the core for a radio. Raises an EvyError that says why it cannot, for now."""


class _Waiting:
    """Who waits for an own message. One costs about 200 octets; the slots of ``mesh.out`` bound them."""

    def __init__(self, lane: Lane, changed: Callable[[State], None], *, broadcast: bool, spare: bool) -> None:
        self.lane = lane
        self.broadcast = broadcast
        self.spare = spare
        self.left = False
        """It left our antenna once."""
        self.changed = changed
        self.end: asyncio.Future[State] = asyncio.get_running_loop().create_future()


class Loop:
    """One radio and one core, for as long as the actor lives."""

    def __init__(
        self,
        *,
        make_radio: Callable[[], Radio],
        begin: Begin,
        store: Callable[[MeshArrival], Awaitable[None]],
        told: Callable[[str], None],
        now_us: Callable[[], int],
        tune: Callable[[MeshNode], int | None] = lambda _: None,
    ) -> None:
        """``store`` returns when an arrival is on the bus, or raises :class:`BusError`; ``told`` hears why
        the radio is down, and "" when it is up. ``tune`` is asked between frames: it gives the spreading
        factor that the radio is to be set to after the core, None while it stays as it is; a radio that is
        made anew has it."""
        self._make_radio = make_radio
        self._begin = begin
        self._store = store
        self._told = told
        self._now_us = now_us
        self._tune = tune
        self.core: MeshNode | None = None
        self.facts: RadioFacts | None = None
        self.trouble = "not opened yet"
        """Why the radio is down; empty: it is up."""
        self.counters: Counter[str] = Counter()
        self.radio_counters: dict[str, int] = {}
        self._keep: Keep | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._touched = asyncio.Event()
        self._ready = asyncio.Event()
        """There is a core that takes messages."""

    @property
    def waiting(self) -> dict[str, int]:
        """Own messages that the core has and that are not settled, by lane."""
        return dict(Counter(one.lane for one in self._waiting.values()))

    @property
    def presses(self) -> bool:
        """Whether an own message that is no spare one has not left yet."""
        return any(not (one.spare or one.left) for one in self._waiting.values())

    # For who wants something sent.

    async def send(
        self,
        destination: int | None,
        payload: bytes,
        lane: Lane,
        *,
        within_s: float,
        changed: Callable[[State], None] = lambda _: None,
        spare: bool = False,
    ) -> State:
        """Hands a message to the core and waits until its fate is known: delivered, expired or refused; of a
        broadcast, that it left. "expired" also when ``within_s`` have passed, and it is not sent any more.

        ``changed`` hears each state. ``spare``: it gives way to all others. Raises :class:`MeshError` for
        a message that the core can never send.
        """
        message = 0
        try:
            async with asyncio.timeout(within_s):
                message = await self._taken(destination, payload, lane)
                waiting = self._waiting[message] = _Waiting(
                    lane, changed, broadcast=destination is None, spare=spare
                )
                self._touched.set()
                return await waiting.end
        except TimeoutError:
            return "expired"
        finally:
            left = self._waiting.pop(message, None)
            if left and (left.end.cancelled() or not left.end.done()) and self.core:
                self.core.forget(message)

    async def _taken(self, destination: int | None, payload: bytes, lane: Lane) -> int:
        """Waits until the core takes the message; gives its number there."""
        while True:
            await self._ready.wait()
            assert self.core is not None  # noqa: S101  # that is what ready means
            try:
                return self.core.send(destination, payload, lane, self._now_us())
            except MeshFullError:
                self.counters["full"] += 1
                await asyncio.sleep(FULL_WAIT_S)

    # The radio.

    async def run(self) -> None:
        """Keeps a radio open and serves it, for ever; a radio that is dead is said once and tried again."""
        tries = 0
        while True:
            radio = self._make_radio()
            try:
                self.facts = await radio.open()
                if self.core is None:
                    self.core, self._keep = self._begin(self.facts)
                tries = 0
                await self._serve(radio)
            except (EvyError, OSError) as error:
                self._say(str(error))
            finally:
                self._ready.clear()
                await radio.close()
            await asyncio.sleep(REOPEN_S[min(tries, len(REOPEN_S) - 1)])
            tries += 1

    def _say(self, trouble: str) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble:
            log.error("the radio is down: %s", trouble)
            self._ready.clear()
        else:
            log.info("the radio is up")
            self._ready.set()
        self._told(trouble)

    async def _serve(self, radio: Radio) -> None:
        """Listens and speaks until the radio ends."""
        listening = asyncio.create_task(self._listen(radio))
        try:
            await self._speak(radio, listening)
        finally:
            await end([listening])

    async def _listen(self, radio: Radio) -> None:
        assert self.core is not None  # noqa: S101  # made before
        async for heard in radio.frames():
            self.core.receive(heard.frame, heard.rssi_dbm, heard.snr_db, self._now_us())
            self._touched.set()

    async def _speak(self, radio: Radio, listening: "asyncio.Task[None]") -> None:
        assert self.core is not None  # noqa: S101  # likewise
        while True:
            if listening.done():
                listening.result()
                raise RadioError("the radio closed its line")
            self.radio_counters = radio.counters
            self._say(radio.trouble)
            if self.trouble:  # nothing is asked of the core meanwhile: what it wants sent would be lost
                await asyncio.sleep(RETRY_S)
                continue
            self._touched.clear()
            if (spreading_factor := self._tune(self.core)) is not None:
                await radio.tune(spreading_factor)
            polled = self.core.poll(self._now_us())
            await self._act(polled)
            if polled.transmit is None:
                await self._sleep(polled.wake_at_us)
                continue
            try:
                await radio.transmit(polled.transmit)
            except (RadioError, ValueError) as error:  # it may have left: the core counts it as sent
                self.counters["transmit_failed"] += 1
                log.warning("a frame was not sent: %s", error)
                await asyncio.sleep(REOPEN_S[0])
            self.core.sent(self._now_us())

    async def _sleep(self, wake_at_us: int | None) -> None:
        wait_s = LONGEST_SLEEP_S
        if wake_at_us is not None:
            wait_s = min(wait_s, max(0.0, (wake_at_us - self._now_us()) / 1e6))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._touched.wait()

    async def _act(self, polled: MeshPoll) -> None:
        """Everything but the frame, in the order that a power cut may interrupt anywhere."""
        for arrival in polled.arrived:
            await self._stored(arrival)
        if polled.keep is not None:
            await self._kept(polled.keep)
        for message, state in polled.states:
            waiting = self._waiting.get(message)
            if waiting is None or waiting.end.done():
                continue
            waiting.changed(state)
            waiting.left = waiting.left or state != "queued"
            if state in ENDS or (waiting.broadcast and state == "sent"):
                waiting.end.set_result(state)

    async def _stored(self, arrival: MeshArrival) -> None:
        """Waits for a bus that is away: without the receipt its sender tries again, and here it is known."""
        while True:
            try:
                await self._store(arrival)
            except BusError as error:
                log.warning("%s; what came by radio is stored in %.0f s", error, RETRY_S)
                self.counters["bus_waits"] += 1
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _kept(self, state: bytes) -> None:
        """Waits for a disk that is full: without its counters on it the core must not speak."""
        assert self._keep is not None  # noqa: S101  # made with the core
        while True:
            try:
                await asyncio.to_thread(self._keep.write, state)
            except OSError as error:
                if not self.counters["disk_waits"]:
                    log.error("the mesh is silent until its counters can be written: %s", error)
                self.counters["disk_waits"] += 1
                await asyncio.sleep(RETRY_S)
            else:
                return
