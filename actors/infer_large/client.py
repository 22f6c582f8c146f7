"""One client for any server that speaks OpenAI's chat API: vLLM, llama.cpp's server, outside providers.

Nothing a server sends is believed: its answer has a size and a time limit, must be the JSON that the API
promises, and is never followed elsewhere (a redirect would carry a person's text to another machine).
"""

import contextlib
import ipaddress
import ssl
import time
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from subjects.errors import ConfigError, EvyError
from subjects.messages import Privacy

MAX_REPLY_OCTETS: Final = 256 * 1024
"""An answer for an SMS has one or two thousand octets; whatever is longer is no such answer."""

CONNECT_S: Final = 5.0
HEALTH_S: Final = 5.0
HEALTH: Final = "/health"

_STRANGE_STATUS: Final = {
    401: "it wants another key: check the key file",
    402: "its account has no money left: pay the provider",
    403: "it wants another key: check the key file",
    404: "it has no such page or model: check its address and model",
}
_TOO_MANY: Final = 429

T = TypeVar("T")


class ServerError(EvyError):
    """The server gave no answer that can be used; another time it may.

    ``retry_after_s`` is what the server asked for; ``busy`` says that it works and has too much to do.
    ``status`` is 0 without a whole answer; ``sent`` is False when no octet of the request can have arrived;
    ``usage`` is what a useless answer says it took.
    """

    def __init__(
        self,
        reason: str,
        retry_after_s: float | None = None,
        *,
        busy: bool = False,
        status: int = 0,
        sent: bool = True,
        usage: "Usage | None" = None,
    ) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.busy = busy
        self.status = status
        self.sent = sent
        self.usage = usage


class RequestError(EvyError):
    """The server will never answer this request: it is too long, or asks for what the server cannot do."""


class Endpoint(msgspec.Struct, frozen=True):
    """A server and how to reach it. ``takes`` is the strictest privacy class it may be sent.

    "private" is one of EVY's own machines. Raises :class:`ConfigError` for an address that cannot be used;
    plain HTTP beyond this machine needs ``plain_http``, because people's texts could be read on the way.
    """

    base_url: str
    model: str = ""
    api_key_file: str = ""
    ca_file: str = ""
    plain_http: bool = False
    takes: Privacy = "private"
    exact: bool = False
    """``base_url`` is the API's own address, as a provider's documentation gives it: ``/v1`` or whatever else
    is its end."""
    form: Literal["schema", "object"] = "schema"
    """How JSON is asked for: "object" is what every provider knows, "schema" is stricter."""
    reasoning: bool = False
    """The model thinks first: another name of the limit, no temperature."""

    def __post_init__(self) -> None:
        check_address("base_url", self.base_url, plain_http=self.plain_http)

    @property
    def root(self) -> str:
        """Address without the API's own path."""
        return self.base_url.rstrip("/").removesuffix("/v1")

    @property
    def api(self) -> str:
        """Address of the API: what stands before ``/chat/completions``."""
        return self.base_url.rstrip("/") if self.exact else self.root + "/v1"

    def key(self) -> str:
        """The key from its file, "" without one. Raises :class:`ConfigError`."""
        return read_key("api_key_file", self.api_key_file)


def check_address(name: str, url: str, *, plain_http: bool) -> None:
    """Raises :class:`ConfigError` unless people's texts may be sent to an address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ConfigError(f"{name} {url!r}: give http(s)://host:port, without a user or query")
    if parts.scheme == "http" and not plain_http and not _is_this_machine(parts.hostname):
        raise ConfigError(
            f"{name} {url!r}: texts would cross the network unencrypted; use https, or set plain_http = true "
            "where the network itself is encrypted"
        )


def read_key(name: str, file: str) -> str:
    """The key in a file, "" when none is named. Raises :class:`ConfigError`."""
    if not file:
        return ""
    try:
        key = Path(file).expanduser().read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} {file}: {error}") from error
    if not key or not key.isprintable() or " " in key:
        raise ConfigError(f"{name} {file}: must hold one key on one line")
    return key


_Tokens = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer."""

    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Said
    finish_reason: str | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: tuple[_Choice, ...]
    usage: Usage | None = None


class _Billed(msgspec.Struct, frozen=True):
    usage: Usage | None = None


class _Model(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: tuple[_Model, ...]


class Reply(msgspec.Struct, frozen=True):
    """What a model wrote. ``finish`` is "stop" when it ended by itself, "length" at the token limit."""

    content: str
    finish: str
    usage: Usage
    ms: float
    counted: bool = True
    """The server said its tokens."""


class ChatClient:
    """Client of one endpoint; keeps its connections open. Used from one event loop, closed at the end."""

    def __init__(self, endpoint: Endpoint, timeout_s: float, *, key: str = "") -> None:
        """``key`` is one that is in no file; else the endpoint's is read. Raises :class:`ConfigError`."""
        self.endpoint: Final = endpoint
        self._timeout: Final = aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_S)
        self._headers: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key := key or endpoint.key():
            self._headers["Authorization"] = f"Bearer {key}"
        self._tls: Final = _tls(endpoint.ca_file)
        self._session: aiohttp.ClientSession | None = None
        self._first_model = ""

    async def chat(
        self, messages: list[dict[str, str]], max_tokens: int, *, model: str = "", schema: Any = None
    ) -> Reply:
        """The likeliest answer to some messages, as JSON of ``schema`` if one is given.

        ``model`` "" is the endpoint's, and without one the first that the server lists. Raises
        :class:`ServerError` and :class:`RequestError`.
        """
        named = model or self.endpoint.model or await self._listed_first()
        return await self.complete(self.body(messages, max_tokens, named, schema))

    def body(self, messages: list[dict[str, str]], max_tokens: int, model: str, schema: Any = None) -> bytes:
        """The request that asks for an answer of at most ``max_tokens``."""
        body: dict[str, Any] = {"model": model, "messages": messages}
        if self.endpoint.reasoning:
            body["max_completion_tokens"] = max_tokens
        else:
            body |= {"max_tokens": max_tokens, "temperature": 0}
        if self.endpoint.form == "schema":
            body["seed"] = 1  # the same question again gets the same answer as far as the server can
        if schema is not None and self.endpoint.form == "schema":
            form = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        elif schema is not None:
            body["response_format"] = {"type": "json_object"}
        return msgspec.json.encode(body)

    async def complete(self, body: bytes) -> Reply:
        """The answer to a request of :meth:`body`. Raises :class:`ServerError` and :class:`RequestError`."""
        started = time.monotonic()
        octets = await self._fetch("POST", "/chat/completions", body)
        made = self._decode(octets, _Completion)
        if not made.choices:
            reason = f"{self.endpoint.root}: an answer without a choice"
            raise ServerError(reason, status=200, usage=_billed(octets))
        choice = made.choices[0]
        ms = (time.monotonic() - started) * 1000
        counted = made.usage is not None and made.usage.prompt_tokens > 0
        return Reply(
            choice.message.content or "", choice.finish_reason or "", made.usage or Usage(), ms, counted
        )

    async def models(self) -> tuple[str, ...]:
        """Names of the models that the server has. Raises :class:`ServerError`."""
        listed = self._decode(await self._fetch("GET", "/models", within_s=HEALTH_S), _Models)
        return tuple(model.id for model in listed.data)

    async def check(self) -> None:
        """Returns when the server says it is well. Raises :class:`ServerError`."""
        await self._fetch("GET", HEALTH, within_s=HEALTH_S)

    async def close(self) -> None:
        """Closes its connections."""
        if self._session is not None:
            await self._session.close()

    async def _listed_first(self) -> str:
        if not self._first_model:
            models = await self.models()
            if not models:
                raise ServerError(f"{self.endpoint.root}: the server has no model")
            self._first_model = models[0]
        return self._first_model

    async def _fetch(
        self, method: Literal["GET", "POST"], path: str, body: bytes | None = None, within_s: float = 0.0
    ) -> bytes:
        """Body of a page. Raises the two errors of this module, whatever goes wrong."""
        if self._session is None:
            # No limit of connections here: the gate before us has one.
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
            self._session = aiohttp.ClientSession(
                connector=connector, headers=self._headers, auto_decompress=False, trust_env=False
            )
        timeout = aiohttp.ClientTimeout(total=within_s, connect=CONNECT_S) if within_s else self._timeout
        url = (self.endpoint.root if path == HEALTH else self.endpoint.api) + path
        try:
            async with self._session.request(
                method, url, data=body, timeout=timeout, allow_redirects=False
            ) as response:
                octets = await _bounded(response.content, url)
                self._judge(response, octets)
                return octets
        except TimeoutError as error:
            raise ServerError(f"{url}: no answer within {timeout.total:.0f} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            sent = not isinstance(error, aiohttp.ClientConnectorError)
            raise ServerError(f"{url}: {error or type(error).__name__}", sent=sent) from error

    def _judge(self, response: aiohttp.ClientResponse, octets: bytes) -> None:
        """Raises what a status other than 200 means."""
        status = response.status
        if status == 200:
            return
        excerpt = " ".join(octets[:200].decode("utf-8", "replace").split())
        reason = f"{response.url}: HTTP {status}, {_STRANGE_STATUS.get(status) or excerpt or response.reason}"
        if status == 404:
            self._first_model = ""  # the server may have been started again with another model
        if 400 <= status < 500 and status not in (*_STRANGE_STATUS, 408, _TOO_MANY):
            raise RequestError(reason)
        busy = status == _TOO_MANY
        raise ServerError(reason, _retry_after_s(response), busy=busy, status=status)

    def _decode(self, octets: bytes, of: type[T]) -> T:
        try:
            return msgspec.json.decode(octets, type=of)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServerError(
                f"{self.endpoint.root}: {len(octets)} octets are not what the chat API promises: {error}",
                status=200,
                usage=_billed(octets),
            ) from error


def _billed(octets: bytes) -> Usage | None:
    """What a useless answer says it took."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(octets, type=_Billed).usage
    return None


async def _bounded(content: aiohttp.StreamReader, url: str) -> bytes:
    pieces, octets = [], 0
    async for piece in content.iter_any():
        octets += len(piece)
        if octets > MAX_REPLY_OCTETS:
            raise ServerError(f"{url}: an answer of more than {MAX_REPLY_OCTETS} octets")
        pieces.append(piece)
    return b"".join(pieces)


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """Seconds in ``Retry-After`` (RFC 9110 §10.2.3); a date is not read: clocks may differ."""
    with contextlib.suppress(ValueError):
        seconds = float(response.headers.get("Retry-After", ""))
        return seconds if 0 <= seconds < float("inf") else None
    return None


def _tls(ca_file: str) -> ssl.SSLContext | bool:
    if not ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=str(Path(ca_file).expanduser()))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca_file {ca_file}: {error}") from error


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
