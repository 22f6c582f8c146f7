"""Tells the running servers of a centre who is enrolled and who is revoked."""

import asyncio
import ssl
from typing import Final

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from actors._runtime.authority import Authority
from actors._runtime.bus import BusError

ANSWERS_WITHIN_S: Final = 3.0


async def publish_account(authority: Authority) -> list[str]:
    """Gives the account's current token to every server that can be reached; returns their names.

    Whoever is revoked in it is disconnected at once. Servers that are down ask the others when they return.
    Raises :class:`BusError` when none can be reached or one refuses the token.
    """
    client = Client()
    servers = authority.state.servers
    try:
        await client.connect(
            [f"nats://{host}:{server.client_port}" for server in servers for host in server.hosts],
            user_credentials=str(authority.directory / "tools.creds"),
            tls=ssl.create_default_context(cafile=str(authority.directory / "ca.pem")),
            allow_reconnect=False,
            connect_timeout=3,
            error_cb=_quiet,
        )
    except (nats.errors.Error, TimeoutError, OSError) as error:
        named = ", ".join(f"{server.hosts[0]}:{server.client_port}" for server in servers)
        raise BusError(f"none of the centre's servers answers ({named}: {error})") from error
    try:
        return await _ask_all(client, authority.account_token, len(servers))
    finally:
        await client.close()


async def _quiet(_: Exception) -> None:
    """What went wrong is in the error that connect raises."""


async def _ask_all(client: Client, token: str, servers: int) -> list[str]:
    told: list[str] = []
    refused: list[str] = []
    enough = asyncio.Event()

    async def answer(msg: Msg) -> None:
        reply = msgspec.json.decode(msg.data)
        name = reply["server"]["name"]
        if "error" in reply:
            refused.append(f"{name}: {reply['error'].get('description', 'error')}")
        else:
            told.append(name)
        if len(told) + len(refused) >= servers:
            enough.set()

    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=answer)
    await client.publish("$SYS.REQ.CLAIMS.UPDATE", token.encode(), reply=inbox)
    try:
        await asyncio.wait_for(enough.wait(), ANSWERS_WITHIN_S)
    except TimeoutError:
        if not told and not refused:
            raise BusError("the centre's server did not answer; is it this centre's?") from None
    if refused:
        raise BusError(f"refused: {'; '.join(refused)}")
    return sorted(told)
