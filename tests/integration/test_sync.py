"""Texts from a centre to its node over a real link: cut, refused, told, and by the command line."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import date
from pathlib import Path

import nats.errors
import pytest
import pytest_asyncio
from click.testing import CliRunner, Result

from actors import sync as actor
from actors._bundles.arrive import MANIFEST, pack_name, rollback
from actors._bundles.manifest import BundleWaitError, seal
from actors._bundles.nodes import Nodes
from actors._cli import evy
from actors._runtime.claims import Key
from actors._runtime.config import Config
from actors._runtime.context import BusContext
from actors._runtime.objects import CHUNK_OCTETS, Shelf
from actors._runtime.worker import run_actors
from subjects.node_state import NodeState
from subjects.registry import BUNDLES
from tests.bench.sync import EDGE, World, change, texts, world

pytestmark = [pytest.mark.nats, pytest.mark.asyncio(loop_scope="module")]


async def well(_folders: Sequence[Path], _today: date) -> list[str]:
    """Lint is tried elsewhere."""
    return []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One centre and one node for all tests, in their order: later ones go on from what earlier ones left."""
    async with world(tmp_path_factory.mktemp("sync")) as running:
        texts(running.source, 200)
        yield running


async def test_cut_again_and_again_it_is_applied_once_and_whole(made: World) -> None:
    [pack] = (await made.publish()).parts[0].packs
    chunks = -(-pack.octets // CHUNK_OCTETS)
    assert chunks > 5
    entry, tries = await made.with_cuts(2, chunks, well)
    assert (entry.what, entry.version, entry.octets) == ("applied", 1, pack.octets)
    assert tries >= 2
    assert made.arrived == chunks  # none came twice
    now = made.versions.current()
    assert now
    assert set(made.versions.trees(now)) == {""}
    assert await made.look(well) is None
    assert [each.what for each in made.versions.state().history] == ["applied"]


async def test_only_what_changed_comes(made: World) -> None:
    change(made.source)
    manifest = await made.publish()
    smallest = min(pack.octets for pack in manifest.parts[0].packs)
    assert smallest < 0.5 * max(pack.octets for pack in manifest.parts[0].packs)
    entry = await made.look(well)
    assert entry
    assert (entry.version, entry.octets) == (2, smallest)


async def test_the_node_may_read_and_do_nothing_else(made: World) -> None:
    for call in (
        f"STREAM.PURGE.{BUNDLES.name}",
        f"STREAM.MSG.DELETE.{BUNDLES.name}",
        f"STREAM.INFO.{BUNDLES.name}",
    ):
        with pytest.raises((nats.errors.NoRespondersError, nats.errors.TimeoutError)):
            await made.edge.client.request(f"$JS.hub.API.{call}", b"{}", timeout=0.5)
    before = (await made.hub.js.stream_info(BUNDLES.name)).state.last_seq
    await made.edge.client.publish("$O.bundles.C.x", b"from a node")
    await made.edge.client.flush()
    await made.hub.js.stream_info(BUNDLES.name)
    assert (await made.hub.js.stream_info(BUNDLES.name)).state.last_seq == before


async def test_what_is_wrong_is_refused_and_the_centre_learns_it(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = NodeState(node=EDGE, link="up")
    monkeypatch.setattr(BusContext, "node_state", lambda _: lambda: state)
    table = {"name": EDGE, "centre": True, "data_dir": str(made.versions.directory.parent)}
    node = await actor.build(BusContext(Config({"node": table}), made.edge))
    table = {"profile": "bigevy", "data_dir": str(made.linked.directory / "hub1")}
    centre = await actor.build(BusContext(Config({"node": table}), made.hub))
    stranger = Key.create("account")
    forged = seal(made.workshop.manifest(2), stranger.sign_octets)
    await Shelf(made.hub).put(MANIFEST, forged)
    stop = asyncio.Event()
    running = [
        asyncio.create_task(run_actors(made.edge, [node], stop)),
        asyncio.create_task(run_actors(made.hub, [centre], stop)),
    ]
    nodes = Nodes(made.linked.directory / "hub1")
    try:
        async with asyncio.timeout(30):
            while nodes.all().get(EDGE) is None or nodes.all()[EDGE].state != "refused":
                await asyncio.sleep(0.1)
    finally:
        stop.set()
        await asyncio.gather(*running)
    told = nodes.all()[EDGE]
    assert (told.version, told.state) == (2, "refused")
    assert "bad signature" in told.reason


async def test_what_is_damaged_at_the_centre_is_refused_and_mended_by_publishing(made: World) -> None:
    texts(made.source, 150)
    manifest = await made.publish()
    pack = min(manifest.parts[0].packs, key=lambda pack: pack.octets)
    shelf = Shelf(made.hub)
    octets = made.workshop.pack(pack)
    await shelf.put(pack_name(pack), octets[:-1] + bytes([octets[-1] ^ 1]))
    with pytest.raises(BundleWaitError, match="wrong checksum"):
        await made.look(well)
    refused = await made.look(well)
    assert refused
    assert (refused.what, refused.was) == ("refused", 2)
    assert "wrong checksum" in refused.reason
    # Something else than a manifest where it is expected, as an edge's stolen key could put there (K3).
    await made.hub.js.publish("$O.bundles.M.bWFuaWZlc3Q=", b"junk")
    put = await made.workshop.publish(shelf, 3)
    assert put == [pack_name(pack), MANIFEST]


async def test_by_the_command_line(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evy_at(place: str, *arguments: str) -> Result:
        return CliRunner().invoke(evy, ["--config", str(tmp_path / f"{place}.toml"), "sync", *arguments])

    async def run(place: str, *arguments: str) -> str:
        result = await asyncio.to_thread(evy_at, place, *arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    monkeypatch.setattr("actors._cli.sync.tried", well)
    for place, name, port in (
        ("node", EDGE, made.linked.edges[EDGE].port),
        ("hub1", "hub", made.linked.hubs["hub1"].port),
    ):
        data = made.linked.directory / (EDGE if place == "node" else place)
        profile, scheme = ("lilevy", "nats") if place == "node" else ("bigevy", "tls")
        (tmp_path / f"{place}.toml").write_text(
            f'[node]\nname = "{name}"\nprofile = "{profile}"\ndata_dir = "{data}"\n'
            f'nats_url = "{scheme}://127.0.0.1:{port}"\n'
        )
    change(made.source)
    keys = str(made.linked.directory / "keys")
    out = await run("hub1", "build", str(made.source), "--keys", keys, "--critical", "--note", "cholera")
    assert "version 4, critical" in out
    assert "nothing changed" in await run("hub1", "build", str(made.source), "--keys", keys)
    assert "version 4 is published" in await run("hub1", "publish")
    assert "as before" in await run("hub1", "publish")
    assert "version 4 is in use, was 2" in await run("node", "pull")  # through lint, in a process of its own
    assert "version 4 is in use already" in await run("node", "pull")
    assert "version 2 is in use, was 4" in await run("node", "rollback")
    status = json.loads(await run("node", "status", "--json"))
    assert (status["version"], status["highest"], status["kept"]) == (2, 4, [1, 2, 4])
    assert "rolled_back version 2 (was 4) by command" in await run("node", "history")
    stick = str(tmp_path / "texts.evy")
    assert "version 4" in await run("hub1", "export", stick)
    status = json.loads(await run("hub1", "status", "--json"))
    assert (status["published"], status["nodes"][0]["node"]) == (4, EDGE)
    forgery = tmp_path / "forged.evy"
    forged(Path(stick), forgery)
    result = await asyncio.to_thread(evy_at, "node", "apply", str(forgery))
    assert "bad signature" in str(result.exception)
    assert made.versions.current()
    rollback(made.versions, 0, by="test", now=0.0)
    assert made.versions.current() is None


def forged(stick: Path, forgery: Path) -> None:
    """A stick with one letter of the signed manifest changed."""
    octets = stick.read_bytes()
    at = octets.index(b'"manifest":"') + 40
    forgery.write_bytes(octets[:at] + (b"A" if octets[at : at + 1] != b"A" else b"B") + octets[at + 1 :])
