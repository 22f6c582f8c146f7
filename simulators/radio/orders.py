"""Orders for simulated radios from other processes: a Unix socket, one JSON object a line.

``{"do": "die", "radio": "n3"}`` is answered by one :class:`Reply` a line. After ``{"do": "watch"}`` every
frame that leaves a radio follows as a reply of its own.
"""

import contextlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from simulators.orders import Client, Order, OrderClient, serve_orders
from simulators.radio.air import Air, Event
from simulators.radio.ground import Decibels, Metres
from simulators.radio.module import Module
from simulators.radio.picture import draw

Chance = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e6)]
Name = Annotated[str, Meta(max_length=32)]


class Die(Order, frozen=True):
    """A radio's power goes, in the middle of whatever it does; its terminal vanishes."""

    radio: Name


class Revive(Order, frozen=True):
    """The power is back: a new terminal at the same path, frequency and parameters forgotten."""

    radio: Name


class Move(Order, frozen=True):
    """A radio goes to another place, in a straight line, within so many simulated seconds; 0 is at once."""

    radio: Name
    x_m: Metres
    y_m: Metres
    within_s: Seconds = 0.0


class Shadow(Order, frozen=True):
    """Something stands between two radios, or nothing any more (0); ``one_way``: from the first on."""

    radio: Name
    other: Name
    loss_db: Decibels
    one_way: bool = False


class Lose(Order, frozen=True):
    """The next ``frames`` do not come; without ``radio`` those of anybody, without ``other`` at anybody."""

    frames: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    radio: Name = ""
    other: Name = ""


class Loss(Order, frozen=True):
    """The chance of each frame to be lost that would have come."""

    chance: Annotated[float, Meta(ge=0, lt=1)]


class Wedge(Order, frozen=True):
    """The module hangs: takes everything, says and hears nothing; or works again."""

    radio: Name
    on: bool = True


class Deaf(Order, frozen=True):
    """The module answers and hears nothing from the air; or hears again."""

    radio: Name
    on: bool = True


class Garble(Order, frozen=True):
    """The chance of each octet the module says to arrive as another one."""

    radio: Name
    chance: Chance


class Late(Order, frozen=True):
    """The module answers so many real seconds later."""

    radio: Name
    late_s: Annotated[float, Meta(ge=0, le=3600)]


class Half(Order, frozen=True):
    """Only so many octets of the next line get through."""

    radio: Name
    octets: Annotated[int, Meta(ge=0, le=320)]


class Lie(Order, frozen=True):
    """The next +RCV has a length that is wrong by so much."""

    radio: Name
    by: Annotated[int, Meta(ge=-240, le=240)] = 7


class Reset(Order, frozen=True):
    """The module starts anew now, or ``while_sending``: in the middle of its next frame. A ``silent`` reset,
    as a dip of its supply, forgets frequency and parameters and says nothing."""

    radio: Name
    while_sending: bool = False
    silent: bool = False


class Fail(Order, frozen=True):
    """+ERR codes for the next frames the module is asked to send."""

    radio: Name
    codes: Annotated[tuple[Annotated[int, Meta(ge=1, le=99)], ...], Meta(max_length=1000)]


class Noise(Order, frozen=True):
    """Octets that nobody sent appear on the line: these, in hexadecimal, and so many ``random`` ones."""

    radio: Name
    octets: Annotated[str, Meta(max_length=8192)] = ""
    random: Annotated[int, Meta(ge=0, le=4096)] = 0


class Baud(Order, frozen=True):
    """The module speaks at another speed from now on, as after AT+IPR."""

    radio: Name
    rate: Annotated[int, Meta(ge=300, le=115200)]


class Send(Order, frozen=True):
    """The radio sends these octets (hexadecimal) without a host: for trying the air, collisions, the law."""

    radio: Name
    octets: Annotated[str, Meta(min_length=2, max_length=480)]
    spreading_factor: Annotated[int, Meta(ge=7, le=12)] | None = None


class Routes(Order, frozen=True):
    """A node tells which neighbour it hands frames for which destination to; drawn in the picture."""

    radio: Name
    via: Annotated[dict[Name, Name], Meta(max_length=255)]


class Draw(Order, frozen=True):
    """Writes the picture to this file."""

    svg: Annotated[str, Meta(min_length=1, max_length=4096)]


class Show(Order, frozen=True):
    """Asks how everything is."""


class Log(Order, frozen=True):
    """Asks for the last 10,000 frames."""


class Watch(Order, frozen=True):
    """Asks for every frame from now on."""


World = Die | Revive | Move | Shadow | Lose | Loss
Fault = Wedge | Deaf | Garble | Late | Half | Lie | Reset | Fail | Noise | Baud
AnyOrder = World | Fault | Send | Routes | Draw | Show | Log | Watch


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one radio is, and what it made of the air."""

    name: str
    terminal: str
    alive: bool
    x_m: float
    y_m: float
    frames: int
    octets: int
    airtime_s: float
    heard: int
    collided: int
    busy: int
    lost: int
    violations: int


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to an order, or one frame for a watcher. ``error`` is empty when all is well."""

    error: str = ""
    at_s: float | None = None
    radios: tuple[State, ...] | None = None
    log: tuple[Event, ...] | None = None
    event: Event | None = None


def states(air: Air) -> tuple[State, ...]:
    """How all radios are."""
    return tuple(
        State(
            name=module.name,
            terminal=str(module.terminal.link),
            alive=module.alive,
            x_m=air.place(module.number)[0],
            y_m=air.place(module.number)[1],
            frames=count.frames,
            octets=count.octets,
            airtime_s=count.airtime_us / 1e6,
            heard=count.heard,
            collided=count.collided,
            busy=count.busy,
            lost=count.lost,
            violations=count.violations,
        )
        for module, count in zip(air.modules, air.counts, strict=True)
    )


def spoil(order: Fault, module: Module) -> None:  # noqa: C901  one case per fault
    """Has a module do something wrong, or well again. Raises ValueError."""
    match order:
        case Wedge(_, on):
            module.wedged = on
        case Deaf(_, on):
            module.deaf = on
        case Garble(_, chance):
            module.garble = chance
        case Late(_, late_s):
            module.late_s = late_s
        case Half(_, octets):
            module.half = octets
        case Lie(_, by):
            module.lie = by
        case Reset(_, while_sending, silent):
            if while_sending:
                module.resets_while_sending = True
            else:
                module.reset(silent=silent)
        case Fail(_, codes):
            module.fail.extend(codes)
        case Noise(_, octets, count):
            module.noise(bytes.fromhex(octets), count)
        case Baud(_, rate):
            module.baud = rate


def change(order: World, air: Air) -> None:
    """Changes the world that the radios are in. Raises ValueError."""
    match order:
        case Die(radio):
            air.modules[air.named(radio)].unplug()
        case Revive(radio):
            air.modules[air.named(radio)].plug()
        case Move(radio, x_m, y_m, within_s):
            air.move(air.named(radio), x_m, y_m, within_s)
        case Shadow(radio, other, loss_db, one_way):
            air.set_shadow(air.named(radio), air.named(other), loss_db, one_way=one_way)
        case Lose(frames, radio, other):
            sender, receiver = (air.named(name) if name else None for name in (radio, other))
            air.lose(sender, receiver, frames)
        case Loss(chance):
            air.loss = chance


def send(order: Send, air: Air) -> None:
    """Has a radio send. Raises ValueError when it is dead or sends already, or for bad hexadecimal."""
    module = air.modules[air.named(order.radio)]
    tuning = module.tuning
    if order.spreading_factor:
        tuning = tuning._replace(spreading_factor=order.spreading_factor)
    air.begin(module, bytes.fromhex(order.octets), tuning)


def obey(order: AnyOrder, air: Air) -> Reply:
    """Carries an order out. Raises ValueError when it cannot be."""
    match order:
        case Show():
            return Reply(at_s=air.now_us / 1e6, radios=states(air))
        case Log():
            return Reply(log=tuple(air.events))
        case Watch():
            pass
        case Draw(svg):
            write_picture(air, Path(svg))
        case Routes(radio, via):
            for name in (radio, *via, *via.values()):
                air.named(name)
            air.routes[radio] = dict(via)
        case Send():
            send(order, air)
        case Die() | Revive() | Move() | Shadow() | Lose() | Loss():
            change(order, air)
        case _:
            spoil(order, air.modules[air.named(order.radio)])
    return Reply()


def write_picture(air: Air, path: Path) -> None:
    """Draws what is and was into a file, in one rename. Raises ValueError when it cannot be written."""
    draft = path.with_name(f"{path.name}.new")
    try:
        draft.write_text(draw(air), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror or error}") from error


def serve(path: Path, air: Air) -> contextlib.AbstractAsyncContextManager[None]:
    """Takes orders at a Unix socket while the block runs; each client is served on its own."""

    def answer(order: Any, client: Client[Reply]) -> Reply:
        reply = obey(order, air)
        if isinstance(order, Watch):

            def show(event: Event) -> None:
                client.tell(Reply(event=event))

            air.listeners.append(show)
            client.leaving.callback(air.listeners.remove, show)
        return reply

    return serve_orders(path, AnyOrder, answer, lambda error: Reply(error=error))


class RadioControl(OrderClient[Reply]):
    """A client of the control socket: ``async with RadioControl(path) as control``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, Reply)
