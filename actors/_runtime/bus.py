"""The node's bus: JetStream publishes that wait for their PubAck, key-value buckets, events.

This module and `actors._runtime.provision` and `.worker` are the only ones that know nats-py.
"""

import asyncio
import contextlib
import logging
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.kv import KeyValue as NatsKeyValue

from actors._runtime.actor import Output
from actors._runtime.identity import Identity
from actors._runtime.provision import Place, bucket_config
from actors._runtime.telemetry import TRACEPARENT, Hop, Spans, current, step
from subjects import names, registry
from subjects.errors import EvyError, MessageError, RefusedError
from subjects.messages import DeadLetter, Event, Message, decode, encode

log = logging.getLogger("evy.bus")
# nats-py turns a plain stream into a TLS one, whose reader then warns at every end of a connection.
logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in str(record.msg))

MSG_ID: Final = "Nats-Msg-Id"

PUBLISH_TIMEOUT_S: Final = 10.0
"""A microSD card may take seconds for one fsync when it is busy."""
PROBE_EVERY_S: Final = 5.0
PROBES_LOST: Final = 3
LONGEST_REASON: Final = 4000
"""Characters of a dead letter's reason, and of its headers together."""
MOST_OCTETS: Final = registry.MAX_WORK_OCTETS - 4096
"""Of a message's content; headers count too where the server bounds it."""


class BusError(EvyError):
    """The server did not take a message or answer a request; trying again later is right."""


class StreamFullError(BusError):
    """The stream holds as many messages of this subject as it may: back-pressure, not a fault."""


class Bucket:
    """A JetStream key-value bucket behind the `KeyValue` protocol; writes are durable when they return."""

    def __init__(self, kv: NatsKeyValue, js: JetStreamContext, name: str) -> None:
        self._kv = kv
        self._js = js
        self._name = name

    async def get(self, key: str) -> tuple[bytes, int] | None:
        """Value and revision, or None."""
        with bus_errors(f"read {self._name}/{key}"):
            try:
                entry = await self._kv.get(key)
            except nats.js.errors.KeyNotFoundError:
                return None
            return entry.value or b"", entry.revision or 0

    async def put(self, key: str, value: bytes) -> int:
        """Writes whatever is there."""
        with bus_errors(f"write {self._name}/{key}"):
            return await self._kv.put(key, value)

    async def create(self, key: str, value: bytes) -> int | None:
        """Writes only if absent."""
        with bus_errors(f"create {self._name}/{key}"):
            try:
                return await self._kv.create(key, value)
            except nats.js.errors.KeyWrongLastSequenceError:
                return None

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Writes only if unchanged."""
        with bus_errors(f"update {self._name}/{key}"):
            try:
                return await self._kv.update(key, value, revision)
            except nats.js.errors.KeyWrongLastSequenceError:
                return None

    async def delete(self, key: str) -> None:
        """Removes the key with all its history: a tombstone would keep personal data's name.

        Durable for a key that was written once. An earlier value of one that was written again comes back
        when the server dies within about two minutes (nats-server 2.15.1, see `test_nats_facts.py`).
        """
        with bus_errors(f"delete {self._name}/{key}"):
            await self._js.purge_stream(f"KV_{self._name}", subject=f"$KV.{self._name}.{key}")

    async def keys(self, prefix: str = "") -> list[str]:
        """Keys that begin with ``prefix``."""
        with bus_errors(f"list {self._name}"):
            head = f"$KV.{self._name}."
            token = prefix[: prefix.rfind(".") + 1]  # whole leading tokens let the server filter
            info = await self._js.stream_info(f"KV_{self._name}", subjects_filter=f"{head}{token}>")
            subjects = info.state.subjects or {}
            return [name[len(head) :] for name in subjects if name[len(head) :].startswith(prefix)]

    async def recent(self, count: int) -> list[tuple[str, bytes]]:
        """The entries written last, newest first. Looks back over ``4 * count`` sequence numbers at most:
        an entry that was written again leaves its earlier number empty."""
        stream, head = f"KV_{self._name}", f"$KV.{self._name}."
        found: list[tuple[str, bytes]] = []
        with bus_errors(f"read the end of {self._name}"):
            state = (await self._js.stream_info(stream)).state
            for sequence in range(
                state.last_seq, max(state.first_seq, state.last_seq - 4 * count + 1) - 1, -1
            ):
                if len(found) == count or sequence < 1:
                    break
                try:
                    raw = await self._js.get_msg(stream, sequence)
                except nats.js.errors.NotFoundError:
                    continue
                if (raw.subject or "").startswith(head):  # else it is ballast of a sweep, see erase.py
                    found.append(((raw.subject or "").removeprefix(head), raw.data or b""))
        return found


class bus_errors(contextlib.AbstractContextManager[None]):  # noqa: N801  # reads as a statement
    """Turns nats-py's many errors into :class:`BusError` that says what was being done."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(
            error, nats.errors.Error | nats.js.errors.Error | TimeoutError | ConnectionError | OSError
        ):
            text = str(error) or type(error).__name__
            if "maximum messages per subject" in text or "maximum bytes" in text:
                raise StreamFullError(f"{self._doing}: {text}") from error
            if isinstance(error, TimeoutError | nats.errors.TimeoutError):
                text = f"{text}: the server did not answer; it is busy, or its card is full or failing"
            raise BusError(f"{self._doing}: {text}") from error


def encode_work(subject: str, message: Message) -> bytes:
    """Octets of a message of work. Raises :class:`RefusedError` when no stream takes so many."""
    octets = encode(message)
    if len(octets) > MOST_OCTETS:
        raise RefusedError(
            f"{subject}: a {type(message).__name__} of {len(octets)} octets, at most {MOST_OCTETS}"
        )
    return octets


def _fitting(letter: DeadLetter) -> DeadLetter:
    """A letter that the stream takes: the message is kept whole, a long reason and headers are not."""
    if len(letter.error) > LONGEST_REASON:
        letter = msgspec.structs.replace(letter, error=f"{letter.error[:LONGEST_REASON]}…")
    if sum(len(name) + len(value) for name, value in letter.headers.items()) > LONGEST_REASON:
        kept = {name: letter.headers[name] for name in (MSG_ID, TRACEPARENT) if name in letter.headers}
        letter = msgspec.structs.replace(letter, headers=kept)
    return letter


def left_out(node: str, actor: str, output: Output) -> Event:
    """The event of an optional output that found its subject full."""
    return Event(
        kind="left_out",
        node=node,
        actor=actor,
        at=time.time(),
        query_id=output.query_id,
        lane=output.lane,
        fields={"subject": names.work_subject(output.subject, output.lane), "reason": "full"},
    )


class NatsBus:
    """One connection of one process. ``on_dead`` is called when the connection proves dead while it claims
    to be alive (nats-py can end in that state), so that the supervisor starts the process again."""

    def __init__(self, identity: Identity, client: Client) -> None:
        self.identity = identity
        self.client = client
        self.js = client.jetstream(timeout=PUBLISH_TIMEOUT_S)
        self.spans = Spans(identity.node, self.emit)

    @property
    def node(self) -> str:
        """Name of the node."""
        return self.identity.node

    @classmethod
    async def connect(cls, identity: Identity, url: str, name: str, *, wait_s: float = 30.0) -> "NatsBus":
        """Connects and waits until JetStream answers. Raises :class:`BusError` after ``wait_s``."""
        last: BaseException | None = None
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            try:
                await _reach(url)
            except OSError as error:
                last = error
                await asyncio.sleep(0.05)
                continue
            client = Client()

            async def disconnected(client: Client = client) -> None:
                if not client.is_closed:  # nats-py also calls this when we leave
                    log.warning("lost the NATS server; reconnecting")

            try:
                await client.connect(
                    url,
                    name=f"evy.{identity.node}.{name}",
                    inbox_prefix=f"_INBOX.{identity.node}",  # replies over the link: see subjects/link.py
                    user_credentials=identity.credentials or None,
                    tls=ssl.create_default_context(cafile=identity.ca) if identity.ca else None,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    connect_timeout=2,
                    ping_interval=20,
                    max_outstanding_pings=2,
                    error_cb=_log_error,
                    disconnected_cb=disconnected,
                    reconnected_cb=_log_reconnected,
                )

                await client.jetstream(timeout=2).account_info()
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
                last = error
                with contextlib.suppress(nats.errors.Error, OSError):
                    await client.close()
                await asyncio.sleep(0.1)
            else:
                return cls(identity, client)
        raise BusError(
            f"no JetStream at {url} after {wait_s:.0f} s ({last}); start it with `evy up`, or set nats_url"
        ) from last

    async def close(self) -> None:
        """Flushes what was published without waiting, and leaves."""
        self.spans.flush()
        await asyncio.sleep(0)  # the publish begins
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            await asyncio.wait_for(self.client.flush(), 2)
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            await self.client.close()

    async def watch_alive(self) -> None:
        """Returns when JetStream has not answered :data:`PROBES_LOST` probes although the connection says
        it is up; runs for ever otherwise. A reconnect in progress is no reason to give up."""
        lost = 0
        while lost < PROBES_LOST:
            await asyncio.sleep(PROBE_EVERY_S)
            try:
                await self.client.request("$JS.API.INFO", b"", timeout=PROBE_EVERY_S)
                lost = 0
            except (nats.errors.Error, TimeoutError, OSError) as error:
                lost += self.client.is_connected
                log.warning("JetStream did not answer a probe (%s)", type(error).__name__)
        log.error("the connection is up but JetStream has not answered %d probes", PROBES_LOST)

    async def bucket(self, name: str) -> Bucket:
        """Bucket of the registry by its short name."""
        row = registry.bucket(name)
        full = row.bucket(self.node)
        with bus_errors(f"open bucket {full}"):
            if row.storage == "memory":  # it went with the last server; making it twice changes nothing
                await self.js.add_stream(bucket_config(row, Place(self.node)))
            return Bucket(await self.js.key_value(full), self.js, full)

    def message_id(self, actor: str, output: Output) -> str:
        """Deduplication id: node, installation, query, actor, output kind, ordinal."""
        kind = output.kind or output.subject
        return f"{self.node}.{self.identity.nonce}.{output.query_id}.{actor}.{kind}.{output.ordinal}"

    async def publish(self, output: Output, actor: str) -> None:
        """Publishes work and returns after its PubAck. Publishing the same output again is harmless. An
        ``optional`` output that finds its subject full is left out, with an event.

        Raises :class:`StreamFullError` when the subject is full, :class:`BusError` when nobody answered,
        :class:`RefusedError` for a message that no stream takes: trying again could not help.
        """
        if (hop := current()) is None:
            with self.spans.root(actor, output.lane, output.query_id) as hop:
                await self._publish(output, actor, hop)
        else:
            await self._publish(output, actor, hop)

    async def _publish(self, output: Output, actor: str, hop: Hop) -> None:
        subject = names.work_subject(output.subject, output.lane)
        headers = {MSG_ID: self.message_id(actor, output), TRACEPARENT: hop.traceparent}
        octets = encode_work(subject, output.message)
        try:
            with bus_errors(f"publish {subject}"), step(f"publish {subject}"):
                await self.js.publish(subject, octets, headers=headers)
        except StreamFullError:
            if not output.optional:
                raise
            self.emit(left_out(self.node, actor, output))

    async def dead_letter(self, letter: DeadLetter, message_id: str = "") -> None:
        """Keeps a message that cannot be handled, and says so in an event; returns after the PubAck."""
        letter = _fitting(letter)
        subject = names.dead_letter_subject(letter.subject)
        headers = {MSG_ID: f"dlq.{message_id or secrets.token_hex(16)}"}
        hop = current()
        if hop:
            headers[TRACEPARENT] = hop.traceparent
        with bus_errors(f"publish {subject}"):
            await self.js.publish(subject, encode(letter), headers=headers)
        fields = {"subject": letter.subject, "reason": letter.error[:200], "deliveries": letter.deliveries}
        event = Event(kind="dead_letter", node=self.node, actor=letter.actor, at=time.time(), fields=fields)
        if hop:
            event = msgspec.structs.replace(event, query_id=hop.query_id, lane=hop.lane)
        self.emit(event)

    def emit(self, event: Event) -> None:
        """Publishes an event without waiting. Lost when there is no connection: events are not work."""
        if not self.client.is_connected:
            return
        task = asyncio.ensure_future(self.client.publish(names.event_subject(event.kind), encode(event)))
        _PENDING.add(task)
        task.add_done_callback(_finished)

    async def has_workers(self, rows: Iterable[registry.Work]) -> bool:
        """Whether somebody waits for work at every durable of ``rows``."""
        for row in rows:
            for lane in names.LANES:
                try:
                    info = await self.js.consumer_info(
                        row.stream(self.node, lane), row.durable(self.node, lane)
                    )
                except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
                    return False
                if not info.num_waiting:
                    return False
        return True

    async def follow_events(
        self, receive: Callable[[Event], Awaitable[None]], kinds: Collection[str] | None = None
    ) -> Callable[[], Awaitable[None]]:
        """Calls ``receive`` with each event from now on, of some ``kinds`` or of all, in the order in which
        they were emitted; gives a function that stops it. Events of an outage are lost: they are no work."""
        wanted = None if kinds is None else {names.event_subject(kind) for kind in kinds}

        async def on_message(msg: Msg) -> None:
            if wanted is None or msg.subject in wanted:
                with contextlib.suppress(MessageError):  # an event of a newer node is not for us
                    await receive(decode(msg.data, Event))

        # One subscription, because several would not keep the order between kinds.
        subject = next(iter(wanted)) if wanted and len(wanted) == 1 else f"{names.EVT}.>"
        subscription = await self.client.subscribe(subject, cb=on_message)
        with bus_errors("follow events"):
            await self.client.flush()

        async def stop() -> None:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

        return stop


async def _reach(url: str) -> None:
    """Opens and closes a plain connection: nats-py would hide a refusal and wait a second between tries."""
    parts = urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port or 4222)
    writer.close()


_PENDING: set[asyncio.Future[Any]] = set()


def _finished(task: asyncio.Future[Any]) -> None:
    _PENDING.discard(task)
    if not task.cancelled() and (error := task.exception()):
        log.debug("event not published: %s", error)


async def _log_error(error: Exception) -> None:
    log.warning("NATS: %s", error or type(error).__name__)


async def _log_reconnected() -> None:
    log.warning("the NATS server is back")
