"""A very small HTTP server for the loopback: pages that programs ask for, such as ``/healthz``.

GET and HEAD only, one request a connection (RFC 9112 §9.3), and everything bounded: it must not be a way to
stop the process that it speaks of.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from subjects.errors import ConfigError

log = logging.getLogger("evy.http")

HEAD_OCTETS: Final = 8 * 1024
WITHIN_S: Final = 10.0
"""For one request and its answer."""
AT_ONCE: Final = 16
"""Connections; each costs at most :data:`HEAD_OCTETS` and its page."""


class Page(msgspec.Struct, frozen=True):
    """What a path gives."""

    body: bytes
    content_type: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK


Pages = Mapping[str, Callable[[], Awaitable[Page]]]
"""Each path with the function that makes its page anew for each request."""


@contextlib.asynccontextmanager
async def serve_pages(port: int, pages: Pages) -> AsyncIterator[int]:
    """Serves ``pages`` on the loopback while the block runs; gives the port (0 takes any free one).

    Raises :class:`ConfigError` when the port is taken.
    """
    here = 0

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal here
        here += 1
        try:
            if here <= AT_ONCE:
                async with asyncio.timeout(WITHIN_S):
                    await _answer(reader, writer, pages)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # gone, or it does not speak HTTP
        finally:
            here -= 1
            writer.close()

    try:
        server = await asyncio.start_server(serve_one, "127.0.0.1", port, limit=HEAD_OCTETS)
    except OSError as error:
        raise ConfigError(f"cannot serve HTTP on 127.0.0.1:{port}: {error.strerror or error}") from error
    try:
        taken: int = server.sockets[0].getsockname()[1]
        yield taken
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pages: Pages) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    method, path = (*head.split(b"\r\n", 1)[0].decode("latin-1").split(" "), "", "")[:2]
    make = pages.get(path.partition("?")[0])
    if method not in {"GET", "HEAD"}:
        page = _plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only")
    elif make is None:
        page = _plain(HTTPStatus.NOT_FOUND, f"there are {', '.join(pages)}")
    else:
        try:
            page = await make()
        except Exception:  # a page's bug is no reason to leave the asker without an answer
            log.exception("the page %s failed", path)
            page = _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "it failed; the log says why")
    lines = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(["Allow: GET, HEAD"] if page.status is HTTPStatus.METHOD_NOT_ALLOWED else []),
    )
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    if method != "HEAD":
        writer.write(page.body)
    await writer.drain()


def _plain(status: HTTPStatus, text: str) -> Page:
    return Page(f"{text}\n".encode(), "text/plain; charset=utf-8", status)
