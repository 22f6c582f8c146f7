"""Feeds of public alerts as authorities serve them: weather, health, utilities, transport, government.

``evy sim feeds`` serves an index (Atom or RSS) and CAP 1.2 files for each over HTTP, and every few seconds
one of them says something new: an alert, an update, a cancel. What comes, and what goes wrong (a server's
error, a slow answer, half a file, something that is no XML), follows from the seed.
"""

import asyncio
import contextlib
import datetime as dt
import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from typing import Final, Literal
from xml.sax.saxutils import escape

import click
import msgspec
from aiohttp import web

Kind = Literal["weather", "health", "utilities", "transport", "government"]
Fault = Literal["", "error", "slow", "half", "nonsense"]

HOLDS_S: Final = 3 * 3600
SLOW_S: Final = 60.0
KEPT: Final = 50
"""Entries of an index."""

_CAP: Final = "urn:oasis:names:tc:emergency:cap:1.2"


class Theme(msgspec.Struct, frozen=True):
    """What one kind of office warns of."""

    sender: str
    name: str
    category: str
    event: str
    instruction: str
    index: Literal["atom", "rss"] = "atom"


_MET: Final = ("weather@met.example", "Met Office", "Met")
_HEALTH: Final = ("health@moh.example", "Health Ministry", "Health")
_POWER: Final = ("grid@power.example", "Power Company", "Infra")
_ROADS: Final = ("roads@dot.example", "Road Office", "Transport")
_CIVIL: Final = ("civil@gov.example", "Civil Protection", "Safety")

THEMES: Final[dict[Kind, tuple[Theme, ...]]] = {
    "weather": (
        Theme(*_MET, "Flood Warning", "Move to higher ground. Do not cross water."),
        Theme(*_MET, "Severe Thunderstorm Warning", "Stay indoors."),
        Theme(*_MET, "Extreme Heat Warning", "Drink water. Stay in the shade."),
    ),
    "health": (
        Theme(*_HEALTH, "Cholera outbreak", "Boil water for 1 minute before you drink it."),
        Theme(*_HEALTH, "Measles outbreak", "Check your child's shots."),
    ),
    "utilities": (
        Theme(*_POWER, "Power outage", "Keep fridges closed.", "rss"),
        Theme(*_POWER, "Boil water notice", "Boil tap water for 1 minute.", "rss"),
    ),
    "transport": (
        Theme(*_ROADS, "Road closed", "Use another road.", "rss"),
        Theme(*_ROADS, "Bridge closed", "Do not cross.", "rss"),
    ),
    "government": (
        Theme(*_CIVIL, "Evacuation", "Leave the river bank."),
        Theme(*_CIVIL, "Chemical spill", "Stay inside. Shut windows."),
    ),
}
"""The first one says which form the index has."""

SEVERITIES: Final = ("Extreme", "Severe", "Severe", "Moderate", "Minor")


class Said(msgspec.Struct, frozen=True):
    """One CAP message that a feed has said."""

    identifier: str
    sent: str
    xml: str
    theme: Theme
    msg_type: str


class Feed:
    """One office. ``circle`` is where its alerts hold: latitude, longitude, kilometres."""

    def __init__(self, kind: Kind, circle: tuple[float, float, float], chance: random.Random) -> None:
        self.kind = kind
        self.said: list[Said] = []
        """Newest last."""
        self.fault: Fault = ""
        self._circle = circle
        self._chance = chance
        self._count = 0

    def say(self, now: float, msg_type: str = "Alert") -> Said:
        """Something new; an update or cancel is of the latest alert, or an alert where there is none."""
        of = next((one for one in reversed(self.said) if one.msg_type != "Cancel"), None)
        if of is None:
            msg_type = "Alert"
        theme = of.theme if of and msg_type != "Alert" else self._chance.choice(THEMES[self.kind])
        self._count += 1
        identifier = f"{self.kind}-{self._count}"
        sent = _stamp(now)
        references = f"{of.theme.sender},{of.identifier},{of.sent}" if of and msg_type != "Alert" else ""
        severity = self._chance.choice(SEVERITIES)
        hours = 1 + self._chance.randrange(6)
        latitude, longitude, radius = self._circle
        fields = {
            "identifier": identifier,
            "sender": theme.sender,
            "sent": sent,
            "status": "Actual",
            "msgType": msg_type,
            "scope": "Public",
            **({"references": references} if references else {}),
        }
        info = {
            "language": "en",
            "category": theme.category,
            "event": theme.event,
            "urgency": "Immediate",
            "severity": severity,
            "certainty": "Likely",
            "expires": _stamp(now + hours * 3600),
            "senderName": theme.name,
            "headline": f"{theme.event} number {self._count}",
            "instruction": theme.instruction,
        }
        area = f"<areaDesc>The valley</areaDesc><circle>{latitude},{longitude} {radius}</circle>"
        xml = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<alert xmlns="{_CAP}">{_elements(fields)}'
            f"<info>{_elements(info)}<area>{area}</area></info></alert>\n"
        )
        said = Said(identifier, sent, xml, theme, msg_type)
        self.said.append(said)
        return said

    def index(self) -> tuple[str, str]:
        """The index as it is now, and its ETag."""
        newest = list(reversed(self.said))[:KEPT]
        form = THEMES[self.kind][0].index
        body = _atom(self.kind, newest) if form == "atom" else _rss(self.kind, newest)
        return body, f'"{hashlib.blake2b(body.encode(), digest_size=8).hexdigest()}"'


class Office:
    """All feeds of one server."""

    def __init__(
        self,
        seed: int = 1,
        circle: tuple[float, float, float] = (38.48, -119.95, 30.0),
        kinds: Sequence[Kind] = tuple(THEMES),
    ) -> None:
        self._chance = random.Random(f"{seed} what happens")  # noqa: S311  reproducible, guards nothing
        self.feeds = {
            kind: Feed(kind, circle, random.Random(f"{seed} {kind}"))  # noqa: S311  likewise
            for kind in kinds
        }
        self.asked: list[str] = []
        """Every request: path and status."""

    def step(self, now: float, faults: float = 0.0) -> str:
        """One thing happens at one of the feeds; ``faults`` is the share of those that go wrong for a while.
        Gives what, for people."""
        kind = self._chance.choice(list(self.feeds))
        feed = self.feeds[kind]
        if self._chance.random() < faults:
            fault: Fault = self._chance.choice(("error", "slow", "half", "nonsense"))
            feed.fault = fault
            return f"{kind}: from now on {fault}"
        feed.fault = ""
        said = feed.say(now, self._chance.choice(("Alert", "Alert", "Update", "Cancel")))
        return f"{kind}: {said.msg_type} {said.identifier} {said.theme.event}"

    def application(self) -> web.Application:
        """The server's pages: ``/<kind>/index.xml`` and ``/<kind>/<identifier>.xml``."""
        application = web.Application()
        application.router.add_get("/{kind}/index.xml", self._index)
        application.router.add_get("/{kind}/{identifier}.xml", self._alert)
        return application

    async def _index(self, request: web.Request) -> web.StreamResponse:
        feed = self._feed(request)
        body, mark = feed.index()
        if not feed.fault and request.headers.get("If-None-Match") == mark:
            return self._answer(request, web.Response(status=304, headers={"ETag": mark}))
        return await self._page(request, feed, body, {"ETag": mark})

    async def _alert(self, request: web.Request) -> web.StreamResponse:
        feed = self._feed(request)
        wanted = request.match_info["identifier"]
        said = next((one for one in feed.said if one.identifier == wanted), None)
        if said is None:
            return self._answer(request, web.Response(status=404))
        return await self._page(request, feed, said.xml, {})

    async def _page(
        self, request: web.Request, feed: Feed, body: str, headers: dict[str, str]
    ) -> web.StreamResponse:
        match feed.fault:
            case "error":
                return self._answer(request, web.Response(status=500, text="out of order"))
            case "slow":
                await asyncio.sleep(SLOW_S)
            case "half":
                body = body[: len(body) // 2]
            case "nonsense":
                body = "<html><body>Please log in & accept our cookies</body>"
        return self._answer(
            request, web.Response(body=body.encode(), content_type="application/xml", headers=headers)
        )

    def _answer(self, request: web.Request, response: web.Response) -> web.Response:
        self.asked.append(f"{request.path} {response.status}")
        return response

    def _feed(self, request: web.Request) -> Feed:
        for kind, feed in self.feeds.items():
            if kind == request.match_info["kind"]:
                return feed
        raise web.HTTPNotFound


@contextlib.asynccontextmanager
async def served(office: Office, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serves an office while the block runs; gives the port."""
    runner = web.AppRunner(
        office.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        taken: int = runner.addresses[0][1]
        yield taken
    finally:
        await runner.cleanup()


def _stamp(at: float) -> str:
    """A time as CAP writes it (§3.3.2): whole seconds, with the zone as an offset."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S-00:00")


def _elements(fields: dict[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())


def _atom(kind: Kind, newest: Sequence[Said]) -> str:
    entries = "".join(
        f"<entry><id>urn:{one.identifier}</id><title>{escape(one.theme.event)}</title>"
        f"<updated>{one.sent}</updated>"
        f'<link rel="alternate" type="text/html" href="/{kind}/{one.identifier}.html"/>'
        f'<link rel="alternate" type="application/cap+xml" href="/{kind}/{one.identifier}.xml"/></entry>'
        for one in newest
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">'
        f"<id>urn:{kind}</id><title>{kind}</title>{entries}</feed>\n"
    )


def _rss(kind: Kind, newest: Sequence[Said]) -> str:
    items = "".join(
        f"<item><title>{escape(one.theme.event)}</title><link>/{kind}/{one.identifier}.xml</link>"
        f"<guid>{one.identifier}</guid></item>"
        for one in newest
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<rss version="2.0"><channel>'
        f"<title>{kind}</title>{items}</channel></rss>\n"
    )


@click.command()
@click.option("--port", default=8900, show_default=True, help="Loopback port.")
@click.option("--seed", default=1, show_default=True, help="What happens, and in which order.")
@click.option("--every", "every_s", default=20.0, show_default=True, help="Seconds between two things.")
@click.option("--faults", default=0.1, show_default=True, help="Share of the things that are faults.")
@click.option("--at", "where", default="38.48,-119.95,30", show_default=True, help="Latitude, longitude, km.")
def main(port: int, seed: int, every_s: float, faults: float, where: str) -> None:
    """Serve feeds of public alerts: weather, health, utilities, transport, government.

    Each is at http://127.0.0.1:PORT/<kind>/index.xml. For a centre that polls one:

    \b
        [feeds.weather]
        url = "http://127.0.0.1:8900/weather/index.xml"
        senders = ["weather@met.example"]
        every_s = 15
    """  # noqa: D301  # \b is click's mark against re-wrapping
    try:
        latitude, longitude, radius = (float(part) for part in where.split(","))
    except ValueError as error:
        raise click.BadParameter("--at: write latitude,longitude,km") from error
    office = Office(seed, (latitude, longitude, radius))

    async def run() -> None:
        async with served(office, port) as taken:
            for kind in office.feeds:
                click.echo(f"http://127.0.0.1:{taken}/{kind}/index.xml", err=True)
            while True:
                click.echo(office.step(dt.datetime.now(dt.UTC).timestamp(), faults))
                await asyncio.sleep(every_s)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())
