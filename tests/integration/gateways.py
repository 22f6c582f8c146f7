"""Gateways of others, started on a modem: what they received, send and report."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.conftest import free_port

ENDS_WITHIN_S = 15.0


class Gateway(Protocol):
    """A running program."""

    async def send(self, number: str, text: str) -> None:
        """Hands it a text for a phone, and asks for a status report."""

    def received(self) -> list[tuple[str, str]]:
        """Number and text of what it has received so far."""

    def delivered(self) -> int:
        """Texts, or parts, of which it has reported so far that the phone has them."""


Start = Callable[[Path, Path], AbstractAsyncContextManager[Gateway]]
"""Runs a gateway in a folder on a device."""


@contextlib.asynccontextmanager
async def _process(command: Sequence[str], log: Path) -> AsyncIterator[None]:
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield
    finally:
        # smsd starts a process for each modem, which would outlive it.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), ENDS_WITHIN_S)


def _decoded(octets: bytes) -> str:
    """A file of gammu-smsd: UTF-16 behind a mark, else UTF-8. Behind a text with emoji 1.42 writes a NUL and
    what its buffer has left of an earlier one."""
    text = octets.decode("utf-16" if octets[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8", "replace")
    return text.partition("\0")[0]


class GammuSmsd:
    """gammu-smsd with files; texts are handed to it by its own gammu-smsd-inject."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configuration = folder / "smsdrc"

    async def send(self, number: str, text: str) -> None:
        """By gammu-smsd-inject, in UCS-2 where it is needed."""
        unicode = () if text.isascii() else ("-unicode",)
        process = await asyncio.create_subprocess_exec(
            *("gammu-smsd-inject", "-c", str(self.configuration), "TEXT", number),
            *("-autolen", str(len(text)), "-report", *unicode, "-textutf8", text),
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await process.wait() == 0

    def received(self) -> list[tuple[str, str]]:
        """A file for each part: IN<date>_<time>_<serial>_<sender>_<part>.txt."""
        texts: dict[tuple[str, str], str] = {}
        for file in sorted((self.folder / "inbox").glob("IN*.txt")):
            *when, number, _ = file.stem.split("_")
            key = "_".join(when), number
            texts[key] = texts.get(key, "") + _decoded(file.read_bytes())
        return [(number, text) for (_, number), text in texts.items()]

    def delivered(self) -> int:
        """From its log."""
        return (self.folder / "log").read_text(errors="replace").count("Delivery report")


@contextlib.asynccontextmanager
async def gammu_smsd(folder: Path, device: Path) -> AsyncIterator[Gateway]:
    """gammu-smsd of Debian."""
    for name in ("inbox", "outbox", "sent", "error"):
        (folder / name).mkdir()
    gateway = GammuSmsd(folder)
    gateway.configuration.write_text(
        f"[gammu]\ndevice={device}\nconnection=dku2at\n"
        "[smsd]\nservice=files\nlogfile=stderr\ndebuglevel=255\ncommtimeout=1\ndeliveryreport=log\n"
        "checksecurity=0\ncheckbattery=0\nchecksignal=0\nloopsleep=1\nmultiparttimeout=60\ninboxformat=unicode\n"
        f"inboxpath={folder}/inbox/\noutboxpath={folder}/outbox/\n"
        f"sentsmspath={folder}/sent/\nerrorsmspath={folder}/error/\n",
        encoding="utf-8",
    )
    async with _process(["gammu-smsd", "-c", str(gateway.configuration)], folder / "log"):
        yield gateway


class Smstools:
    """smsd of smstools 3, with files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    async def send(self, number: str, text: str) -> None:
        """A file in its outgoing folder, put there whole."""
        self._count += 1
        alphabet, body = ("ISO", text.encode()) if text.isascii() else ("UCS2", text.encode("utf-16-be"))
        draft = self.folder / f"{self._count}.draft"
        head = f"To: {number.removeprefix('+')}\nAlphabet: {alphabet}\nReport: yes\n\n"
        draft.write_bytes(head.encode() + body)
        draft.rename(self.folder / "outgoing" / str(self._count))

    def received(self) -> list[tuple[str, str]]:
        """Files with a head; the body is in UCS-2 or ISO 8859-15."""
        texts = []
        for file in sorted((self.folder / "incoming").iterdir(), key=lambda file: file.stat().st_mtime_ns):
            head, _, body = file.read_bytes().partition(b"\n\n")
            sender = re.search(r"From: (\d+)", head.decode("latin-1"))
            code = "utf-16-be" if b"Alphabet: UCS2" in head else "iso-8859-15"
            if sender:
                texts.append((f"+{sender[1]}", body.decode(code)))
        return texts

    def delivered(self) -> int:
        """Files in its folder of reports."""
        reports = (file.read_text("latin-1") for file in (self.folder / "report").iterdir())
        return sum("Status: 0" in report for report in reports)


@contextlib.asynccontextmanager
async def smstools(folder: Path, device: Path) -> AsyncIterator[Gateway]:
    """smsd of Debian's smstools."""
    for name in ("incoming", "outgoing", "checked", "sent", "failed", "report"):
        (folder / name).mkdir()
    configuration = folder / "smsd.conf"
    configuration.write_text(
        f"devices = GSM1\nlogfile = {folder}/smsd.log\nloglevel = 7\ninfofile = {folder}/smsd.working\n"
        f"pidfile = {folder}/smsd.pid\nincoming = {folder}/incoming\noutgoing = {folder}/outgoing\n"
        f"checked = {folder}/checked\nsent = {folder}/sent\nfailed = {folder}/failed\n"
        f"report = {folder}/report\n"
        "delaytime = 1\nautosplit = 3\ninternal_combine = yes\n"
        f"[GSM1]\ndevice = {device}\nincoming = yes\nreport = yes\nbaudrate = 115200\npin = ignore\n"
        # It looks for reports in storage only, where a SIM7000 keeps them and a SIM800C does not.
        "check_network = 0\ninit = AT+CNMI=2,1,0,2,0\n",
        encoding="utf-8",
    )
    async with _process(["smsd", "-t", "-c", str(configuration)], folder / "log"):
        yield Smstools(folder)


class Kannel:
    """bearerbox with ``smsc = at``, and the smsbox that speaks HTTP for it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.call_back = ""
        self._received: list[tuple[str, str]] = []
        self._delivered = 0

    async def send(self, number: str, text: str) -> None:
        """By HTTP."""
        fields = {
            "username": "evy",
            "password": "evy",
            "to": number,
            "text": text,
            "charset": "UTF-8",
            "coding": "0" if text.isascii() else "2",
            "dlr-mask": "1",
            "dlr-url": f"{self.call_back}/delivered",
        }
        url = f"http://127.0.0.1:{self._port}/cgi-bin/sendsms?{urllib.parse.urlencode(fields)}"
        answer = await asyncio.to_thread(urllib.request.urlopen, url, timeout=20)
        assert answer.status == HTTPStatus.ACCEPTED

    def received(self) -> list[tuple[str, str]]:
        """What it called us with."""
        return self._received

    def delivered(self) -> int:
        """How often it called us for a report."""
        return self._delivered

    async def take_call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One HTTP request: a text that was received, or a report."""
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        page, _, query = path.partition("?")
        if page == "/delivered":
            self._delivered += 1
        else:
            fields = dict(pair.split("=") for pair in query.split("&"))
            octets = urllib.parse.unquote_to_bytes(fields["text"].replace("+", " "))
            text = octets.decode("utf-16-be" if fields["coding"] == "2" else "utf-8")
            self._received.append((urllib.parse.unquote(fields["from"]), text))
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()


KANNEL = """\
group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = evy
smsbox-port = {box}
smsbox-interface = 127.0.0.1
box-allow-ip = 127.0.0.1
dlr-storage = internal

group = smsc
smsc = at
smsc-id = modem
modemtype = sim
device = {device}
speed = 115200
sim-buffering = true
my-number = +15550100

group = modems
id = sim
name = SIM800
init-string = AT+CNMI=2,1,0,1,0;+CMEE=1
message-storage = SM

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {http}
sendsms-interface = 127.0.0.1
global-sender = +15550100

group = sendsms-user
username = evy
password = evy
max-messages = 10
concatenation = true

group = sms-service
keyword = default
get-url = "{call_back}/received?from=%p&text=%b&coding=%c"
max-messages = 0
catch-all = true
"""


@contextlib.asynccontextmanager
async def kannel(folder: Path, device: Path) -> AsyncIterator[Gateway]:
    """Kannel of Debian."""
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        gateway = Kannel(port)
        callers = await asyncio.start_server(gateway.take_call, "127.0.0.1", 0)
        stack.callback(callers.close)
        gateway.call_back = f"http://127.0.0.1:{callers.sockets[0].getsockname()[1]}"
        configuration = folder / "kannel.conf"
        configuration.write_text(
            KANNEL.format(
                admin=free_port(), box=free_port(), http=port, device=device, call_back=gateway.call_back
            ),
            encoding="utf-8",
        )
        log = folder / "bearerbox.log"
        await stack.enter_async_context(_process(["bearerbox", "-v", "0", str(configuration)], log))
        async with asyncio.timeout(60):
            while "AT SMSC successfully opened" not in log.read_text(errors="replace"):
                await asyncio.sleep(0.1)
        smsbox = _process(["smsbox", "-v", "0", str(configuration)], folder / "smsbox.log")
        await stack.enter_async_context(smsbox)
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    break
        yield gateway


class Package(NamedTuple):
    """A Debian package: how it is started, the programs it needs, and a modem that it works with."""

    start: Start
    programs: tuple[str, ...]
    model: str = "sim800c"


PACKAGES: dict[str, Package] = {
    "gammu-smsd": Package(gammu_smsd, ("gammu-smsd", "gammu-smsd-inject")),
    "smstools": Package(smstools, ("smsd",), model="sim7000"),
    "kannel": Package(kannel, ("bearerbox", "smsbox")),
}
"""By the name that `make setup-ops` installs."""


def why_not(package: str) -> str:
    """Why a gateway cannot run here; empty when it can."""
    missing = [program for program in PACKAGES[package].programs if shutil.which(program) is None]
    return f"no {' and no '.join(missing)}: `make setup-ops` installs {package}" if missing else ""
