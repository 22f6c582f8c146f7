"""What an edge's credential opens at the centre, tried with a client and with servers that keep no rule."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from actors._runtime.accounts import publish_account
from actors._runtime.bus import NatsBus
from actors._runtime.supervisor import nats_server_path
from subjects import names
from subjects.link import edge_permissions
from subjects.registry import BUNDLES
from tests.conftest import free_port
from tests.linked import Linked, holds, reaches_centre, running

pytestmark = pytest.mark.nats

SECRET = b"what e2's people write"
READ = f"$JS.hub.API.STREAM.MSG.GET.{BUNDLES.name}"
"""The one request about another stream than its own that a node may make."""


async def quiet(_: Exception) -> None:
    """The server's complaints are what these tests provoke."""


@asynccontextmanager
async def rogue_server(
    linked: Linked, hub: NatsBus, edge: str, domain: str, others: Sequence[str]
) -> AsyncIterator[Client]:
    """A leaf without deny lists on an edge's stolen credential, and a client on it that may do all there.

    ``others`` are the edges that stay connected.
    """
    directory = linked.directory
    own = linked.edges[edge].configuration.parent
    port = free_port()
    (directory / "rogue.conf").write_text(
        f"""
        server_name: rogue
        host: 127.0.0.1
        port: {port}
        {f'jetstream {{ domain: "{domain}", store_dir: "{directory}/rogue" }}' if domain else ""}
        leafnodes {{ remotes: [ {{
          url: "{linked.leaf_url}"
          credentials: "{own}/hub.creds"
          tls {{ ca_file: "{own}/ca.pem" }}
        }} ] }}
        """
    )
    command = [nats_server_path(), "-c", str(directory / "rogue.conf"), "-l", str(directory / "rogue.log")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: ASYNC220  # started, not awaited
    client = Client()
    try:
        async with asyncio.timeout(20):
            while not client.is_connected:
                with suppress(nats.errors.Error, OSError):
                    await client.connect(
                        f"nats://127.0.0.1:{port}",
                        allow_reconnect=False,
                        inbox_prefix=f"_INBOX.{edge}",
                        error_cb=quiet,
                    )
        await leaves(linked, hub, {"rogue", *others})
        yield client
    finally:
        await client.close()
        process.terminate()
        process.wait(10)


def forbidden(stream: str, durable: str) -> Sequence[str]:
    """Requests about a stream at the centre that would read, change or remove it."""
    calls = [
        f"STREAM.DELETE.{stream}",
        f"STREAM.PURGE.{stream}",
        f"STREAM.UPDATE.{stream}",
        f"STREAM.MSG.GET.{stream}",
        f"STREAM.MSG.DELETE.{stream}",
        f"DIRECT.GET.{stream}",
        f"CONSUMER.CREATE.{stream}",
        f"CONSUMER.CREATE.{stream}.spy",
        f"CONSUMER.DURABLE.CREATE.{stream}.spy",
        f"CONSUMER.DELETE.{stream}.{durable}",
        f"CONSUMER.MSG.NEXT.{stream}.{durable}",
        f"CONSUMER.INFO.{stream}.{durable}",
    ]
    return [f"{api}.{call}" for api in ("$JS.hub.API", "$JS.API") for call in calls]


async def state_of(hub: NatsBus) -> dict[str, tuple[object, ...]]:
    """Streams of the centre with their configuration, messages and consumers."""
    found: dict[str, tuple[object, ...]] = {}
    for info in await hub.js.streams_info():
        name = info.config.name or ""
        consumers = sorted(each.name for each in await hub.js.consumers_info(name))
        found[name] = (str(info.config), info.state.messages, info.state.last_seq, consumers)
    return found


async def test_a_client_cannot_log_in_with_an_edges_credential(tmp_path: Path) -> None:
    async with running(Linked(tmp_path, edges=("e1",))) as (hub, _):
        own = tmp_path / "e1" / "server"
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization|no servers"):
            await nats.connect(
                hub.client.connected_url.geturl(),
                user_credentials=str(own / "hub.creds"),
                tls=ssl.create_default_context(cafile=str(own / "ca.pem")),
                allow_reconnect=False,
                error_cb=quiet,
            )


@pytest.mark.parametrize("domain", ["", "e2", "hub"])
async def test_a_stolen_credential_opens_nothing_of_others(tmp_path: Path, domain: str) -> None:
    linked = Linked(tmp_path)
    async with running(linked) as (hub, edges):
        linked.edges["e1"].stop()  # the thief has its place
        await hub.js.publish("down.e1.compress.routine", b"for e1")
        async with rogue_server(linked, hub, "e1", domain, ["e2"]) as rogue:
            overheard: list[Msg] = []

            async def hear(msg: Msg) -> None:
                overheard.append(msg)

            at_centre: list[Msg] = []

            async def arrive(msg: Msg) -> None:
                at_centre.append(msg)

            await rogue.subscribe(">", cb=hear)
            for subject in (
                "dlv.down.e2.WORK_e2",
                "dlv.>",
                "sms.in.*",
                "infer.large.>",
                "$JSC.R.>",
                "_INBOX.>",
            ):
                await rogue.subscribe(subject, cb=hear)
            await rogue.flush()
            await hub.client.subscribe(">", cb=arrive)

            # What others do meanwhile must stay theirs.
            for lane in names.LANES:
                await edges["e2"].js.publish(f"infer.large.{lane}", SECRET)
                await hub.js.publish(f"down.e2.compress.{lane}", SECRET)
                await hub.client.publish(f"sms.in.{lane}", SECRET)
                await edges["e2"].client.publish(f"evt.{lane}", SECRET)
            await holds(hub, "IN_e2", 3)
            await holds(edges["e2"], "WORK_e2", 2)
            before = await state_of(hub)

            # What the thief tries.
            attempts = [
                *forbidden("DOWN_e1", "WORK_e1"),
                *forbidden("IN_e1", "e1_infer_large_flash"),
                *forbidden("DOWN_e2", "WORK_e2"),
                *forbidden("IN_e2", "e2_infer_large_flash"),
                *(order for order in forbidden(BUNDLES.name, "spy") if order != READ),
                "$O.bundles.M.x",
                "$JS.hub.API.CONSUMER.RESET.DOWN_e2.WORK_e2",
                "$JS.e2.API.STREAM.PURGE.UP_e2",
                "$JS.hub.API.STREAM.CREATE.MINE",
                "$JS.hub.API.STREAM.NAMES",
                "$JS.hub.API.INFO",
                "$JS.ACK.IN_e2.e2_infer_large_flash.1.1.1.1.0",
                "$JS.FC.DOWN_e2.WORK_e2.x",
                "$JSC.R.e2.x.UP_e2.IN_e2.x",
                "dlv.up.e2.IN_e2",
                "dlv.down.e2.WORK_e2",
                "down.e2.compress.flash",
                "infer.large.e2.flash",
                "infer.large.e1.flash",
                "sms.in.flash",
                "sms.out.flash",
                "evt.x",
                "$SYS.REQ.CLAIMS.UPDATE",
                "_INBOX.hub.x",
                "_INBOX.e2.x",
            ]
            for subject in attempts:
                await rogue.publish(subject, b"{}", reply="_INBOX.e1.answer")
            # On one connection nothing overtakes: when this has arrived, so has what arrives of the rest.
            await rogue.publish("dlv.up.e1.IN_e1", b"the end")
            async with asyncio.timeout(20):
                while not any(msg.data == b"the end" for msg in at_centre):
                    await asyncio.sleep(0.02)
            await hub.client.flush()

            said_locally = set(attempts) | {"dlv.up.e1.IN_e1"}
            theirs = [msg.subject for msg in overheard if msg.subject not in said_locally]
            allowed = edge_permissions("e1").subscribe
            if not domain:  # else it also hears what its own JetStream says
                assert [s for s in theirs if not any(_covers(pattern, s) for pattern in allowed)] == []
            assert [msg.subject for msg in overheard if SECRET in msg.data] == []
            arrived = {msg.subject for msg in at_centre if msg.data == b"{}"}
            assert arrived & set(attempts) == set()
            assert await state_of(hub) == before

        # e2 is as it was, and e1 itself finds what waited for it, read by the thief or not.
        await edges["e2"].js.publish("infer.large.flash", b"still here")
        await holds(hub, "IN_e2", 4)


async def test_an_answer_that_is_sent_elsewhere_does_nothing(tmp_path: Path) -> None:
    """The centre answers where a request says, and its own server has every right: is an answer an order?"""
    linked = Linked(tmp_path)
    async with running(linked) as (hub, edges):
        await edges["e2"].js.publish("infer.large.flash", SECRET)
        await holds(hub, "IN_e2", 1)
        for edge in linked.edges.values():
            edge.stop()
        await hub.js.publish("down.e2.compress.flash", SECRET)
        await hub.js.publish("$O.bundles.M.x", b"")  # an empty one could be an order where a word is not
        before = await state_of(hub)
        ended = asyncio.Event()

        async def end(_: Msg) -> None:
            ended.set()

        await hub.client.subscribe("sms.in.flash", cb=end)
        async with rogue_server(linked, hub, "e1", "", []) as rogue:
            for request in edge_permissions("e1").publish:
                if request.startswith("$JS.hub.API."):
                    for stream, durable in (("IN_e2", "e2_infer_large_flash"), ("DOWN_e2", "FLASH_e2")):
                        for order in forbidden(stream, durable):
                            for asked in (b"", b'{"seq":1}', b'{"last_by_subj":"$O.bundles.M.x"}'):
                                await rogue.publish(request, asked, reply=order)
            # An answer does go where no JetStream listens (K3): this one tells that the others are through.
            await rogue.publish("$JS.hub.API.STREAM.INFO.DOWN_e1", b"", reply="sms.in.flash")
            await asyncio.wait_for(ended.wait(), 20)
            await reaches_hub_twice(hub)
        assert await state_of(hub) == before


async def reaches_hub_twice(hub: NatsBus) -> None:
    """What the server did on its own account before the first answer is done at the second."""
    for _ in range(2):
        await hub.js.account_info()


def _covers(pattern: str, subject: str) -> bool:
    """NATS subject matching."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(given) >= len(wanted) and _covers(
            ".".join(wanted[:-1]), ".".join(given[: len(wanted) - 1])
        )
    return len(wanted) == len(given) and all(w in {"*", g} for w, g in zip(wanted, given, strict=True))


async def test_acknowledging_on_one_server_touches_no_other(tmp_path: Path) -> None:
    """Acknowledgements of version 1 name no domain: names are what keeps servers apart."""
    async with running(Linked(tmp_path)) as (hub, edges):
        for edge, bus in edges.items():
            for lane in names.LANES:
                await bus.js.publish(f"infer.large.{lane}", b"up")
                await hub.js.publish(f"down.{edge}.compress.{lane}", b"down")
        for edge, bus in edges.items():
            await holds(hub, f"IN_{edge}", 3)
            await holds(bus, f"WORK_{edge}", 2)
            await holds(bus, f"FLASH_{edge}", 1)
        names_at = [
            {info.config.name for info in await bus.js.streams_info()} for bus in (hub, *edges.values())
        ]
        assert sum(map(len, names_at)) == len(set().union(*names_at))
        work = await edges["e1"].js.pull_subscribe_bind("e1_compress_routine", "WORK_e1")
        for msg in await work.fetch(1):
            await msg.ack_sync()
        asked = await hub.js.pull_subscribe_bind("e1_infer_large_flash", "IN_e1")
        for msg in await asked.fetch(1):
            await msg.ack_sync()
        await holds(edges["e1"], "WORK_e1", 1)
        await holds(hub, "IN_e1", 2)
        await holds(edges["e1"], "FLASH_e1", 1)
        await holds(edges["e2"], "WORK_e2", 2)
        await holds(edges["e2"], "FLASH_e2", 1)
        await holds(hub, "IN_e2", 3)


@pytest.mark.parametrize("servers", [1, 3])
async def test_a_revoked_edge_is_cut_at_once_and_cannot_return(tmp_path: Path, servers: int) -> None:
    linked = Linked(tmp_path, servers=servers)
    async with running(linked) as (hub, edges):
        linked.authority.revoke("e1")
        assert await publish_account(linked.authority) == sorted(linked.hubs)
        await leaves(linked, hub, {"e2"})
        first = next(iter(linked.hubs.values()))
        first.stop()
        first.start()  # its configuration file still has the account of before
        linked.edges["e1"].stop()
        linked.edges["e1"].start()
        await reaches_centre(edges["e2"], "e2")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reaches_centre(edges["e1"], "e1"), 4)
        bundle = linked.authority.enrol("e1")  # with a new key it may come back
        assert bundle.edge != linked.bundles["e1"].edge


async def leaves(linked: Linked, hub: NatsBus, wanted: set[str]) -> None:
    """Waits until exactly these edges are connected to the centre."""
    keys = linked.directory / "keys"
    client = await nats.connect(
        hub.client.connected_url.geturl(),
        user_credentials=str(keys / "tools.creds"),
        tls=hub.client.options["tls"],
    )
    found: set[str] = set()
    try:
        async with asyncio.timeout(10):
            while found != wanted:
                found = set()
                inbox = client.new_inbox()
                subscription = await client.subscribe(inbox)
                await client.publish("$SYS.REQ.SERVER.PING.LEAFZ", b"", reply=inbox)
                for _ in linked.hubs:
                    answer = json.loads((await subscription.next_msg(2)).data)
                    found |= {leaf["name"] for leaf in answer["data"].get("leafs") or ()}
                await subscription.unsubscribe()
    finally:
        await client.close()
