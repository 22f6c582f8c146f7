"""`evy dlq` on a real server: dead letters shown, mended, replayed, dropped."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result

from actors._cli import evy
from actors._runtime import clock
from actors._runtime.bus import MSG_ID, TRACEPARENT, NatsBus
from actors._runtime.identity import Identity, load_identity
from actors._runtime.letters import Letters, NoLetterError
from actors._runtime.provision import provision
from subjects.errors import EvyError
from subjects.messages import DeadLetter, InboundSms, Query, encode
from tests.conftest import NODE, PLACE, Server
from tests.linked import Linked, holds, running

pytestmark = pytest.mark.nats

R = TypeVar("R")
TRACE = "0af7651916cd43dd8448eb211c80319c"
NUMBER = "+34600111222"
TEXT = "my well smells of diesel, is Maria Lopez safe"


class Node:
    """A node's server and its command line."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.toml = directory / "evy.toml"
        self.toml.write_text(
            f'[node]\nname = "{NODE}"\ndata_dir = "{directory}/data"\nnats_url = "{server.url}"\n'
        )
        self._url = server.url
        self._identity: Identity = load_identity(NODE, directory / "data")

    def on_bus(self, work: Callable[[NatsBus], Awaitable[R]]) -> R:
        async def main() -> R:
            bus = await NatsBus.connect(self._identity, self._url, "test", wait_s=20)
            try:
                await provision(bus.js, PLACE)
                return await work(bus)
            finally:
                await bus.close()

        return asyncio.run(main())

    def evy(self, *arguments: str, stdin: bytes = b"") -> Result:
        done = CliRunner().invoke(evy, ["--config", str(self.toml), *arguments], input=stdin)
        if isinstance(done.exception, EvyError):
            raise done.exception
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.evy(*arguments, "--json").stdout)

    def lost(self, subject: str, payload: bytes, error: str = "a bug", **fields: Any) -> None:
        """Keeps a dead letter as the worker does."""
        letter = DeadLetter(
            subject=subject,
            payload=payload,
            headers={MSG_ID: f"first.{subject}", TRACEPARENT: f"00-{TRACE}-b7ad6b7169203331-01"},
            **{"error": error, "actor": "route", "node": NODE, "deliveries": 6, "at": time.time(), **fields},
        )
        self.on_bus(lambda bus: bus.dead_letter(letter))

    def waiting(self) -> dict[str, int]:
        """Messages of work by subject."""

        async def look(bus: NatsBus) -> dict[str, int]:
            found: dict[str, int] = {}
            for stream in ("FLASH", "WORK"):
                info = await bus.js.stream_info(f"{stream}_{NODE}", subjects_filter=">")
                found |= info.state.subjects or {}
            return found

        return self.on_bus(look)


@pytest.fixture
def node(tmp_path: Path, server: Server) -> Node:
    return Node(tmp_path, server)


def query(name: str = "q1") -> bytes:
    return encode(
        Query(
            id=name,
            node=NODE,
            sender_ref="a" * 20,
            text=TEXT,
            lang="en",
            lane="routine",
            deadline=clock.deadline_in(15),
        )
    )


def test_a_letter_is_shown_without_what_is_personal(node: Node) -> None:
    inbound = InboundSms(
        id="q1", node=NODE, sender=NUMBER, text=TEXT, lane="routine", deadline=clock.deadline_in(1)
    )
    node.lost("sms.in.routine", encode(inbound), error=f"ValueError: {NUMBER} wrote")
    for shown in (node.evy("dlq", "show", "1").stdout, node.evy("dlq", "ls").stdout):
        assert NUMBER not in shown
        assert "600111222" not in shown
        assert "diesel" not in shown
        assert "sms.in.routine" in shown
        assert "ValueError" in shown
    shown = node.evy("dlq", "show", "1").stdout
    assert TRACE in shown
    assert f"<{len(TEXT)} characters>" in shown
    assert "evy dlq replay 1" in shown
    full = node.evy("dlq", "show", "1", "--full").stdout
    assert NUMBER in full
    assert "diesel" in full
    row = node.json("dlq", "show", "1")
    assert (row["deliveries"], row["query"], row["payload"]["id"]) == (6, "q1", "q1")
    assert row["payload"]["sender"] == "<12 characters>"


def test_what_is_no_json_and_what_is_no_letter_are_shown_too(node: Node) -> None:
    node.lost("route.routine", b"\xff{not json", error="not a Query (10 octets): JSON is malformed")
    node.on_bus(lambda bus: bus.js.publish("dlq.by.hand", b"hello"))
    first, second = node.json("dlq", "ls")
    assert (first["subject"], second["subject"]) == ("route.routine", "by.hand")
    shown = node.evy("dlq", "show", "1").stdout
    assert "<10 octets, not JSON>" in shown
    assert "--payload FILE" in shown
    assert "drop 2" in node.evy("dlq", "show", "2").stdout
    assert CliRunner().invoke(evy, ["--config", str(node.toml), "dlq", "replay", "2"]).exit_code == 1
    assert node.evy("dlq", "show", "1", "--payload").stdout_bytes == b"\xff{not json"


def test_replay_puts_it_back_once_although_the_stream_remembers_the_first(node: Node) -> None:
    sent = json.loads(query())

    async def first(bus: NatsBus) -> None:
        """The message goes through with its own id, which the stream now remembers for two hours."""
        await bus.js.publish("route.routine", query(), headers={MSG_ID: "first.route.routine"})
        await bus.js.purge_stream(f"WORK_{NODE}")

    node.on_bus(first)
    node.lost("route.routine", query())
    done = node.evy("dlq", "replay", "1")
    assert done.exit_code == 0, done.output
    assert "1: put back on route.routine" in done.stdout
    assert node.waiting() == {"route.routine": 1}
    with pytest.raises(NoLetterError, match="no dead letter 1"):
        node.evy("dlq", "replay", "1")

    async def look(bus: NatsBus) -> tuple[Any, dict[str, str]]:
        raw = await bus.js.get_last_msg(f"WORK_{NODE}", "route.routine")
        return json.loads(raw.data or b""), raw.headers or {}

    payload, headers = node.on_bus(look)
    assert payload == {**sent, "deadline": payload["deadline"]}
    assert TRACE in headers[TRACEPARENT]


def test_a_replay_that_died_before_the_letter_was_removed_is_not_doubled(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.lost("route.routine", query())

    async def died(*_: object) -> None:
        raise EvyError("kill -9")

    with monkeypatch.context() as patch:
        patch.setattr(Letters, "drop", died)
        with pytest.raises(EvyError, match="kill -9"):
            node.evy("dlq", "replay", "1")
    done = node.evy("dlq", "replay", "1")
    assert "1: was put back on route.routine before" in done.stdout
    assert node.waiting() == {"route.routine": 1}
    assert node.json("dlq", "ls") == []


def test_a_mended_message_is_checked_before_it_goes_back(node: Node, tmp_path: Path) -> None:
    node.lost("route.routine", b"{broken", error="not a Query")
    done = CliRunner().invoke(evy, ["--config", str(node.toml), "dlq", "replay", "1"])
    assert done.exit_code == 1
    assert "not a Query" in done.stderr
    (tmp_path / "wrong").write_bytes(b'{"v":1}')
    done = node.evy("dlq", "replay", "1", "--payload", str(tmp_path / "wrong"))
    assert done.exit_code == 1
    assert "missing required field" in done.stderr
    assert len(node.json("dlq", "ls")) == 1
    done = node.evy("dlq", "replay", "1", "--payload", "-", stdin=query("mended"))
    assert done.exit_code == 0, done.output
    assert node.waiting() == {"route.routine": 1}
    assert node.json("dlq", "ls") == []


def test_an_editor_mends_a_message(node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    node.lost("rag.flash", query().replace(b'"lang"', b'"lank"'), error="not a Query")
    script = tmp_path / "editor"
    script.write_text('#!/bin/sh\nsed -i s/lank/lang/ "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    done = node.evy("dlq", "replay", "1", "--edit")
    assert done.exit_code == 0, done.output
    assert node.waiting() == {"rag.flash": 1}


def test_filters_choose_and_nothing_is_dropped_without_a_word(node: Node) -> None:
    node.lost("route.routine", query("a"))
    node.lost("rag.routine", query("b"), actor="rag")
    node.lost("rag.flash", query("c"), actor="rag", at=time.time() - 7200)
    node.lost("compress.routine", b"{}", actor="compress")

    def ids(*arguments: str) -> list[int]:
        return [row["id"] for row in node.json("dlq", "ls", *arguments)]

    assert ids() == [1, 2, 3, 4]
    assert ids("--subject", "rag") == [2, 3]
    assert ids("--subject", "rag.flash") == [3]
    assert ids("--actor", "route") == [1]
    assert ids("--older", "1h") == [3]
    assert ids("--newer", "90m", "--actor", "rag") == [2]
    with pytest.raises(EvyError, match="Say --yes"):
        node.evy("dlq", "drop", "1")
    assert "give the ids" in node.evy("dlq", "drop").stderr
    assert "filters go with --all" in node.evy("dlq", "drop", "1", "--actor", "rag").stderr
    assert "is no age" in node.evy("dlq", "ls", "--older", "soon").stderr
    assert node.evy("dlq", "drop", "1", "--yes").stdout == "1: dropped\n"
    done = node.evy("dlq", "replay", "--all", "--yes")
    assert done.exit_code == 1  # one of them cannot be read
    assert ids() == [4]
    assert node.waiting() == {"rag.routine": 1, "rag.flash": 1}
    assert node.evy("dlq", "drop", "--all", "--yes").stdout == "4: dropped\n"
    assert "no dead letter\n" in node.evy("dlq", "ls").stdout


def test_what_the_ledger_has_forgotten_needs_a_word(node: Node) -> None:
    node.lost("route.routine", query(), at=time.time() - 31 * 86400)
    done = node.evy("dlq", "replay", "1")
    assert done.exit_code == 1
    assert "--force" in done.stderr
    assert node.evy("dlq", "replay", "1", "--force").exit_code == 0


def test_the_largest_message_of_work_still_fits_into_a_letter(node: Node) -> None:
    """What may wait in a work queue must be storable as a dead letter, or it would come back for ever."""

    async def publish(bus: NatsBus, octets: int) -> str:
        try:
            await bus.js.publish("route.routine", b"x" * octets)
        except Exception as error:  # noqa: BLE001  # its text is what is looked at
            return str(error)
        return ""

    assert "message size exceeds maximum" in node.on_bus(lambda bus: publish(bus, 600_000))
    assert node.on_bus(lambda bus: publish(bus, 500_000)) == ""
    node.lost("route.routine", b"\xff" * 500_000)
    assert node.json("dlq", "ls")[0]["octets"] == 500_000

    def long(bus: NatsBus) -> Awaitable[None]:
        headers = {MSG_ID: "long", "Junk": "\x01" * 400_000}
        letter = DeadLetter(
            subject="rag.flash",
            payload=b"\xff" * 500_000,
            headers=headers,
            error="é" * 500_000,
            actor="rag",
            node=NODE,
            deliveries=6,
            at=time.time(),
        )
        return bus.dead_letter(letter)

    node.on_bus(long)
    row = node.json("dlq", "show", "2")
    assert (row["octets"], list(row["headers"])) == (500_000, [MSG_ID])


async def test_a_letter_of_the_centre_goes_back_to_the_node_it_came_from(tmp_path: Path) -> None:
    linked = Linked(tmp_path, edges=("e1",))
    async with running(linked) as (hub, _):
        letter = DeadLetter(
            subject="infer.large.e1.flash",
            payload=query(),
            headers={},
            error="a bug",
            actor="infer_large",
            node="hub",
            deliveries=3,
            at=time.time(),
        )
        await hub.dead_letter(letter)
        letters = Letters(hub)
        [found] = [each async for each in letters.every()]
        assert found.refuses(query()) == ""
        assert await letters.replay(found, query())
        await holds(hub, "IN_e1", 1)
        assert [each async for each in letters.every()] == []
