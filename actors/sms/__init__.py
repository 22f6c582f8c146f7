"""sms: texts from the modems into ``sms.in``, from ``sms.out`` to the modems, nothing lost, none doubled.

A received SMS is deleted from its modem only after its PubAck (or, a part of a longer text, after it is in
the bucket ``parts``). A text to send is in the ledger before a modem is asked. The actor is the only writer
of the buckets ``ledger``, ``parts`` and ``modems``.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from actors._runtime.actor import Actor, Emit, KeyValue, Output
from actors._runtime.bus import BusError
from actors._runtime.context import Context
from actors._runtime.identity import Identity
from actors.knowledge import triager
from actors.sms.at_modem import AtModem
from actors.sms.config import ModemConfig, SmsConfig
from actors.sms.elsewhere import Elsewhere
from actors.sms.found import Claims, FoundModem
from actors.sms.gammu_modem import GammuModem, speed_of
from actors.sms.ledger import LAST_WRITTEN, Ledger, last_entries
from actors.sms.modem import Modem
from actors.sms.outbox import Outbox
from actors.sms.parts import Parts
from actors.sms.quota import SAVE_EVERY
from actors.sms.reception import LaneOf, Reception
from actors.sms.sending import Sending
from actors.sms.sim import Pin
from actors.sms.station import Changes, Station
from subjects import names
from subjects.errors import ConfigError
from subjects.messages import DeadLetter, Event, InboundSms, OutboundSms
from subjects.names import Lane

__all__ = ["ModemConfig", "Sms", "SmsConfig", "build", "driver_of", "triage_lane"]

log = logging.getLogger("evy.sms")


class Sms:
    """Both directions of every modem of the node. ``drivers`` are by the modems' names."""

    def __init__(
        self,
        *,
        config: SmsConfig,
        identity: Identity,
        drivers: Mapping[str, Modem],
        lane_of: LaneOf,
        ledger: KeyValue,
        parts: KeyValue,
        modems: KeyValue,
        outbox: Outbox,
        numbers: KeyValue,
        consent: KeyValue,
        bulletins: KeyValue,
        elsewhere: Elsewhere | None = None,
        publish: Callable[[Output, str], Awaitable[None]],
        dead_letter: Callable[[DeadLetter, str], Awaitable[None]],
        emit: Emit,
        answer_within_s: float = 15.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._identity = identity
        self._emit = emit
        self._publish = publish
        self._ledger = ledger
        self._modems = modems
        self._reception = Reception(
            identity=identity,
            lane_of=lane_of,
            parts=Parts(parts),
            publish=self._publish_received,
            dead_letter=dead_letter,
            tell=self._event,
            answer_within_s=config.answer_within_s or answer_within_s,
            part_timeout_s=config.part_timeout_s,
            calls=config.calls,
        )
        changes = Changes()
        self._stations = [
            Station(
                modem,
                modem=drivers[modem.name],
                ledger=Ledger(ledger, modem.name, identity.sender_ref),
                modems=modems,
                pseudonym=identity.sender_ref,
                received=self._reception.received,
                tell=self._event,
                changes=changes,
                poll_interval_s=config.poll_interval_s,
            )
            for modem in config.modems
        ]
        self._sending = Sending(
            self._stations,
            ledger=Ledger(ledger, "", identity.sender_ref),
            changes=changes,
            homes=modems,
            outbox=outbox,
            numbers=numbers,
            consent=consent,
            pseudonym=identity.sender_ref,
            tell=self._event,
            failover_after_s=config.failover_after_s,
            bulletins=bulletins,
            elsewhere=elsewhere,
            now=now,
        )

    async def run(self) -> None:
        """Receives until cancelled."""
        await self._load()
        async with asyncio.TaskGroup() as group:
            for station in self._stations:
                group.create_task(station.run())
            group.create_task(self._reception.release_incomplete(self._stations[0].name))

    def tell_states(self) -> None:
        """Tells of every modem once more, for a `node` that has just begun to listen."""
        for station in self._stations:
            station.tell_state(again=True)

    async def _load(self) -> None:
        """What an earlier run left open is found before anything is written behind it."""
        count = (LAST_WRITTEN + SAVE_EVERY) * len(self._stations)
        while True:
            try:
                recent = await last_entries(self._ledger, count)
                for station in self._stations:
                    await station.load(recent)
            except BusError as error:
                log.warning("the ledger waits for the bus: %s", error)
                await asyncio.sleep(0.5)
            else:
                return

    async def handle(self, out: OutboundSms) -> Sequence[Output]:
        """Sends one text; see :class:`Sending`."""
        await self._sending.handle(out)
        return []

    async def _publish_received(self, output: Output, actor: str) -> None:
        """Publishes a text, after it is noted by which modem it came if an answer could go by another one."""
        if len(self._stations) > 1 and isinstance(output.message, InboundSms):
            await self._note_home(self._identity.sender_ref(output.message.sender), output.message.modem)
        await self._publish(output, actor)

    async def _note_home(self, sender_ref: str, modem: str) -> None:
        key = f"home.{sender_ref}"
        found = await self._modems.get(key)
        if found is None or found[0] != modem.encode():
            await self._modems.put(key, modem.encode())

    def _event(
        self, kind: str, *, query_id: str = "", sender_ref: str = "", lane: Lane = "routine", **fields: object
    ) -> None:
        self._emit(
            Event(
                kind=kind,
                node=self._identity.node,
                actor="sms",
                at=time.time(),
                query_id=query_id,
                sender_ref=sender_ref,
                lane=lane,
                fields=fields,
            )
        )


def triage_lane(data: Path | None = None) -> LaneOf:
    """Lane of a text by the triage of a node; without its data directory by the shipped one."""
    heard = triager(data)
    return lambda text: names.LANE_OF[heard.classify([text])[0].priority]


def driver_of(
    config: ModemConfig, directory: Path, *, hang_up: bool = True, claims: Claims | None = None
) -> Modem:
    """The driver that the configuration names; ``directory`` is the node's, for the notes on a tried PIN and
    on the modem's IMEI. ``hang_up``: calls are rejected. ``claims`` is shared by the modems of a node."""
    file = Path(config.pin_file).expanduser() if config.pin_file else None
    pin = Pin(file, directory / f"{config.name}.pin-tried")
    baud = speed_of(config.connection)

    driver: AtModem | GammuModem
    if config.driver == "at":
        driver = AtModem(config.device, baud, pin=pin, profile=config.profile, hang_up=hang_up)
    else:
        driver = GammuModem(
            config.device, config.connection, pin=pin, profile=config.profile, hang_up=hang_up
        )
    note = directory / f"{config.name}.imei"
    claims = claims or Claims()
    return FoundModem(config.device, driver, baud=baud, imei=config.imei, note=note, claims=claims)


async def build(context: Context) -> Actor:
    """The actor of a node. Raises :class:`ConfigError` when no modem is named."""
    config = context.config.section("sms", SmsConfig)
    if not config.modems:
        raise ConfigError(
            'no modem: set [sms] device = "/dev/ttyUSB0" in evy.toml, or try `evy demo` without one'
        )
    directory, hang_up = context.config.node.directory, config.calls != "ignore"
    entries, numbers = await context.bucket("ledger"), await context.bucket("numbers")
    outbox = Outbox(await context.bucket("outbox"), entries, numbers, context.publish, context.emit)
    claims = Claims()
    sms = Sms(
        config=config,
        identity=context.identity,
        drivers={
            modem.name: driver_of(modem, directory, hang_up=hang_up, claims=claims) for modem in config.modems
        },
        lane_of=triage_lane(directory),
        ledger=entries,
        parts=await context.bucket("parts"),
        modems=await context.bucket("modems"),
        outbox=outbox,
        numbers=numbers,
        consent=await context.bucket("consent"),
        bulletins=await context.bucket("bulletins"),
        elsewhere=Elsewhere(
            context.identity.node, await context.bucket("mesh"), context.node_state(), context.publish
        ),
        publish=context.publish,
        dead_letter=context.dead_letter,
        emit=context.emit,
        answer_within_s=context.config.node.answer_within_s,
        now=context.now,
    )

    async def tell_again(event: Event) -> None:
        if "started" in event.fields.get("reasons", ()):
            sms.tell_states()

    await context.follow(("node_state",), tell_again)
    return Actor("sms", {names.SMS_OUT: sms.handle}, tasks=[sms.run], services=outbox.services)
