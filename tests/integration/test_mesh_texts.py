"""What is new in the centre's texts, by mesh between nodes on real nats-servers, to a person's question."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors._bundles.arrive import Terms, apply
from actors._bundles.manifest import Pack
from actors._bundles.versions import Versions
from actors._bundles.workshop import Workshop
from actors._retrieval.index import KnowledgeIndex
from actors._runtime.claims import Key
from actors.knowledge import Texts, bundled
from actors.rag.library import look, watch
from subjects.mesh import MeshTexts
from subjects.messages import Event
from tests.integration.test_mesh import Node, line, question

pytestmark = [pytest.mark.nats, pytest.mark.model, pytest.mark.timeout(400)]

TAPS = (
    ("tap", "Solder a tap", "how do i solder the tap of a cistern"),
    ("pump", "Prime a pump", "how do i prime the hand pump of a well"),
    ("filter", "Wash a sand filter", "how do i wash the sand filter of a tank"),
)
BEFORE = ("Ask a neighbour who can do it.",) * 3
AFTER = (
    "Shut the water off. Brush flux on clean copper, heat it until the solder runs around, let it cool.",
    "Pour two litres into the top, hold a wet rag over the spout, lift the lever until water comes.",
    "Stir only the upper five centimetres by hand, scoop off the muddy part, rinse twice, keep the gravel.",
)


def taps(texts: Sequence[str]) -> str:
    """Three articles of a centre."""
    head = 'lang = "en"\narea = "water"\nsource = "cdc-water"\n'
    head += 'review = { author = "tests", reviewed_on = 2026-11-01, state = "reviewed" }\n'
    return head + "".join(
        f'[[article]]\nid = "{name}-work"\ntitle = "{title}"\nquestions = ["{asked}", "{asked} fast"]\n'
        f'tags = ["{name}", "water"]\ntext = "{text}"\n'
        for (name, title, asked), text in zip(TAPS, texts, strict=True)
    )


KEY = Key.create("account")


class Member(Node):
    """A node whose articles are its centre's, which it takes up while it runs."""

    async def start(self, stack: AsyncExitStack, knows: str, **tables: Any) -> None:
        await super().start(stack, knows, sync={"key": KEY.public}, **tables)

    def index(self, _knows: str) -> KnowledgeIndex:
        known = Texts.of_node(self.directory, "112").articles()
        mine = [article for article in known if article.id.endswith("-work")]
        return KnowledgeIndex.open(self.directory / "index", Texts([], {}, mine, [], {}))

    async def _rag(self, knows: str) -> Any:
        def told(kind: str, _fields: object) -> None:
            self.context.emit(Event(kind=kind, node=self.name, actor="rag", at=1.0))

        def folders() -> Sequence[Path]:
            return bundled(self.directory)

        seen = look(folders())
        actor = await super()._rag(knows)
        renew = partial(
            watch, self.library, folders, partial(self.index, knows), told, seen=seen, every_s=0.2
        )
        return dataclasses.replace(actor, tasks=(*actor.tasks, renew))


async def brought(tmp_path: Path, versions: Mapping[str, Sequence[int]]) -> None:
    """Gives nodes versions of a centre's texts by stick: 1 is :data:`BEFORE`, 2 :data:`AFTER`."""
    source, workshop = tmp_path / "source", Workshop(tmp_path / "centre", KEY.public)
    (source / "articles").mkdir(parents=True)
    for texts in (BEFORE, AFTER):
        (source / "articles" / "taps.toml").write_text(taps(texts), encoding="utf-8")
        workshop.build(source, KEY.sign_octets, now=1.795e9)

    async def get(pack: Pack) -> bytes:
        return workshop.pack(pack)

    async def well(*_: object) -> list[str]:
        return []  # what comes by mesh is tried as at a node

    for name, numbers in versions.items():
        for number in numbers:
            sealed, terms = workshop.sealed(number), Terms(KEY.public)
            here = Versions(tmp_path / name)
            done = await apply(here, sealed, terms, get, by="stick", now=1.795e9, check=well)
            assert done
            assert done.what == "applied"


async def test_what_is_new_comes_by_mesh_from_two_neighbours_of_which_one_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody here has a link. The node between the two asks one, which falls silent in the middle; the other
    one goes on from there; then a person is answered with the new text."""
    monkeypatch.setattr("actors.mesh.LOOK_EVERY_S", 0.2)
    for where in ("newer", "giving"):
        monkeypatch.setattr(f"actors.mesh.{where}.LOOK_S", 0.1)
    monkeypatch.setattr("actors.mesh.spare.MESSAGE_FRAMES", 1)
    knows = {"upper": "", "village": "taps", "lower": ""}
    await brought(tmp_path, {"upper": (1, 2), "village": (1,), "lower": (1, 2)})
    pieces: list[str] = []
    mute = True

    def cut(node: Node) -> Callable[[bytes], bool]:
        def lost(frame: bytes) -> bool:
            dead = pieces[:1] == [node.name]
            if len(frame) > 60 and frame[3] in {2, 255}:  # to the village, or on its way there unknown yet
                pieces.append(node.name)
            return mute or dead

        return lost

    def made(name: str, *of: Any) -> Node:
        node = Member(name, *of)
        if name != "village":
            node.radio.lost = cut(node)
        return node

    async with line(tmp_path, knows, make=made) as [_, village, _]:
        await village.context.publish(question(village), "test")
        assert "Ask a neighbour" in (await village.texts(1))[0].text
        mute = False
        await village.until(lambda: "mesh_texts_asked" in village.kinds())
        await village.until(lambda: len(set(pieces)) == 2, 110)
        texts = (await village.status()).texts
        assert texts
        assert (texts.version, texts.newer, texts.by_stick) == (1, 2, False)
        await village.until(lambda: Versions(village.directory).current().version == 2, 110)  # type: ignore[union-attr]
        asked = [event.fields for event in village.events if event.kind == "mesh_texts_asked"]
        assert {fields["name"] for fields in asked} == {"upper", "lower"}
        assert asked[0]["offset"] == 0
        assert asked[-1]["offset"] > 0
        await village.until(lambda: "knowledge_renewed" in village.kinds())
        await village.context.publish(question(village, "b" * 32), "test")
        assert "Brush flux on clean copper" in (await village.texts(2))[-1].text
        assert (await village.status()).texts == MeshTexts(2)
