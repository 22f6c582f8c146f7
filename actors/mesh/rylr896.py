"""A REYAX RYLR896 (SX1276 behind an AT set) as the mesh's radio.

What the module hides is in :class:`~actors.mesh.radio.RadioFacts`: it adds 8 octets to each frame, cannot
look for another's signal, and says nothing of a frame that it missed. It forgets its frequency when its
supply dips, so it is asked for that before every frame: at 915 MHz it would break European law.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
from evy_core import time_on_air_us

from actors.mesh.masking import mask, masked_octets, unmask
from actors.mesh.radio import LONGEST_FRAME, Heard, RadioError, RadioFacts, RadioSettings
from actors.mesh.rylr896_line import Line, LostError, ModuleError, SilentError

log = logging.getLogger("evy.mesh.rylr896")

HEADER_OCTETS: Final = 8
"""«The payload part will increase more 8 bytes than the actual data length» (guide 56322E33)."""
BANDWIDTHS: Final = {125_000: 7, 250_000: 8, 500_000: 9}
PREAMBLES: Final = (4, 7)
MOST_DBM: Final = 15
WAITING_FRAMES: Final = 64
"""Frames that nobody has read yet, at most 240 octets each."""
LOOK_EVERY_S: Final = 30.0
"""A module that says nothing for so long is asked whether it is well."""
REOPEN_WAIT_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between tries to open a module that is lost; the last one repeats for ever."""
STILL_SENDING: Final = 10
"""+ERR=10."""
BOOT_S: Final = 1.0
"""A module that was reset answers after this long."""
SPARE_S: Final = 1.5
"""What a frame may take besides its time on air before it is given up."""


class Rylr896:
    """One module. ``speed`` is that of a simulated channel, 1 for every other; ``reopen_wait_s`` and
    ``look_every_s`` are for tests, which have less time."""

    def __init__(
        self,
        device: str,
        settings: RadioSettings,
        *,
        speed: float = 1.0,
        look_every_s: float = LOOK_EVERY_S,
        reopen_wait_s: tuple[float, ...] = REOPEN_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._settings = settings
        self._speed = speed
        self._look_every_s = look_every_s
        self._reopen_wait_s = reopen_wait_s
        self._clock = clock
        self._line: Line | None = None
        self._turn = asyncio.Lock()
        """One command, or one frame with what belongs to it, at a time."""
        self._wrong = asyncio.Event()
        """The module has started anew or is lost."""
        self._heard: asyncio.Queue[Heard | None] = asyncio.Queue()
        self._keeper: asyncio.Task[None] | None = None
        self._counters: Counter[str] = Counter()
        self._trouble = f"{device} is not open"
        low, high = PREAMBLES
        self._preamble = max(low, min(high, settings.preamble_symbols))
        self._wanted = {
            b"NETWORKID": str(settings.network),
            b"BAND": str(settings.frequency_hz),
            b"PARAMETER": self._parameter(),
            b"CRFOP": str(min(MOST_DBM, settings.power_dbm)),
        }

    def _parameter(self) -> str:
        of = self._settings
        return f"{of.spreading_factor},{BANDWIDTHS[of.bandwidth_hz]},{of.coding_rate - 4},{self._preamble}"

    @property
    def trouble(self) -> str:
        """What is wrong now and what to do about it; empty while the module works."""
        return self._trouble

    @property
    def counters(self) -> dict[str, int]:
        """Frames ``sent``, ``unsent``, ``heard``, ``broken`` (came with errors), ``dropped`` (nobody read
        them); ``lines`` understood and ``garbled``; ``restarts``, ``retuned``, ``reopened``,
        ``other_baud``."""
        return dict(self._counters)

    async def open(self) -> RadioFacts:
        """Opens the device, finds the module at any speed, and sets it up. Raises :class:`RadioError`."""
        if self._keeper is not None:
            raise RadioError(f"{self._device} is open already")
        try:
            async with self._turn:
                await self._open()
        except BaseException:  # also when nobody waits any more
            self._close_line()
            raise
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        return RadioFacts(
            name=f"RYLR896 at {self._device}",
            hidden_octets=HEADER_OCTETS + masked_octets(LONGEST_FRAME) - LONGEST_FRAME,
            longest_frame=LONGEST_FRAME,
            senses=False,
            preamble_symbols=self._preamble,
            cannot_know=(
                "whether another radio is sending: frames may collide, and are waited for by chance alone",
                "what else its 8 octets of header hold",
                "a frame it missed while it sent, or one that another destroyed",
                "what it really radiates: its antenna is not measured",
            ),
        )

    async def close(self) -> None:
        """Lets go of the device; never raises."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        self._close_line()
        self._trouble = f"{self._device} is not open"
        self._heard.put_nowait(None)

    async def frames(self) -> AsyncIterator[Heard]:
        """What is heard, until :meth:`close`."""
        while (heard := await self._heard.get()) is not None:
            yield heard

    async def transmit(self, frame: bytes) -> None:
        """Sends a frame and returns when it has left; see :class:`~actors.mesh.radio.Radio`."""
        if not 1 <= len(frame) <= LONGEST_FRAME:
            raise ValueError(f"a frame of {len(frame)} octets: 1 to {LONGEST_FRAME} can be sent")
        async with self._turn:
            try:
                await self._transmit(mask(frame))
            except BaseException as error:  # also a cancelled one: its answer would come later
                self._counters["unsent"] += 1
                if not isinstance(error, ModuleError):
                    self._wrong.set()
                raise
        self._counters["sent"] += 1

    async def tune(self, spreading_factor: int) -> None:
        """Another spreading factor from now on; see :class:`~actors.mesh.radio.Radio`."""
        async with self._turn:
            self._settings = msgspec.structs.replace(self._settings, spreading_factor=spreading_factor)
            self._wanted[b"PARAMETER"] = self._parameter()
            if self._trouble or self._line is None:
                return  # set with everything else when it is back
            try:
                await self._retune(self._line, (b"PARAMETER",))
            except BaseException:  # also when nobody waits any more: it may be set or not
                self._wrong.set()
                raise

    # Sending.

    def airtime_s(self, octets: int) -> float:
        """How long a masked frame is on the air."""
        settings = self._settings
        on_air_us = time_on_air_us(
            octets + HEADER_OCTETS,
            spreading_factor=settings.spreading_factor,
            bandwidth_hz=settings.bandwidth_hz,
            coding_rate=settings.coding_rate,
            preamble_symbols=self._preamble,
        )
        return on_air_us / 1e6 / self._speed

    async def _transmit(self, masked: bytes) -> None:
        if self._trouble or self._line is None:
            raise RadioError(self._trouble)
        if await self._retune(self._line, (b"BAND", b"PARAMETER")):
            log.warning("%s had forgotten its frequency or parameters: is its supply weak?", self._device)
        airtime_s = self.airtime_s(len(masked))
        began_s = self._clock()
        command = b"AT+SEND=0,%d,%b" % (len(masked), masked)
        try:
            await self._line.ask(command, wait_s=airtime_s + SPARE_S)
        except ModuleError as error:
            if error.code != STILL_SENDING:
                raise
            await asyncio.sleep(airtime_s)
            await self._line.ask(command, wait_s=airtime_s + SPARE_S)
        # Some firmware says +OK before the frame has left.
        left_s = began_s + airtime_s - self._clock()
        if left_s > 0:
            await asyncio.sleep(left_s)

    # Setting up.

    async def _open(self) -> None:
        self._close_line()
        self._wrong.clear()
        self._line = Line(self._device, self._take, self._restart, self._lose, self._counters)
        await self._set_up(self._line, search=True)

    async def _set_up(self, line: Line, *, search: bool) -> None:
        await line.rouse(search=search)
        await self._retune(line, tuple(self._wanted))
        self._trouble = ""

    async def _retune(self, line: Line, names: tuple[bytes, ...]) -> bool:
        """Sets what is not as wanted; whether anything was. What a module keeps is written only then: its
        memory bears 300,000 writes. Raises :class:`RadioError` when it does not stay."""
        changed = False
        for name in names:
            wanted = self._wanted[name]
            if await self._ask(line, name) == wanted:
                continue
            changed = True
            with contextlib.suppress(SilentError):
                await line.ask(b"AT+%b=%b" % (name, wanted.encode()))
            found = await self._ask(line, name)
            if found != wanted:
                raise RadioError(
                    f"{self._device}: {name.decode()} is {found!r} and not {wanted!r} after it was set: the "
                    "module cannot do what [mesh] asks of it, or its supply is weak"
                )
        self._counters["retuned"] += changed
        return changed

    async def _ask(self, line: Line, name: bytes) -> str:
        """A setting; once more when the answer gets lost."""
        question, beginning = b"AT+%b?" % name, b"+%b=" % name
        with contextlib.suppress(SilentError, ModuleError):
            return await line.ask(question, beginning)
        return await line.ask(question, beginning)

    # Keeping it.

    async def _keep(self) -> None:
        tries = 0
        while True:
            heard_before = self._counters["lines"]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_every_s):
                    await self._wrong.wait()
            if not self._wrong.is_set() and self._counters["lines"] != heard_before:
                continue
            try:
                async with self._turn:
                    self._wrong.clear()
                    await self._look_after()
                tries = 0
            except Exception as error:  # a driver's bug must not end reception for good
                self._wrong.set()
                if not isinstance(error, RadioError):
                    log.exception("the radio's driver failed")
                elif self._trouble != str(error):
                    log.warning("%s", error)
                self._trouble = str(error) or type(error).__name__
                self._close_line()
                await asyncio.sleep(self._reopen_wait_s[min(tries, len(self._reopen_wait_s) - 1)])
                tries += 1

    async def _look_after(self) -> None:
        """Makes a module that may have started anew, hangs, or is lost work again."""
        if self._line is None or not self._line.is_open:
            await self._open()
            self._counters["reopened"] += 1
            log.info("%s is back", self._device)
            return
        try:
            await self._set_up(self._line, search=False)
        except LostError:
            raise
        except RadioError as error:
            self._trouble = str(error)
            with contextlib.suppress(SilentError, ModuleError):
                await self._line.ask(b"AT+RESET", b"+RESET")
            await asyncio.sleep(BOOT_S)
            self._wrong.clear()
            await self._set_up(self._line, search=True)

    def _close_line(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _restart(self) -> None:
        self._counters["restarts"] += 1
        self._wrong.set()

    def _lose(self, reason: str) -> None:
        self._trouble = reason
        self._wrong.set()

    def _take(self, _sender: bytes, heard: Heard) -> None:
        frame = unmask(heard.frame)
        if not frame:
            return  # another program's: ours have at least an octet
        self._counters["heard"] += 1
        if self._heard.qsize() >= WAITING_FRAMES:
            self._heard.get_nowait()
            self._counters["dropped"] += 1
        self._heard.put_nowait(heard._replace(frame=frame))
