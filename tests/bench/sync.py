"""Texts on their way to a node: octets of a change, and a thin link that is cut again and again.

The base is 700 of the English articles that EVY ships; the change is 20 articles: ten new ones, and ten of
the 700 whose text got another sentence, taken from an article that is in neither.
"""

import asyncio
import io
import re
import tarfile
import time
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from actors._bundles.arrive import MANIFEST, Check, Terms, apply, find, over_the_link, read_manifest
from actors._bundles.check import tried
from actors._bundles.manifest import BundleWaitError, Manifest
from actors._bundles.pack import LEVEL, Tree, changes, read_tree, whole
from actors._bundles.versions import Entry, Versions
from actors._bundles.workshop import Workshop
from actors._runtime.bus import NatsBus
from actors._runtime.objects import CHUNK_OCTETS, NatsObjects, Shelf
from actors._runtime.provision import Place, provision
from actors._runtime.server_files import join
from actors.knowledge import SHIPPED
from simulators.link import Link
from tests.bench.rows import Figure, Goal, Row, Setting, percentile
from tests.conftest import free_port
from tests.linked import Linked, Machine, provide, reaches_centre

BASE: Final = 700
CHANGED: Final = 20
RATE: Final = 50_000 / 8
CUTS: Final = 10
EDGE: Final = "e1"
PROBES: Final = 20
PLACE: Final = Place(EDGE, centre=True)
LONGEST: Final = 280
"""Septets of an article, with room for a rounding of its length in characters."""
_TEXT: Final = re.compile(r'^text = "(.*)"$', re.MULTILINE)


def texts(directory: Path, base: int = BASE) -> None:
    """Writes ``base`` shipped English articles and all sources: a centre's own texts."""
    left = base
    for path in [
        *sorted((SHIPPED / "articles").glob("*.toml")),
        *sorted((SHIPPED / "sources").glob("*.toml")),
    ]:
        head, *entries = path.read_text(encoding="utf-8").split("[[article]]")
        if path.parent.name == "articles":
            entries, left = entries[:left], left - len(entries[:left])
            if not entries:
                continue
        _write(directory / path.parent.name / path.name, "[[article]]".join([head, *entries]))


def change(directory: Path, count: int = CHANGED) -> None:
    """Changes half of ``count`` articles, in as many files as there are, and adds as many from behind the
    base."""
    paths = sorted((directory / "articles").glob("*.toml"))
    behind = [path for path in sorted((SHIPPED / "articles").glob("*.toml")) if path.name > paths[-1].name]
    spare = [
        (path, entry)
        for path in behind
        for entry in path.read_text(encoding="utf-8").split("[[article]]")[1:]
    ]
    half = count // 2
    said = [found[1] for _, entry in spare[half:] if (found := _TEXT.search(entry))]
    left = half
    for path, other in zip(cycle(paths), cycle(said), strict=False):
        if not left:
            break
        content = path.read_text(encoding="utf-8")
        for found in _TEXT.finditer(content):
            if mended := _mended(found[1], other):
                path.write_text(content[: found.start(1)] + mended + content[found.end(1) :], "utf-8")
                left -= 1
                break
    for path, entry in spare[:half]:
        new = directory / "articles" / f"new-{path.name}"
        if not new.exists():
            _write(new, path.read_text(encoding="utf-8").split("[[article]]")[0])
        with new.open("a", encoding="utf-8") as file:
            file.write(f"[[article]]{entry}")


def articles(tree: Tree) -> dict[str, str]:
    """The text of every article of a tree, by its id."""
    read = (tomllib.loads(content.decode()) for name, content in tree.items() if name.startswith("articles/"))
    return {entry["id"]: entry["text"] for table in read for entry in table["article"]}


def _mended(text: str, other: str) -> str:
    """A text with the first sentence of another one in place of its last one, where that fits; else empty.

    Sentences with numbers stay: `evy knowledge lint` holds them against other articles."""
    *kept, last = text.split(". ")
    new = other.split(". ", maxsplit=1)[0].rstrip(".")
    made = ". ".join([*kept, new]) + "."
    return made if kept and len(made) <= LONGEST and not any(map(str.isdigit, last + new)) else ""


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def octets(setting: Setting) -> list[Row]:
    """What a node fetches for 20 changed articles of 700, beside what else could be sent."""
    directory = setting.directory / "sync-octets"
    source = directory / "texts"
    linked = Linked(directory, edges=())
    workshop = Workshop(directory, linked.authority.account.public)
    texts(source)
    before = read_tree(source)
    workshop.build(source, linked.authority.sign_texts, now=0.0)
    change(source)
    made = workshop.build(source, linked.authority.sign_texts, now=0.0)
    assert made is not None  # it changed
    after = read_tree(source)
    changed = {name: after[name] for name in changes(after, before)}
    was, now = articles(before), articles(after)
    others = [name for name in now if was.get(name) != now[name]]
    assert (len(was), len(others)) == (BASE, CHANGED)  # what the row says
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in changed.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    sizes = {
        "sent": min(pack.octets for pack in made.parts[0].packs),
        "manifest": len(workshop.sealed(2)),
        "whole bundle": whole(after)[0].octets,
        "files .tar.gz": len(packed.getvalue()),
        "files zstd": len(zstandard.ZstdCompressor(level=LEVEL).compress(b"".join(changed.values()))),
        "files": sum(map(len, changed.values())),
    }
    return [
        Row(
            "sync-octets",
            f"{CHANGED} of {BASE} articles changed, on the way to a node",
            tuple(Figure(name, "octets", (float(size),)) for name, size in sizes.items()),
            (Goal("sent", 0.2 * sizes["files zstd"]),),
            (f"{len(changed)} files changed; a node fetches sent and manifest",),
        )
    ]


class World:
    """A centre, a node, and the link between them."""

    def __init__(self, directory: Path, linked: Linked, link: Link, hub: NatsBus, edge: NatsBus) -> None:
        self.linked = linked
        self.link = link
        self.hub = hub
        self.edge = edge
        self.source = directory / "texts"
        self.workshop = Workshop(directory / "hub1", linked.authority.account.public)
        self.versions = Versions(directory / EDGE)
        self.terms = Terms(linked.authority.account.public)
        self.objects = NatsObjects(edge, PLACE)
        self.arrived = 0
        """Chunks that came, over all tries."""

    async def publish(self) -> Manifest:
        """Builds what lies in ``source``, and publishes it."""
        made = self.workshop.build(self.source, self.linked.authority.sign_texts, now=time.time())
        assert made is not None  # the caller changed something
        await self.workshop.publish(Shelf(self.hub), made.version)
        return made

    async def look(self, check: Check = tried) -> Entry | None:
        """One try of a node to get what is published. Raises :class:`BundleWaitError`."""
        found = await find(self.objects, MANIFEST)
        assert found  # it was published
        sealed = await read_manifest(self.objects, found)
        get = over_the_link(self.objects, self.versions.incoming, self._told)
        return await apply(self.versions, sealed, self.terms, get, by="link", now=time.time(), check=check)

    def _told(self, _have: int, _of: int) -> None:
        self.arrived += 1

    async def with_cuts(self, cuts: int, chunks: int, check: Check = tried) -> tuple[Entry, int]:
        """Tries until it is applied, while the link is cut so often over so many chunks; gives the tries."""
        cutting = asyncio.create_task(self._cut(cuts, max(1, chunks // (cuts + 1))))
        tries = 0
        try:
            while True:
                tries += 1
                with suppress(BundleWaitError):
                    if entry := await self.look(check):
                        await cutting  # all of them came before the end
                        return entry, tries
                await asyncio.sleep(0.5)
        finally:
            cutting.cancel()

    async def _cut(self, cuts: int, every: int) -> None:
        for number in range(1, cuts + 1):
            while self.arrived < number * every:
                await asyncio.sleep(0.02)
            self.link.suffer("cut")
            await asyncio.sleep(0.5)
            self.link.heal()


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    """Servers of a centre and a node on a link of any rate; no actor runs."""
    linked = Linked(directory, edges=())
    async with AsyncExitStack() as stack:
        leaf = linked.authority.state.servers[0].leaf_port
        link = await stack.enter_async_context(Link(("127.0.0.1", 0), ("127.0.0.1", leaf)))
        bundle = linked.authority.enrol(EDGE)
        assert bundle.edge is not None  # it is a node's
        detour = msgspec.structs.replace(bundle.edge, urls=(f"tls://127.0.0.1:{link.address[1]}",))
        bundle, port = msgspec.structs.replace(bundle, edge=detour), free_port()
        linked.edges[EDGE] = Machine(join(directory / EDGE / "server", bundle, port=port), port)
        for machine in linked.machines:
            stack.callback(machine.stop)
            machine.start()
        hub = await linked.connect_hub()
        stack.push_async_callback(hub.close)
        await provision(hub.js, linked.place)
        edge = await linked.connect_edge(EDGE)
        stack.push_async_callback(edge.close)
        await provide(hub, linked.place, edge, EDGE)
        await reaches_centre(edge, EDGE)
        yield World(directory, linked, link, hub, edge)


class Thin(msgspec.Struct, frozen=True):
    """One bundle over 50 kbit/s, with flash answers beside it, and again with cuts."""

    octets: int
    straight_s: float
    cut_s: float
    tries: int
    twice: int
    """Chunks that came a second time."""
    applied: int
    alone_ms: list[float]
    beside_ms: list[float]


async def thin(directory: Path, base: int, cuts: int) -> Thin:
    """Fetches the whole bundle of some articles twice."""
    async with world(directory) as made:
        texts(made.source, base)
        [pack] = (await made.publish()).parts[0].packs
        chunks = -(-pack.octets // CHUNK_OCTETS)
        made.link.shape(rate=RATE, delay_s=0.05)
        alone: list[float] = []
        while len(alone) < PROBES:
            alone.append(await _flash(made))
        beside: list[float] = []
        began = time.monotonic()
        fetching = asyncio.create_task(made.with_cuts(0, chunks))
        while not fetching.done():
            beside.append(await _flash(made))
            await asyncio.sleep(0.5)
        await fetching
        straight_s = time.monotonic() - began
        made.arrived, made.versions = 0, Versions(directory / "again")
        began = time.monotonic()
        _, tries = await made.with_cuts(cuts, chunks)
        history = made.versions.state().history
        return Thin(
            pack.octets,
            straight_s,
            time.monotonic() - began,
            tries,
            made.arrived - chunks,
            sum(entry.what == "applied" for entry in history),
            alone,
            beside,
        )


async def _flash(made: World) -> float:
    """Milliseconds until an answer in the flash lane has come from the centre."""
    before = (await made.edge.js.stream_info(f"FLASH_{EDGE}")).state.last_seq
    began = time.monotonic()
    await made.hub.js.publish(f"down.{EDGE}.compress.flash", bytes(600))
    while (await made.edge.js.stream_info(f"FLASH_{EDGE}")).state.last_seq == before:  # polled
        await asyncio.sleep(0.01)
    return 1e3 * (time.monotonic() - began)


def measure(setting: Setting) -> list[Row]:
    """Octets, and the thin link; a quick run has no minutes for the link."""
    rows = octets(setting)
    if setting.quick:
        return [
            *rows,
            Row("sync-link", "a bundle over 50 kbit/s", skipped="it takes minutes: without --quick"),
        ]
    run = asyncio.run(thin(setting.directory / "sync-link", BASE, CUTS))
    figures = {
        "straight": ("s", run.straight_s),
        "cut": ("s", run.cut_s),
        "tries": ("", float(run.tries)),
        "applied": ("", float(run.applied)),
        "chunks twice": ("", float(run.twice)),
        "flash alone p50": ("ms", percentile(run.alone_ms, 50)),
        "flash beside p50": ("ms", percentile(run.beside_ms, 50)),
        "flash beside max": ("ms", max(run.beside_ms)),
    }
    return [
        *rows,
        Row(
            "sync-link",
            f"whole bundle of {BASE} articles over 50 kbit/s, straight and cut {CUTS} times",
            tuple(Figure(name, unit, (value,)) for name, (unit, value) in figures.items()),
            (Goal("applied", 1.0, at_least=True), Goal("chunks twice", 0.0)),
            (f"{run.octets} octets; flash: an answer of 600 octets from the centre, every half second",),
        ),
    ]
