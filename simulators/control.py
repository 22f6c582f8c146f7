"""Orders for a simulated modem from other processes: a Unix socket, one JSON object a line.

``{"do": "send", "number": "+34600111222", "text": "HELP"}`` is answered by one :class:`Reply` a line. After
``{"do": "watch"}`` every entry of the network's log follows as a reply of its own, the old ones first.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec

from simulators.network import Disorder, Entry, Network
from simulators.orders import Client, Order, OrderClient, serve_orders

Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
"""A day is 86400; beyond it a number is a mistake."""


class Send(Order, frozen=True):
    """A phone texts the modem. Parts of a long text (from 1) that are in ``drop`` get lost, those in
    ``late`` come ``late_s`` after the others; ``shuffle`` mixes them, ``times`` delivers all of it again.
    ``sender`` stands in place of the number, ``coding`` is the TP-DCS."""

    number: str
    text: str
    sender: str = ""
    coding: int | None = None
    wide_reference: bool = False
    drop: tuple[int, ...] = ()
    late: tuple[int, ...] = ()
    late_s: Seconds = 0.0
    shuffle: bool = False
    times: int = 1
    smsc_at: float | None = None


class Raw(Order, frozen=True):
    """PDUs in hexadecimal for the modem, as they are."""

    pdus: tuple[str, ...]


class Plug(Order, frozen=True):
    """Powers the modem up."""


class Unplug(Order, frozen=True):
    """Pulls the plug."""


class Cut(Order, frozen=True):
    """Pulls the plug at the next text the modem sends: after the "prompt", or "before_network" or
    "after_network" has it; null takes the order back."""

    at: Literal["prompt", "before_network", "after_network"] | None


class Mute(Order, frozen=True):
    """The modem says nothing any more, or speaks again."""

    on: bool = True


class Refuse(Order, frozen=True):
    """+CMS ERROR codes for the next texts the modem sends; ``always``: the last of them for all texts after
    that, until this order comes again."""

    codes: tuple[int, ...]
    always: bool = False


class Fail(Order, frozen=True):
    """The next commands that begin with ``command`` get ``result`` as their only answer; empty: silence."""

    command: str
    result: str = "ERROR"
    times: int = 1


class Noise(Order, frozen=True):
    """Octets that nobody sent appear on the line: these, in hexadecimal, and so many ``random`` ones."""

    octets: str = ""
    random: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0


class Half(Order, frozen=True):
    """Only so many octets of what the modem says next get through."""

    octets: int


class Reboot(Order, frozen=True):
    """The modem starts anew by itself, deaf for so long."""

    deaf_s: float = 0.5


class Register(Order, frozen=True):
    """The modem enters or leaves the network: 1 home, 2 searching, 3 denied, 5 roaming."""

    status: int


class Slow(Order, frozen=True):
    """The network takes so long for each text that the modem sends, or any time up to ``up_to_s``."""

    answer_delay_s: Seconds
    up_to_s: Seconds = 0.0


class Muddle(Order, frozen=True):
    """From now on the network delivers a part ``twice``, or ``late``, or a text's parts ``shuffled``: chances
    from 0 to 1. What is late or comes again does so within ``up_to_s``."""

    twice: Chance = 0.0
    late: Chance = 0.0
    shuffled: Chance = 0.0
    up_to_s: Seconds = 0.0


class Slots(Order, frozen=True):
    """Room on the SIM."""

    slots: int


class Ring(Order, frozen=True):
    """A phone calls the modem, which rings so often unless it is hung up; no number is a hidden one."""

    number: str = ""
    rings: int = 5


class Phone(Order, frozen=True):
    """TP-ST of status reports about texts to this number; above 31 it does not get them."""

    number: str
    status: int


class Log(Order, frozen=True):
    """Asks for the log."""


class Watch(Order, frozen=True):
    """Asks for the log and for everything that follows."""


Fault = Cut | Mute | Refuse | Fail | Noise | Half | Reboot | Register | Slow | Slots | Muddle
AnyOrder = Send | Raw | Ring | Plug | Unplug | Fault | Phone | Log | Watch


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to an order, or one entry for a watcher. ``error`` is empty when all is well."""

    error: str = ""
    log: tuple[Entry, ...] | None = None
    entry: Entry | None = None


class Device(Protocol):
    """What orders do to a modem."""

    network: Network
    mute: bool
    refuse: list[int]
    refuses_all: bool
    fail: list[tuple[str, str]]
    cut_to: int | None
    slots: int
    answer_delay_s: float
    answer_up_to_s: float
    power_cut: Any

    def plug(self) -> None:
        """Powers up."""

    def unplug(self) -> None:
        """Pulls the plug."""

    def ring(self, number: str, rings: int) -> object:
        """Gets a call."""

    def reboot(self, deaf_s: float) -> None:
        """Starts anew."""

    def register(self, status: int) -> None:
        """Enters or leaves the network."""

    def noise(self, octets: bytes, count: int = 0) -> None:
        """Writes on the line."""


def spoil(order: Fault, modem: Device) -> None:  # noqa: C901  one case per fault
    """Has the modem do something wrong, or well again."""
    match order:
        case Cut(at):
            modem.power_cut = at
        case Mute(on):
            modem.mute = on
        case Refuse(codes, always):
            modem.refuse[:] = [*modem.refuse, *codes]
            modem.refuses_all = always
            if not codes:
                modem.refuse.clear()
        case Fail(command, result, times):
            modem.fail.extend([(command.upper(), result)] * times)
        case Noise(octets, count):
            modem.noise(bytes.fromhex(octets), count)
        case Half(count):
            modem.cut_to = count
        case Reboot(deaf_s):
            modem.reboot(deaf_s)
        case Register(status):
            modem.register(status)
        case Slow(answer_delay_s, up_to_s):
            modem.answer_delay_s, modem.answer_up_to_s = answer_delay_s, up_to_s
        case Slots(slots):
            modem.slots = slots
            modem.network.offer()
        case Muddle():
            modem.network.disorder = Disorder(**msgspec.structs.asdict(order))


def obey(order: AnyOrder, modem: Device) -> Reply:
    """Carries an order out. Raises ValueError (PduError too) when it cannot be."""
    network = modem.network
    match order:
        case Send():
            fields = msgspec.structs.asdict(order)
            network.send(fields.pop("number"), fields.pop("text"), **fields)
        case Raw(pdus):
            network.deliver([bytes.fromhex(pdu) for pdu in pdus])
        case Ring(number, rings):
            modem.ring(number, rings)
        case Plug():
            modem.plug()
        case Unplug():
            modem.unplug()
        case Phone(number, status):
            network.phone(number).status = status
        case Log() | Watch():
            return Reply(log=tuple(network.log))
        case _:
            spoil(order, modem)
    return Reply()


def serve(path: Path, modem: Device) -> contextlib.AbstractAsyncContextManager[None]:
    """Takes orders at a Unix socket while the block runs; each client is served on its own."""

    def answer(order: AnyOrder, client: Client[Reply]) -> Reply:
        reply = obey(order, modem)
        if isinstance(order, Watch):

            def show(entry: Entry) -> None:
                client.tell(Reply(entry=entry))

            modem.network.listeners.append(show)
            client.leaving.callback(modem.network.listeners.remove, show)
        return reply

    return serve_orders(path, AnyOrder, answer, lambda error: Reply(error=error))


class Control(OrderClient[Reply]):
    """A client of the control socket: ``async with Control(path) as control``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, Reply)

    async def watch(self) -> AsyncIterator[Entry]:
        """The log from its beginning, and on and on; this client can do nothing else from here."""
        for entry in (await self.do(Watch())).log or ():
            yield entry
        while True:
            reply = await self.reply()
            if reply.entry is not None:
                yield reply.entry
