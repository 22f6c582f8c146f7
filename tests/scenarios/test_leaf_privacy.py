"""What can be read on the leaf link: two edges and a centre in network namespaces, every byte captured.

Compression is off, and TLS too in the first test, so that the capture can see: it must see a rare word of the
question, and no number, name or address of the person who asked. Somebody at the centre listens to every
subject there is, so that what an edge would give away on request is given. With TLS not even the rare word
may be seen.
"""

import asyncio
import base64
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from actors._cli.stage import NODE_NUMBER, cache_directory
from actors._runtime.actor import Actor, Output
from actors._runtime.authority import Authority
from actors._runtime.bus import NatsBus
from actors._runtime.identity import Identity, load_identity
from actors._runtime.provision import Place, provision
from actors._runtime.server_files import HubServer, join
from actors._runtime.supervisor import nats_server_path
from actors._runtime.worker import run_actors
from simulators.control import Control, Log, Send
from simulators.network import Entry
from subjects import names
from subjects.messages import Event, Query, answer_to
from subjects.names import HUB
from tests.linked import provide, reaches_centre
from tests.scenarios.capture import Capture, packets, streams
from tests.scenarios.hosts import Host, Hosts

pytestmark = [pytest.mark.nats, pytest.mark.model]

ROOT = Path(__file__).resolve().parents[2]
PORT, LEAF_PORT, CLUSTER_PORT = 4222, 7422, 6222
READY_WITHIN_S = 60
ANSWER = "The centre says: lift the stone first."

CANARY = "quernstone"
PRIVATE_CANARY = "samovar"
PHONE = "+34600111222"
ANOTHER_PHONE = "+34600111333"
PRIVATE_PHONE = "+34600111444"
ASKED = (
    (
        f"My name is Maria Okonkwo, maria.okonkwo@example.org. How do I dress the {CANARY} of our mill? "
        "Call me: +34 655 333 444"
    ),
    f"Me llamo Itziar Etxeberria, itziar@example.org, tel 655 777 888. ¿Cómo se repara un {CANARY}?",
)
EMERGENCY = "HELP my brother Kwame Boateng is bleeding badly, his phone is +233 24 555 0199"
PRIVATE = f"My name is Wanjiku Kamau, 0722 555 019. How do I solder the tap of a {PRIVATE_CANARY}?"
OF_PERSONS = (
    *("Maria", "Okonkwo", "maria.okonkwo@example.org", "655 333 444", "655333444"),
    *("Itziar", "Etxeberria", "itziar@example.org", "655 777 888", "655777888"),
    *("Kwame", "Boateng", "24 555 0199", "245550199"),
    *("Wanjiku", "Kamau", "0722 555 019", "722555019"),
    *(number[3:] for number in (PHONE, ANOTHER_PHONE, PRIVATE_PHONE)),
)

CONFIGURATION = """\
[node]
name = "{node}"
data_dir = "{directory}"
nats_url = "nats://127.0.0.1:{port}"
node_only = {node_only}
answer_within_s = 20
processes = [
    ["sms"], ["intake", "route", "compress", "alert", "link", "rag", "infer_small", "bulletin", "mesh"]
]

[sms]
device = "{directory}/modem"
connection = "dku2at"
poll_interval_s = 0.05

[intake]
own_numbers = ["{own}"]

[rag]
index = "{cache}/index"
"""


def forms(word: str) -> Iterator[bytes]:
    """A word as it could stand in octets, other than plain: hexadecimal, UTF-16, base64 at any place."""
    for spelled in {word, word.lower(), word.upper()}:
        octets = spelled.encode()
        yield octets.hex().encode()
        yield spelled.encode("utf-16-le")
        for before in range(3):
            # The characters that depend on what stands before and after are left out.
            first, last = -(-before * 8 // 6), (before + len(octets)) * 8 // 6
            yield base64.b64encode(bytes(before) + octets)[first:last]


def found(capture: Path, words: Sequence[str]) -> list[str]:
    """Which words the capture has, in whatever case, in a frame or in what a connection said."""
    told = [*packets(capture), *streams(capture).values()]
    return [word for word in words if any(has(octets, word) for octets in told)]


def has(octets: bytes, word: str) -> bool:
    return word.lower().encode() in octets.lower() or any(form in octets for form in forms(word))


@pytest.mark.parametrize("before", range(4))
def test_a_word_is_found_in_every_form(before: int) -> None:
    octets = b"x" * before + CANARY.upper().encode() + b" and more"
    for spoken in (octets, octets.hex().encode(), base64.b64encode(octets), octets.decode().encode("utf-16")):
        assert has(spoken, CANARY), spoken
        assert not has(spoken, PRIVATE_CANARY), spoken


class Edge:
    """A whole node in a namespace, its simulated modem, and what happened there."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.directory = directory
        self.events: list[Event] = []
        self.bus: NatsBus
        self.control: Control

    async def text(self, number: str, text: str) -> None:
        await self.control.do(Send(number=number, text=text))

    async def log(self) -> Sequence[Entry]:
        return (await self.control.do(Log())).log or ()

    async def read_by(self, number: str, count: int = 1) -> list[str]:
        """Waits until a phone could read so many texts, and gives them."""
        texts: list[str] = []
        async with asyncio.timeout(READY_WITHIN_S):
            while len(texts) < count:
                await asyncio.sleep(0.1)
                texts = [e.text for e in await self.log() if e.what == "read" and e.number == number]
        return texts


class World:
    """The centre, the edges, and the questions that reached the centre."""

    def __init__(self, directory: Path, hosts: Hosts, *, tls: bool) -> None:
        self.directory = directory
        self.hosts = hosts
        self.tls = tls
        hub = HubServer("hub1", (hosts["hub1"].address,), PORT, LEAF_PORT, CLUSTER_PORT)
        self.authority = Authority.create(directory / "keys", [hub])
        self.place = Place(HUB, "bigevy")
        self.asked: list[Query] = []
        self.heard: set[str] = set()

    def serve(self, host: Host, configuration: Path) -> None:
        """Starts a nats-server; without TLS on its leaf link when this world has none."""
        text = configuration.read_text()
        head, leaf, rest = text.partition("leafnodes {")
        assert leaf, f"{configuration} has no leaf link"
        rest = re.sub("compression: .*", "compression: off", rest)
        if not self.tls:
            rest = re.sub(r"tls \{[^{}]*\}", "", rest)
            head = head.replace("tls://", "nats://")
            if "$EVY_CA" not in head + rest:  # the server refuses a value that nothing reads
                head = re.sub("EVY_CA: .*", "", head)
        used = configuration.with_name("used.conf")
        used.write_text(head + leaf + rest)
        log = configuration.parent.parent / "nats-server.log"
        host.popen([nats_server_path(), "-c", str(used), "-l", str(log)])

    def child(self, host: Host, log: Path, *command: str) -> None:
        with log.open("ab") as file:
            host.popen([sys.executable, "-m", *command], stdout=file, stderr=file, cwd=ROOT)

    async def connect(self, stack: AsyncExitStack, host: Host, identity: Identity) -> NatsBus:
        port = await stack.enter_async_context(host.door(PORT))
        async with asyncio.timeout(READY_WITHIN_S):
            bus = await NatsBus.connect(identity, f"nats://127.0.0.1:{port}", "test", wait_s=READY_WITHIN_S)
        stack.push_async_callback(bus.close)
        return bus

    async def centre(self, stack: AsyncExitStack) -> NatsBus:
        """The centre's server with its streams, somebody who listens to everything, and who answers."""
        host = self.hosts["hub1"]
        self.serve(host, join(self.directory / "hub1" / "server", self.authority.server_bundle("hub1")))
        keys = self.directory / "keys"
        identity = Identity(HUB, b"x" * 32, "0000", str(keys / "centre.creds"), str(keys / "ca.pem"))
        bus = await self.connect(stack, host, identity)
        await provision(bus.js, self.place)

        async def hear(message: object) -> None:
            self.heard.add(getattr(message, "subject", ""))

        await bus.client.subscribe(">", cb=hear)

        async def answer(query: Query) -> Sequence[Output]:
            self.asked.append(query)
            said = answer_to(query, "verbatim", ANSWER, by_centre=True)
            return (Output(names.down(query.node, names.COMPRESS), query.lane, said, query.id),)

        stop = asyncio.Event()
        running = asyncio.create_task(
            run_actors(bus, [Actor("infer_large", {names.INFER_LARGE: answer})], stop)
        )

        async def end() -> None:
            stop.set()
            await running

        stack.push_async_callback(end)
        return bus

    async def edge(self, stack: AsyncExitStack, hub: NatsBus, name: str, *, node_only: bool = False) -> Edge:
        """A node, linked and ready for texts."""
        host, directory = self.hosts[name], self.directory / name
        self.serve(host, join(directory / "server", self.authority.enrol(name), port=PORT))
        config = directory / "evy.toml"
        config.write_text(
            CONFIGURATION.format(
                node=name,
                directory=directory,
                port=PORT,
                node_only=str(node_only).lower(),
                own=NODE_NUMBER,
                cache=cache_directory(),
            )
        )
        edge = Edge(host, directory)
        control = directory / "control"
        self.child(
            host,
            directory / "modem.log",
            *("simulators.modem", "--link", f"{directory}/modem", "--control", str(control)),
        )
        edge.bus = await self.connect(stack, host, load_identity(name, directory))
        await reaches_centre(edge.bus, name)
        # What is taken from is made first: who takes from nothing looks again seconds later.
        for stream in self.place.streams_of(name):
            if not stream.sources:
                await hub.js.add_stream(stream)
        await provide(hub, self.place, edge.bus, name)

        async def note(event: Event) -> None:
            edge.events.append(event)

        stack.push_async_callback(await edge.bus.follow_events(note))
        async with asyncio.timeout(READY_WITHIN_S):
            while not control.exists():
                await asyncio.sleep(0.05)
            edge.control = await stack.enter_async_context(Control(control))
            self.child(host, directory / "up.log", "actors", "--config", str(config), "up")
            while not {"link_up", "modem_up"} <= {event.kind for event in edge.events}:
                await asyncio.sleep(0.1)
            while not await edge.bus.has_workers(Place(name, centre=True).rows()):
                await asyncio.sleep(0.1)
        return edge


def show_logs(directory: Path) -> None:
    for log in sorted(directory.glob("*/*.log")):
        print(f"--- {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-20:]))


@asynccontextmanager
async def world(directory: Path, hosts: Hosts, *, tls: bool) -> AsyncIterator[tuple[World, AsyncExitStack]]:
    async with AsyncExitStack() as stack:
        try:
            yield World(directory, hosts, tls=tls), stack
        except BaseException:
            show_logs(directory)
            raise


@pytest.mark.timeout(240)
async def test_nothing_of_a_person_can_be_read_on_the_leaf_link(hosts: Hosts, tmp_path: Path) -> None:
    async with world(tmp_path, hosts, tls=False) as (here, stack):
        hub = await here.centre(stack)
        one, private = tmp_path / "edge1.pcap", tmp_path / "edge2.pcap"
        with Capture(hosts["edge1"], one), Capture(hosts["edge2"], private):
            open_edge, closed_edge = await asyncio.gather(
                here.edge(stack, hub, "edge1"), here.edge(stack, hub, "edge2", node_only=True)
            )
            for number, text in zip((PHONE, ANOTHER_PHONE), ASKED, strict=True):
                await open_edge.text(number, text)
                assert any(ANSWER in said for said in await open_edge.read_by(number))
            await open_edge.text(PHONE, EMERGENCY)
            await closed_edge.text(PRIVATE_PHONE, PRIVATE)
            assert await closed_edge.read_by(PRIVATE_PHONE)
            assert await open_edge.read_by(PHONE, 2)
            for edge in (open_edge, closed_edge):  # a round trip: what was on its way has passed
                await reaches_centre(edge.bus, edge.host.name)

        assert [query.node for query in here.asked] == ["edge1", "edge1"]
        assert all(CANARY in query.text for query in here.asked)
        assert found(one, [CANARY, ANSWER]) == [CANARY, ANSWER], "the capture is blind"
        assert found(one, OF_PERSONS) == []

        ids = {event.query_id for event in closed_edge.events if event.query_id}
        ref = load_identity("edge2", closed_edge.directory).sender_ref(PRIVATE_PHONE)
        assert ids
        assert ref in {event.sender_ref for event in closed_edge.events}
        assert found(private, ["edge2", "DOWN_edge2"]) == ["edge2", "DOWN_edge2"], "the capture is blind"
        assert found(private, [*OF_PERSONS, PRIVATE_CANARY, "solder", ref, *ids]) == []


@pytest.mark.timeout(180)
async def test_with_tls_nothing_at_all_can_be_read(hosts: Hosts, tmp_path: Path) -> None:
    async with world(tmp_path, hosts, tls=True) as (here, stack):
        hub = await here.centre(stack)
        capture = tmp_path / "edge1.pcap"
        with Capture(hosts["edge1"], capture) as written:
            edge = await here.edge(stack, hub, "edge1")
            await edge.text(PHONE, ASKED[0])
            assert any(ANSWER in said for said in await edge.read_by(PHONE))
        assert CANARY in here.asked[0].text
        assert written.packets > 0
        told = streams(capture)
        assert any(flow.target_port == LEAF_PORT and len(said) > 1000 for flow, said in told.items())
        # The greeting, before TLS begins, is all that is in the clear.
        assert found(capture, [CANARY, ANSWER, "infer.large", "dlv.up", *OF_PERSONS]) == []
