"""A link that counts octets and can be cut: a TCP relay in a process of its own.

``python tests/bench/bridges/relay.py PORT TARGET`` relays loopback ``PORT`` to ``TARGET`` and answers the
commands ``up``, ``down`` and ``count`` on standard input with one line of JSON each. Only TCP payload is
counted: headers of IP and TCP add 52 octets per segment, and how many segments there are depends on the link.
"""

import json
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final

import msgspec

CHUNK: Final = 256 * 1024


class Octets(msgspec.Struct, frozen=True):
    """TCP payload relayed so far: from who dials to who listens (edge to centre), and back."""

    up: int
    down: int

    def since(self, before: "Octets") -> "Octets":
        """What came after ``before``."""
        return Octets(self.up - before.up, self.down - before.down)


class Relay:
    """The relay's process, as its user sees it. It starts with the link down."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(port), str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _ask(self, command: str) -> Octets:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Octets)

    def up(self) -> None:
        """Connections are taken from now on."""
        self._ask("up")

    def down(self) -> None:
        """Ends every connection and refuses new ones."""
        self._ask("down")

    def count(self) -> Octets:
        """Octets so far, cut connections included."""
        return self._ask("count")

    def close(self) -> None:
        """Ends the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Link:
    """Inside the relay's process: one thread takes connections, two carry the octets of each."""

    def __init__(self, port: int, target: int) -> None:
        self._port = port
        self._target = target
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._octets = {"up": 0, "down": 0}

    def up(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self._port))
            threading.Thread(target=self._take, args=(self._listener,), daemon=True).start()

    def down(self) -> None:
        if self._listener is not None:
            with suppress(OSError):  # wakes the thread in accept
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            for end in self._open:
                _hang_up(end)
            self._open.clear()

    def count(self) -> None:
        pass  # every command is answered with the count

    def octets(self) -> dict[str, int]:
        with self._lock:
            return dict(self._octets)

    def _take(self, listener: socket.socket) -> None:
        while True:
            try:
                dialled, _ = listener.accept()
            except OSError:
                return
            try:
                served = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                dialled.close()
                continue
            with self._lock:
                self._open += [dialled, served]
            for way, source, sink in (("up", dialled, served), ("down", served, dialled)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._carry, args=(way, source, sink), daemon=True).start()

    def _carry(self, way: str, source: socket.socket, sink: socket.socket) -> None:
        buffer = memoryview(bytearray(CHUNK))
        with suppress(OSError):
            while octets := source.recv_into(buffer):
                with self._lock:
                    self._octets[way] += octets
                sink.sendall(buffer[:octets])
        for end in (source, sink):
            _hang_up(end)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def main(port: int, target: int) -> None:
    """Serves commands until standard input ends."""
    link = _Link(port, target)
    for line in sys.stdin:
        {"up": link.up, "down": link.down, "count": link.count}[line.strip()]()
        print(json.dumps(link.octets()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
