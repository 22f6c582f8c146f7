"""Fetches what a feed offers, within bounds, and finds the alerts of an index."""

import asyncio
from typing import Final, Protocol
from urllib.parse import urljoin, urlsplit
from xml.etree.ElementTree import Element

import aiohttp
import msgspec

from actors._bulletins.cap import parsed
from subjects.errors import EvyError

MAX_INDEX_OCTETS: Final = 4 * 1024 * 1024
"""National indexes of a thousand entries take 2 MB."""
CHUNK_OCTETS: Final = 64 * 1024
REMEMBERED: Final = 64
"""Addresses whose ETag and date are remembered: the feeds' own."""

ATOM: Final = "{http://www.w3.org/2005/Atom}"
CAP_TYPE: Final = "application/cap+xml"
AGENT: Final = "EVY"


class FeedError(EvyError):
    """A feed could not be fetched or read; says what and why. It is tried again later."""


class Limits(Protocol):
    """What of a feed's configuration bounds a fetch."""

    @property
    def timeout_s(self) -> float:
        """Seconds for one page."""


class Page(msgspec.Struct, frozen=True):
    """What an address gave."""

    url: str
    octets: bytes


class Fetcher:
    """HTTP with conditional requests (RFC 9110 §13): what has not changed is not sent again."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._marks: dict[str, dict[str, str]] = {}

    async def get(self, url: str, limits: Limits, *, marked: bool = True) -> Page | None:
        """The page at an address; None when it has not changed since the last time it was asked ``marked``.

        Raises :class:`FeedError` for anything but a page: no answer in time, another status, too large. A
        redirect is not followed, because it may lead anywhere.
        """
        headers = self._marks.get(url, {}) if marked else {}
        try:
            async with (
                asyncio.timeout(limits.timeout_s),
                self._client().get(url, headers=headers, allow_redirects=False) as reply,
            ):
                if reply.status == 304:
                    return None
                if 300 <= reply.status < 400:
                    raise FeedError(f"{url}: moved to {reply.headers.get('Location', '?')}; set that url")
                if reply.status != 200:
                    raise FeedError(f"{url}: HTTP {reply.status}")
                octets = await self._read(url, reply)
        except TimeoutError as error:
            raise FeedError(f"{url}: no answer within {limits.timeout_s:.0f} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FeedError(f"{url}: {error or type(error).__name__}") from error
        if marked:
            self._remember(url, reply)
        return Page(url, octets)

    async def _read(self, url: str, reply: aiohttp.ClientResponse) -> bytes:
        octets = bytearray()
        async for chunk in reply.content.iter_chunked(CHUNK_OCTETS):
            octets += chunk
            if len(octets) > MAX_INDEX_OCTETS:
                raise FeedError(f"{url}: more than {MAX_INDEX_OCTETS} octets")
        return bytes(octets)

    def _remember(self, url: str, reply: aiohttp.ClientResponse) -> None:
        pairs = (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since"))
        marks = {asks: reply.headers[says] for says, asks in pairs if says in reply.headers}
        if marks and (url in self._marks or len(self._marks) < REMEMBERED):
            self._marks[url] = marks

    def forget(self, url: str) -> None:
        """The page is wanted in full next time."""
        self._marks.pop(url, None)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": AGENT}, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        """Ends the connections."""
        if self._session is not None:
            await self._session.close()


def is_index(octets: bytes) -> bool:
    """Whether a page is an Atom or RSS document. Raises `CapError` for what is no XML."""
    return parsed(octets, MAX_INDEX_OCTETS).tag in {f"{ATOM}feed", "rss"}


def links_of(octets: bytes, base: str) -> list[str]:
    """Addresses of the CAP files of an index, in its order: the link of each entry that says it is CAP
    (Atom, RFC 4287 §4.2.7), else its first; or the <link> of each item (RSS 2.0). Raises `CapError`."""
    root = parsed(octets, MAX_INDEX_OCTETS)
    found: list[str] = []
    for entry in root.iter(f"{ATOM}entry"):
        links = [link for link in entry.findall(f"{ATOM}link") if link.get("rel", "alternate") == "alternate"]
        best = next((link for link in links if link.get("type", "") == CAP_TYPE), links[0] if links else None)
        if best is not None:
            found.append(best.get("href", ""))
    found += [_text(item.find("link")) for item in root.iter("item")]
    absolute = (urljoin(base, link.strip()) for link in found if link.strip())
    return list(dict.fromkeys(link for link in absolute if urlsplit(link).scheme in {"http", "https"}))


def _text(element: Element | None) -> str:
    return (element.text or "") if element is not None else ""
