"""Machines of a scenario on one Linux: network namespaces, each with one cable to a switch.

``with Hosts() as hosts: hosts["edge1"].popen([...])``. Root only; :func:`why_not` says what is missing. The
addresses exist nowhere but in these namespaces, and nothing outside can be reached from them. The kernel
limits rates (``tbf``) and loses links; delay comes from :mod:`simulators.link`, run inside a host.
"""

import asyncio
import contextlib
import ctypes
import functools
import ipaddress
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

NAMES: Final = ("edge1", "edge2", "hub1", "hub2", "hub3")
NETWORK: Final = "10.77.0.0/24"
CABLE: Final = "eth0"
"""A host's own interface; its other end lies in the switch and is named after the host."""
NOBODY: Final = "02:00:00:00:00:fe"
"""A MAC address that no host has: what is sent there is lost without an error."""

_NAMESPACES: Final = Path("/run/netns")
_OURS: Final = re.compile(r"evy-(\d+)-(\d+)-\d+-\w+")
_MADE: Final = itertools.count()
_CLONE_NEWNET: Final = 0x40000000
_CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}
_PATH: Final = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _program(name: str) -> str:
    return shutil.which(name, path=_PATH) or name


def _ip(*arguments: str) -> str:
    done = subprocess.run(
        [_program("ip"), *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@functools.cache
def why_not() -> str:
    """Why namespaces cannot be made here; empty when they can. Tried, not assumed."""
    effective = int(re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())[1], 16)  # type: ignore[index]
    lacking = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if lacking:
        return f"network namespaces need root: no {', '.join(lacking)}"
    for program in ("ip", "tc"):
        if not shutil.which(program, path=_PATH):
            return f"no `{program}`: apt-get install iproute2"
    try:
        with Hosts(["probe"]):
            return ""
    except OSError as error:
        return f"no network namespaces here: {error}"


def started(pid: int) -> str:
    """Start of a process in clock ticks (proc_pid_stat(5), field 22); with the pid it names one for ever."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def purge() -> list[str]:
    """Removes namespaces of runs that are no more, with the processes left in them; gives their names."""
    purged = []
    for name in sorted(path.name for path in _NAMESPACES.iterdir()) if _NAMESPACES.is_dir() else ():
        if not (ours := _OURS.fullmatch(name)):
            continue
        try:
            alive = started(int(ours[1])) == ours[2]
        except FileNotFoundError:
            alive = False
        if not alive:
            _remove(name)
            purged.append(name)
    return purged


def _remove(namespace: str) -> None:
    for pid in _ip("netns", "pids", namespace).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "del", namespace)


class Host:
    """One machine: its namespace, its address, its cable."""

    def __init__(self, name: str, namespace: str, switch: str, address: str) -> None:
        self.name = name
        self.namespace = namespace
        self.address = address
        self._switch = switch
        self._started: list[subprocess.Popen[bytes]] = []

    def command(self, command: Sequence[str]) -> list[str]:
        """A command that runs here; `ip netns exec` becomes it, so that signals reach the program itself."""
        return [_program("ip"), "netns", "exec", self.namespace, *command]

    def run(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout_s: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end and gives its output; its exit code is the caller's business."""
        return subprocess.run(
            self.command(command),
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def popen(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, **options: Any
    ) -> "subprocess.Popen[bytes]":
        """Starts a process; what still runs at the end of :class:`Hosts` is killed."""
        process = subprocess.Popen(
            self.command(command), env={**os.environ, **(environment or {})}, **options
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """Kills what was started here, also what has not got as far as the namespace yet."""
        for process in self._started:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes in the block belong here, for ever. Never await in the block."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open("rb") as home, self._path.open("rb") as here:
            _setns(libc, here.fileno())
            try:
                yield
            finally:
                _setns(libc, home.fileno())

    @property
    def _path(self) -> Path:
        return _NAMESPACES / self.namespace

    @contextlib.asynccontextmanager
    async def door(self, port: int, address: str = "127.0.0.1") -> AsyncIterator[int]:
        """A loopback port of the test's own network that leads to a port in here while the block runs."""
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while octets := await reader.read(65536):
                writer.write(octets)
                await writer.drain()
            writer.write_eof()

        async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with self.inside():
                dialled = socket.socket()
            dialled.setblocking(False)
            with contextlib.closing(writer), contextlib.closing(dialled), contextlib.suppress(OSError):
                await loop.sock_connect(dialled, (address, port))
                there, out = await asyncio.open_connection(sock=dialled)
                with contextlib.closing(out):
                    await asyncio.gather(pump(reader, out), pump(there, writer))

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not server.is_serving():
                writer.close()
                return
            task = loop.create_task(join(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda _: writer.close())  # one that was cancelled before it began

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def unplug(self) -> None:
        """Pulls the cable at the switch: packets are lost, addresses and connections stay."""
        _ip("-n", self._switch, "link", "set", self.name, "down")

    def plug(self) -> None:
        """Puts the cable back."""
        _ip("-n", self._switch, "link", "set", self.name, "up")

    def rate(self, octets_per_s: float | None, *, queue_s: float = 1.0) -> None:
        """Limits the cable both ways; None takes the limit off.

        A packet that would wait longer than ``queue_s`` is dropped, as a modem's queue does.
        """
        for namespace, interface in ((self.namespace, CABLE), (self._switch, self.name)):
            tc = [_program("tc"), "-n", namespace, "qdisc"]
            if octets_per_s is None:
                command = [*tc, "del", "dev", interface, "root"]
            else:
                # The bucket must hold one packet, and what passes between two ticks of the kernel's timer.
                bucket = max(2048, int(octets_per_s / 100))
                command = [
                    *tc,
                    "replace",
                    "dev",
                    interface,
                    "root",
                    "tbf",
                    "rate",
                    f"{octets_per_s * 8:.0f}bit",
                ]
                command += ["burst", str(bucket), "latency", f"{queue_s * 1000:.0f}ms"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
            if done.returncode and octets_per_s is not None:
                raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")

    def lose(self, other: "Host") -> None:
        """What is sent to the other host vanishes from now on; the way back stays as it is."""
        _ip("-n", self.namespace, "neigh", "replace", other.address, "lladdr", NOBODY, "dev", CABLE)

    def find(self, other: "Host") -> None:
        """Ends :meth:`lose`."""
        _ip("-n", self.namespace, "neigh", "del", other.address, "dev", CABLE)


def _setns(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


class Hosts:
    """Some hosts and the switch between them, by name; everything is removed at the end, processes too."""

    def __init__(self, names: Sequence[str] = NAMES, network: str = NETWORK) -> None:
        pid = os.getpid()
        prefix = f"evy-{pid}-{started(pid)}-{next(_MADE)}"
        self._switch = f"{prefix}-switch"
        space = ipaddress.ip_network(network)
        self._length = space.prefixlen
        self._hosts = {
            name: Host(name, f"{prefix}-{name}", self._switch, str(address))
            for name, address in zip(names, space.hosts(), strict=False)
        }

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts.values())

    def __enter__(self) -> Self:
        purge()
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self) -> None:
        _ip("netns", "add", self._switch)
        # No spanning tree and no snooping: a cable that is plugged in works at once.
        _ip(
            "-n",
            self._switch,
            "link",
            "add",
            "switch",
            "type",
            "bridge",
            "forward_delay",
            "0",
            "mcast_snooping",
            "0",
        )
        _ip("-n", self._switch, "link", "set", "switch", "up")
        for host in self:
            _ip("netns", "add", host.namespace)
            end = ("type", "veth", "peer", "name", CABLE, "netns", host.namespace)
            _ip("-n", self._switch, "link", "add", host.name, *end)
            _ip("-n", self._switch, "link", "set", host.name, "master", "switch", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/{self._length}", "dev", CABLE)
            for interface in ("lo", CABLE):
                _ip("-n", host.namespace, "link", "set", interface, "up")

    def part(self, some: Sequence[str], others: Sequence[str]) -> None:
        """A network split: no packet passes between the two groups, and nobody is told."""
        for here, there in self._pairs(some, others):
            here.lose(there)

    def heal(self, some: Sequence[str], others: Sequence[str]) -> None:
        """Ends :meth:`part`."""
        for here, there in self._pairs(some, others):
            here.find(there)

    def _pairs(self, some: Sequence[str], others: Sequence[str]) -> Iterator[tuple[Host, Host]]:
        for one in some:
            for other in others:
                yield self[one], self[other]
                yield self[other], self[one]

    def close(self) -> None:
        """Kills what runs in the namespaces and removes them; what is gone already is no error."""
        for host in self:
            host.close()
        for namespace in [*(host.namespace for host in self), self._switch]:
            if (_NAMESPACES / namespace).exists():
                _remove(namespace)
