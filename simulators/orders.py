"""Orders for a simulator from other processes: a Unix socket, one JSON object a line, one reply a line.

An order's ``do`` names its kind, its other fields are those of the struct: ``{"do": "cut", "how": "reset"}``.
By hand: ``evy sim order SOCKET '{"do": "cut"}'``.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, Generic, Protocol, Self, TypeVar, get_args

import click
import msgspec

LINE_OCTETS: Final = 1024 * 1024
LISTENS_WITHIN_S: Final = 5.0


class Order(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="do", tag=str.lower
):
    """Base of the orders; ``do`` is the class's name in lower case."""


def described(kinds: Any) -> str:
    """Orders of some ``kinds`` (a union of structs) with their fields, one a paragraph, for people."""
    shown = []
    for kind in get_args(kinds):
        fields = msgspec.structs.fields(kind)
        words = [field.name if field.required else f"[{field.name}]" for field in fields]
        meaning = " ".join((kind.__doc__ or "").replace("``", "").split())
        shown.append(f"{' '.join([kind.__name__.lower(), *words])}: {meaning}")
    return "\n\n".join(shown)


class Replies(Protocol):
    """What every kind of reply has: why an order was refused, empty when all is well."""

    @property
    def error(self) -> str:
        """The reason."""


ReplyT = TypeVar("ReplyT", bound=Replies)


class Client(Generic[ReplyT]):
    """The other end of one connection, as the simulator sees it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._encoder = msgspec.json.Encoder()
        self.leaving = contextlib.ExitStack()
        """What to undo when it goes."""

    def tell(self, reply: ReplyT) -> None:
        """Sends a reply, also one that was not asked for."""
        self._writer.write(self._encoder.encode(reply) + b"\n")


@contextlib.asynccontextmanager
async def serve_orders(
    path: Path,
    kinds: Any,
    obey: Callable[[Any, Client[ReplyT]], ReplyT],
    refuse: Callable[[str], ReplyT],
) -> AsyncIterator[None]:
    """Takes orders of some ``kinds`` (a union of structs) at a Unix socket while the block runs.

    ``obey`` carries one out and raises ValueError when it cannot; ``refuse`` makes the reply that says so.
    Each client is served on its own; a broken line is answered and the next one read.
    """
    decoder = msgspec.json.Decoder(kinds)

    async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client: Client[ReplyT] = Client(writer)
        try:
            async for line in reader:
                try:
                    reply = obey(decoder.decode(line), client)
                except ValueError as error:  # also what msgspec and the PDU codec raise
                    reply = refuse(str(error))
                client.tell(reply)
                await writer.drain()
        except (ConnectionError, ValueError):  # gone, or a line without end
            pass
        finally:
            client.leaving.close()
            writer.close()

    path.unlink(missing_ok=True)  # noqa: ASYNC240  a name in a directory, at start and end
    server = await asyncio.start_unix_server(serve_client, path, limit=LINE_OCTETS)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)  # noqa: ASYNC240  likewise


class OrderClient(Generic[ReplyT]):
    """Gives orders: ``async with OrderClient(path, Reply) as control``."""

    def __init__(self, path: Path, replies: type[ReplyT]) -> None:
        self.path = path
        self._decoder = msgspec.json.Decoder(replies)

    async def __aenter__(self) -> Self:
        until_s = time.monotonic() + LISTENS_WITHIN_S
        while True:
            try:
                streams = await asyncio.open_unix_connection(self.path, limit=64 * LINE_OCTETS)
            except ConnectionRefusedError:  # the socket has its name before anybody listens at it
                if time.monotonic() > until_s:
                    raise
                await asyncio.sleep(0.02)
            else:
                self._reader, self._writer = streams
                return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def reply(self) -> ReplyT:
        """The next reply. Raises ConnectionError when the simulator is gone."""
        line = await self._reader.readline()
        if not line:
            raise ConnectionError(f"{self.path}: the simulator is gone")
        return self._decoder.decode(line)

    async def do(self, order: Order) -> ReplyT:
        """Gives an order. Raises ValueError with what the simulator objects to."""
        self._writer.write(msgspec.json.encode(order) + b"\n")
        await self._writer.drain()
        reply = await self.reply()
        if reply.error:
            raise ValueError(reply.error)
        return reply


async def give(path: Path, order: str) -> str:
    """Sends one order as it is and gives the reply's JSON. Raises OSError when nobody listens."""
    reader, writer = await asyncio.open_unix_connection(path, limit=64 * LINE_OCTETS)
    try:
        writer.write(order.replace("\n", " ").encode() + b"\n")
        await writer.drain()
        return (await reader.readline()).decode().rstrip("\n")
    finally:
        writer.close()


@click.command()
@click.argument("socket", type=click.Path(path_type=Path))
@click.argument("order")
def main(socket: Path, order: str) -> None:
    """Give ORDER, one JSON object, to the simulator that listens at SOCKET, and print its reply.

    Example: evy sim order /tmp/link.sock '{"do": "stall"}'
    """
    try:
        reply = asyncio.run(give(socket, order))
    except OSError as error:
        raise click.ClickException(f"no simulator listens at {socket}: {error.strerror or error}") from error
    click.echo(reply)
    if not reply or msgspec.json.decode(reply, type=dict).get("error"):
        sys.exit(1)
