"""Orders for a simulated card: ``{"do": "cut", "seed": 7}`` is answered by one :class:`State`."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from simulators.disk.fuse import Disk
from simulators.orders import Client, Order, serve_orders


class Cut(Order, frozen=True):
    """The power goes and comes back; kill the programs first. Without ``seed`` nothing unsynced survives,
    with it a part does, torn."""

    seed: int | None = None


class Room(Order, frozen=True):
    """So many octets fit from now on, 0 is full; without ``octets``, as many as the card's size allows."""

    octets: Annotated[int, Meta(ge=0)] | None = None


class Slow(Order, frozen=True):
    """Each sync takes so long."""

    sync_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0


class Fail(Order, frozen=True):
    """The next syncs fail with EIO."""

    syncs: Annotated[int, Meta(ge=0)] = 1


class Look(Order, frozen=True):
    """Asks for the state."""


AnyOrder = Cut | Room | Slow | Fail | Look


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to each order. ``error`` is empty when all is well."""

    error: str = ""
    used_octets: int = 0
    free_octets: int = 0
    journal_entries: int = 0
    unsynced_files: int = 0
    unsynced_octets: int = 0
    syncs: int = 0
    """fsync calls since the card was mounted."""
    cuts: int = 0


def obey(order: AnyOrder, disk: Disk) -> State:
    """Carries an order out."""
    match order:
        case Cut(seed):
            disk.cut(seed)
        case Room(octets):
            disk.room(octets)
        case Slow(sync_s):
            disk.sync_takes_s = sync_s
        case Fail(syncs):
            disk.syncs_to_fail = syncs
        case Look():
            pass
    return State("", *disk.card.held(), syncs=disk.syncs, cuts=disk.cuts)


def serve(path: Path, disk: Disk) -> AbstractAsyncContextManager[None]:
    """Takes orders at a Unix socket while the block runs."""

    def carry_out(order: AnyOrder, _client: Client[State]) -> State:
        return obey(order, disk)

    return serve_orders(path, AnyOrder, carry_out, lambda reason: State(error=reason))
