"""feeds against offices that alert, update, cancel, and fail in every way: what goes down, and what never."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from actors._bulletins import cap
from actors._runtime.actor import Output
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors.feeds import FeedConfig, Feeds, build
from actors.feeds.fetch import MAX_INDEX_OCTETS, Fetcher, links_of
from actors.feeds.notes import Notes
from simulators.feeds import THEMES, Fault, Office, served
from subjects.bulletin import Bulletin
from subjects.errors import ConfigError
from subjects.messages import Event

NOW = 1_800_000_000.0


class Centre:
    """The actor of a centre with two nodes, at a served office."""

    def __init__(self, directory: Path, port: int, **feed: Any) -> None:
        self.published: list[Output] = []
        self.events: list[Event] = []
        self.nodes = ["n1", "n2"]
        self.at = NOW
        self.directory = directory
        senders = tuple({theme.sender for themes in THEMES.values() for theme in themes})
        self.feeds = {
            kind: FeedConfig(
                **{
                    "url": f"http://127.0.0.1:{port}/{kind}/index.xml",
                    "senders": senders,
                    "timeout_s": 5.0,
                    "every_s": 60.0,
                    **feed,
                }
            )
            for kind in THEMES
        }
        self.fetcher = Fetcher()
        self.actor = self.started()

    def started(self) -> Feeds:
        async def nodes() -> list[str]:
            return self.nodes

        async def publish(output: Output, _: str) -> None:
            self.published.append(output)

        return Feeds(
            node="hub",
            feeds=self.feeds,
            fetcher=self.fetcher,
            notes=Notes(self.directory / "feeds.json"),
            nodes=nodes,
            publish=publish,
            emit=self.events.append,
            now=lambda: self.at,
        )

    async def poll(self, name: str = "weather") -> list[tuple[str, str]]:
        """One round; gives the subject and identifier of each message that went down."""
        before = len(self.published)
        await self.actor.poll(name)
        found = []
        for output in self.published[before:]:
            assert isinstance(output.message, Bulletin)
            found.append((f"{output.subject}.{output.lane}", output.message.identifier))
        return found

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@pytest.fixture
def office() -> Office:
    return Office(seed=3)


@pytest.fixture
async def centre(tmp_path: Path, office: Office) -> AsyncIterator[Centre]:
    async with served(office) as port:
        made = Centre(tmp_path, port)
        yield made
        await made.fetcher.close()


def lane(office: Office, kind: str, place: int) -> str:
    said = office.feeds[kind].said[place]  # type: ignore[index]  # one of the kinds
    return cap.read(said.xml.encode()).lane


async def test_each_alert_goes_down_to_every_node_once(centre: Centre, office: Office) -> None:
    feed = office.feeds["weather"]
    feed.say(NOW)
    first = f"bulletin.{lane(office, 'weather', 0)}"
    assert await centre.poll() == [(f"down.{node}.{first}", "weather-1") for node in ("n1", "n2")]
    assert await centre.poll() == []
    assert office.asked[-1] == "/weather/index.xml 304"
    feed.say(NOW + 60, "Update")
    feed.say(NOW + 120, "Cancel")
    assert {identifier for _, identifier in await centre.poll()} == {"weather-2", "weather-3"}
    message = centre.published[-1].message
    assert isinstance(message, Bulletin)
    assert (message.feed, message.as_of) == ("weather", NOW)
    assert message.references


async def test_a_restart_sends_nothing_again_and_a_new_node_gets_what_still_holds(
    centre: Centre, office: Office
) -> None:
    office.feeds["weather"].say(NOW)
    await centre.poll()
    await centre.fetcher.close()
    centre.fetcher = Fetcher()
    centre.actor = centre.started()
    assert await centre.poll() == []
    centre.nodes.append("n3")
    assert [subject.split(".")[1] for subject, _ in await centre.poll()] == ["n3"]


@pytest.mark.parametrize("kind", list(THEMES))
async def test_atom_and_rss_and_every_office_are_read(centre: Centre, office: Office, kind: Any) -> None:
    for _ in range(3):
        office.feeds[kind].say(NOW)
    assert len(await centre.poll(kind)) == 6


@pytest.mark.parametrize(
    ("fault", "says"),
    [("error", "HTTP 500"), ("slow", "no answer within"), ("half", "no XML"), ("nonsense", "no XML")],
)
async def test_a_feed_that_fails_is_one_event_and_asked_less_often_until_it_answers(
    tmp_path: Path, office: Office, fault: Fault, says: str
) -> None:
    office.feeds["weather"].say(NOW)
    async with served(office) as port:
        centre = Centre(tmp_path, port, timeout_s=0.2)
        office.feeds["weather"].fault = fault
        rests = [await centre.actor.poll("weather") for _ in range(8)]
        assert rests == [60, 120, 240, 480, 960, 1920, 3600, 3600]
        assert centre.kinds() == ["feed_down"]
        assert says in centre.events[0].fields["reason"]
        office.feeds["weather"].fault = ""
        assert len(await centre.poll()) == 2
        assert centre.kinds() == ["feed_down", "feed_alert", "feed_up"]
        await centre.fetcher.close()


async def test_an_unknown_sender_is_an_event_and_never_goes_down(tmp_path: Path, office: Office) -> None:
    office.feeds["weather"].say(NOW)
    async with served(office) as port:
        centre = Centre(tmp_path, port, senders=("somebody@else.example",))
        assert await centre.poll() == []
        assert await centre.poll() == []
        assert centre.kinds() == ["feed_refused"]
        assert "weather@met.example" in centre.events[0].fields["reason"]
        await centre.fetcher.close()


async def test_one_bad_file_does_not_hold_up_the_others(centre: Centre, office: Office) -> None:
    feed = office.feeds["weather"]
    feed.say(NOW)
    bad = feed.say(NOW)
    feed.said[-1] = type(bad)(bad.identifier, bad.sent, "<alert/>", bad.theme, bad.msg_type)
    feed.say(NOW)
    assert {identifier for _, identifier in await centre.poll()} == {"weather-1", "weather-3"}
    assert centre.kinds().count("feed_refused") == 1


async def test_an_index_leads_nowhere_else_and_a_redirect_is_not_followed(tmp_path: Path) -> None:
    asked: list[str] = []

    async def index(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(
            text='<rss version="2.0"><channel><item><link>http://localhost:9/inside</link></item></channel></rss>'
        )

    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPFound("/index")

    async def endless(request: web.Request) -> web.Response:
        return web.Response(body=b"<rss>" + b" " * MAX_INDEX_OCTETS)

    application = web.Application()
    application.router.add_get("/index", index)
    application.router.add_get("/moved", moved)
    application.router.add_get("/endless", endless)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        reasons = []
        for page in ("index", "moved", "endless"):
            centre = Centre(tmp_path, port, url=f"http://127.0.0.1:{port}/{page}")
            assert await centre.poll() == []
            reasons += [event.fields["reason"] for event in centre.events]
            await centre.fetcher.close()
    finally:
        await runner.cleanup()
    said = zip(("another host", "moved to", "more than"), reasons, strict=True)
    assert all(word in reason for word, reason in said)
    assert asked == ["/index"]


async def test_a_feed_may_be_one_file_and_for_some_nodes_only(tmp_path: Path, office: Office) -> None:
    office.feeds["weather"].say(NOW)
    async with served(office) as port:
        url = f"http://127.0.0.1:{port}/weather/weather-1.xml"
        centre = Centre(tmp_path, port, url=url, nodes=("n2",))
        assert [subject.split(".")[1] for subject, _ in await centre.poll()] == ["n2"]
        assert await centre.poll() == []
        await centre.fetcher.close()


def test_links_are_those_that_say_they_are_cap_made_absolute() -> None:
    atom = (
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry><link href="/a.html"/>'
        '<link type="application/cap+xml" href="b.xml"/></entry><entry><link href="https://x.example/c"/></entry>'
        '<entry><link rel="self" href="/d"/></entry><entry><link href="javascript:alert(1)"/></entry></feed>'
    )
    assert links_of(atom.encode(), "https://h.example/feeds/i.xml") == [
        "https://h.example/feeds/b.xml",
        "https://x.example/c",
    ]


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        ({"url": "http://alerts.example/x", "senders": ["a"]}, "use https://"),
        ({"url": "file:///etc/passwd", "senders": ["a"]}, "write https://host/path"),
        ({"url": "https://alerts.example/x", "senders": []}, "senders"),
        ({"url": "https://alerts.example/x", "senders": ["a"], "evry_s": 3}, "evry_s"),
    ],
)
async def test_a_wrong_feed_is_refused_at_the_start(tmp_path: Path, feed: dict[str, Any], says: str) -> None:
    tables = {"node": {"profile": "bigevy", "data_dir": str(tmp_path)}, "feeds": {"x": feed}}
    with pytest.raises(ConfigError, match=says):
        await build(MemoryContext(Config(tables), Identity("hub", b"x", "0")))


async def test_the_actor_polls_by_itself(tmp_path: Path, office: Office) -> None:
    office.feeds["weather"].say(NOW)
    async with served(office) as port:
        feed = {"url": f"http://127.0.0.1:{port}/weather/index.xml", "senders": ["weather@met.example"]}
        tables = {"node": {"profile": "bigevy", "data_dir": str(tmp_path)}, "feeds": {"weather": feed}}
        context = MemoryContext(Config(tables), Identity("hub", b"x", "0"))
        actor = await build(context)
        running = asyncio.create_task(actor.tasks[0]())
        async with asyncio.timeout(10):
            while not context.published:
                await asyncio.sleep(0.01)
        running.cancel()
        await actor.close()
    assert context.published[0].subject == "down.hub.bulletin"
