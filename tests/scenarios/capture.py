"""Every byte on a host's cable, without tcpdump: a packet socket that writes a pcap file.

``with Capture(hosts["edge1"], path) as capture: ...``, then :func:`payloads` and :func:`streams`. The file is
what tcpdump and Wireshark read (pcap-savefile(5)).
"""

import ctypes
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

from tests.scenarios.hosts import CABLE, Host

PACKET_OCTETS: Final = 256 * 1024
"""More than a packet has: segments of 64 KiB cross a virtual cable whole."""
BUFFER_OCTETS: Final = 64 * 1024 * 1024
LOOK_AGAIN_S: Final = 0.1

_ETH_P_ALL, _ETH_P_IP, _IPPROTO_TCP = 0x0003, 0x0800, 6
_SOL_PACKET, _PACKET_STATISTICS, _SO_RCVBUFFORCE = 263, 6, 33
_SO_ATTACH_FILTER, _BPF_RET = 26, 0x06
_HEADER: Final = struct.Struct("<IHHiIII")
_RECORD: Final = struct.Struct("<IIII")
_MAGIC, _ETHERNET = 0xA1B2C3D4, 1


class Flow(NamedTuple):
    """One direction of one TCP connection."""

    source: str
    source_port: int
    target: str
    target_port: int


class Capture:
    """Writes all packets of an interface, both ways, while the block runs.

    ``packets`` counts them. A packet that the kernel could not keep makes the end raise OSError: a capture
    that missed something proves nothing.
    """

    def __init__(self, host: Host, path: Path, interface: str = CABLE) -> None:
        self.path = path
        self.packets = 0
        self._host = host
        self._interface = interface
        self._done = threading.Event()

    def __enter__(self) -> Self:
        with self._host.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_OCTETS)
        self._socket.settimeout(LOOK_AGAIN_S)
        self._socket.bind((self._interface, _ETH_P_ALL))
        self._file = self.path.open("wb")
        self._file.write(_HEADER.pack(_MAGIC, 2, 4, 0, 0, PACKET_OCTETS, _ETHERNET))
        self._thread = threading.Thread(target=self._run, name=f"capture {self._host.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A filter that keeps nothing (socket(7)): what lies in the buffer is read, what comes now is not.
        instruction = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET, 0, 0, 0))
        program = struct.pack("HP", 1, ctypes.addressof(instruction))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        self._done.set()
        self._thread.join()
        received, lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._socket.close()
        self._file.close()
        if lost:
            raise OSError(f"{self.path}: {lost} of {received} packets were not captured")

    def _run(self) -> None:
        """Reads until the end, and then what is left."""
        while True:
            try:
                packet = self._socket.recv(PACKET_OCTETS)
            except TimeoutError:
                if self._done.is_set():
                    return
                continue
            at = time.time_ns() // 1000
            self._file.write(_RECORD.pack(at // 1_000_000, at % 1_000_000, len(packet), len(packet)))
            self._file.write(packet)
            self.packets += 1


def packets(path: Path) -> Iterator[bytes]:
    """The Ethernet frames of a file. Raises ValueError when it is not a capture of ours."""
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or _HEADER.unpack(header)[0] != _MAGIC:
            raise ValueError(f"{path} is no pcap file")
        while record := file.read(_RECORD.size):
            yield file.read(_RECORD.unpack(record)[2])


def payloads(path: Path) -> Iterator[tuple[Flow, int, bytes]]:
    """TCP payload of each IPv4 packet with its sequence number; SYN has none, but starts the count."""
    for frame in packets(path):
        if struct.unpack_from("!H", frame, 12)[0] != _ETH_P_IP or frame[23] != _IPPROTO_TCP:
            continue
        start = 14 + (frame[14] & 0x0F) * 4
        end = 14 + struct.unpack_from("!H", frame, 16)[0]
        source_port, target_port, sequence = struct.unpack_from("!HHI", frame, start)
        source, target = socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])
        syn = frame[start + 13] & 0x02
        data = frame[start + (frame[start + 12] >> 4) * 4 : end]
        yield Flow(source, source_port, target, target_port), sequence + bool(syn), data


def streams(path: Path) -> dict[Flow, bytes]:
    """What each flow said, in order and once, so that a word divided between two packets is found.

    A flow begins with its first captured packet. Gaps, which a complete capture has not, are closed up.
    """
    pieces: dict[Flow, list[tuple[int, bytes]]] = defaultdict(list)
    first: dict[Flow, int] = {}
    for flow, sequence, data in payloads(path):
        begin = first.setdefault(flow, sequence)
        # Serial number arithmetic: 32 bits wrap, and a packet may be older than the first one seen.
        at = (sequence - begin + 0x80000000) % 0x100000000 - 0x80000000
        if data:
            pieces[flow].append((at, data))
    told = {}
    for flow, some in pieces.items():
        text, end = bytearray(), -0x80000000
        for at, data in sorted(some):
            text += data[max(0, end - at) :]
            end = max(end, at + len(data))
        told[flow] = bytes(text)
    return told


def seen(path: Path, word: bytes) -> bool:
    """Whether a word occurs in any captured byte: in a frame as it is, or in what a connection said."""
    return any(word in frame for frame in packets(path)) or any(
        word in said for said in streams(path).values()
    )
