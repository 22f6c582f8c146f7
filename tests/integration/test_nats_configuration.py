"""The files in nats/ against subjects/registry.py, on a server that runs them."""

import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import nats.errors
import pytest
from nats.js.api import PersistMode

from actors._runtime.actor import Output
from actors._runtime.bus import NatsBus
from actors._runtime.identity import Identity
from actors._runtime.server_files import shipped
from actors._runtime.supervisor import nats_configuration, nats_environment, nats_server_path
from subjects import link, names, registry
from subjects.errors import RefusedError
from subjects.messages import Event, Message
from tests.conftest import NODE, PLACE, free_port

pytestmark = pytest.mark.nats

NATS = nats_configuration().parent


@pytest.mark.parametrize("profile", ["lilevy", "hybrid"])
def test_a_node_without_a_centre_starts_on_the_shipped_file(tmp_path: Path, profile: str) -> None:
    done = subprocess.run(
        [nats_server_path(), "-t", "-c", str(nats_configuration(profile))],
        env=nats_environment(NODE, 4222, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_python_in_the_folder_that_shares_its_name_with_nats_py() -> None:
    assert list(NATS.rglob("*.py")) == []


def test_the_server_is_new_enough() -> None:
    """2.14 sources work queues; 2.15 has the answers that nats/limits.conf asks for."""
    done = subprocess.run([nats_server_path(), "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"v(\d+)\.(\d+)", done.stdout)
    assert version
    assert (int(version[1]), int(version[2])) >= (2, 15)


def test_every_work_subject_has_its_short_name() -> None:
    mapped = dict(
        re.findall(r'^\s*"([a-z.]+)": "([a-z.]+)"', (NATS / "mappings.conf").read_text(), re.MULTILINE)
    )
    assert mapped == {row.subject: names.work_subject(row.subject, "routine") for row in registry.WORK}


@pytest.mark.parametrize("profile", ["lilevy", "hybrid", "bigevy", "bigevy-cluster"])
def test_every_profile_has_what_the_design_asks_for(profile: str) -> None:
    text = shipped(f"{profile}.conf")
    jetstream = text[text.index("jetstream {") :]
    assert "\n  sync_interval: always\n" in jetstream[: jetstream.index("\n}")]
    assert '\nping_interval: "20s"\n' in text
    assert "\n  js_ack_fc_v2: false\n" in text
    assert "\n  js_api_reply_v2: true\n" in text


def test_what_is_local_never_crosses_the_link() -> None:
    lists = re.findall(r"^(deny_[a-z]+): (\[.*\])$", (NATS / "deny.conf").read_text(), re.MULTILINE)
    assert {name: tuple(json.loads(subjects)) for name, subjects in lists} == {
        "deny_imports": link.local_subjects(),
        "deny_exports": link.local_subjects(),
    }
    assert {f"{base}.>" for base in ("sms", "route", "rag", "compress", "alert", "mesh", "svc")} <= set(
        link.local_subjects()
    )


def test_an_edge_may_use_nothing_of_another_edge_or_of_the_centre() -> None:
    allowed = link.edge_permissions("e1")
    for subject in (*allowed.publish, *allowed.subscribe):
        # What the centre publishes for all of its nodes is the exception, and that may only be read.
        assert "e1" in subject or subject == "$JS.hub.API.STREAM.MSG.GET.OBJ_bundles"
    assert not [subject for subject in allowed.publish if "CREATE" in subject or "DELETE" in subject]


async def test_a_bare_subject_is_stored_as_routine(bus: NatsBus) -> None:
    for row in PLACE.rows():
        await bus.js.publish(row.subject, b"{}")
    info = await bus.js.stream_info(f"WORK_{NODE}", subjects_filter=">")
    assert info.state.subjects == {f"{row.subject}.routine": 1 for row in PLACE.rows()}


async def test_streams_are_what_the_registry_says(bus: NatsBus) -> None:
    held: list[str] = []
    for row in registry.STREAMS:
        if row.at not in {"node", "both"}:
            continue
        config = (await bus.js.stream_info(row.name.format(node=NODE))).config
        assert tuple(config.subjects or ()) == row.subjects
        assert config.duplicate_window == row.dedup_window_s
        assert (config.persist_mode == PersistMode.ASYNC) == (row.persist == "async")
        held += row.subjects
    assert len(held) == len(set(held))
    for work in PLACE.rows():
        assert {subject for _, subject in work.subjects()} <= set(held)
    info = await bus.client.request("$JS.API.INFO", b"")
    assert f'"domain":"{NODE}"'.encode() in info.data


@pytest.mark.parametrize("row", registry.WORK, ids=lambda row: row.subject)
def test_every_name_a_row_needs_is_unique_across_nodes(row: registry.Work) -> None:
    for lane in names.LANES:
        assert row.durable("a", lane) != row.durable("b", lane)
        assert row.stream("a", lane) != row.stream("b", lane)
    assert issubclass(row.message, Message)
    assert registry.work(f"{row.subject}.flash") is row


async def test_a_message_over_the_limit_is_refused_with_its_size(bus: NatsBus) -> None:
    event = Event(kind="x", node=NODE, actor="a", at=0.0, fields={"text": "x" * 2_000_000})
    with pytest.raises(RefusedError, match="2000072 octets, at most"):
        await bus.publish(Output(names.ROUTE, "routine", event, "q"), "test")


@pytest.mark.parametrize("version_2", [False, True])
async def test_the_client_lists_keys_with_acknowledgements_of_version_1_only(
    tmp_path: Path, *, version_2: bool
) -> None:
    """Why js_ack_fc_v2 is off. When this fails nats-py has learnt version 2: turn it on."""
    text = shipped("lilevy.conf").replace("js_ack_fc_v2: false", f"js_ack_fc_v2: {str(version_2).lower()}")
    (tmp_path / "node.conf").write_text(text)
    port = free_port()
    environment = {**os.environ, **nats_environment(NODE, port, tmp_path / "store")}
    process = subprocess.Popen(  # noqa: ASYNC220  # started, not awaited
        [nats_server_path(), "-c", str(tmp_path / "node.conf")], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        url = f"nats://127.0.0.1:{port}"
        bus = await NatsBus.connect(Identity(NODE, b"", ""), url, "test", wait_s=10)
        bucket = await bus.client.jetstream(timeout=2).create_key_value(bucket="b")
        await bucket.put("k", b"v")
        if version_2:  # the client's reader dies of the acknowledgement's subject
            with pytest.raises(nats.errors.TimeoutError):
                await bucket.keys()
        else:
            assert await bucket.keys() == ["k"]
        with suppress(nats.errors.Error):
            await bus.client.close()
    finally:
        process.terminate()
        process.wait(10)
