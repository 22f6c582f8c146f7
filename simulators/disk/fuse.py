"""The kernel's side of a file system: FUSE protocol 7.31 over /dev/fuse, as ``linux/fuse.h`` defines it.

Requests are served one at a time on the event loop; only a slow sync lets others pass. The kernel caches
what it read and writes through; names are looked up each time, so nothing outlives a power cut in its caches.
"""

import asyncio
import ctypes
import errno
import logging
import os
import random
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from simulators.disk.card import BLOCK_OCTETS, Access, Card, File, Folder, Node

log = logging.getLogger("simulators.disk")

MAX_WRITE: Final = 128 * 1024
_REQUEST_OCTETS: Final = MAX_WRITE + 4096
NAME_OCTETS: Final = 255
ATTRIBUTES_VALID_S: Final = 3600
"""Only the kernel changes a node, and a cut gives new numbers, so its copy of attributes stays right."""

_IN: Final = struct.Struct("<IIQQIIIHH")
_OUT: Final = struct.Struct("<IiQ")
_ATTR: Final = struct.Struct("<6Q10I")
_ENTRY: Final = struct.Struct("<4Q2I")
_ATTR_OUT: Final = struct.Struct("<Q2I")
_SETATTR: Final = struct.Struct("<2I6Q8I")
_OPEN_OUT: Final = struct.Struct("<Q2I")
_OPENED: Final = _OPEN_OUT.pack(0, 0, 0)
_CREATE: Final = struct.Struct("<4I")
_READ: Final = struct.Struct("<2QI")
_WRITE: Final = struct.Struct("<2Q2IQ2I")
_STATFS: Final = struct.Struct("<5Q10I")
_INIT_OUT: Final = struct.Struct("<4I2H2I2HI7I")
_DIRENT: Final = struct.Struct("<2Q2I")

_FORGET: Final = 2
_FSYNC: Final = (20, 30)
"""Of a file and of a directory."""
_INTERRUPT: Final = 36
_BATCH_FORGET: Final = 42
_ASYNC_READ: Final = 1
_BIG_WRITES: Final = 1 << 5

_SET_MODE, _SET_UID, _SET_GID, _SET_SIZE, _SET_MTIME, _SET_MTIME_NOW = 1, 2, 4, 8, 32, 256

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_MS_NOSUID_NODEV: Final = 6
_MNT_DETACH: Final = 2


def _checked(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(mountpoint: Path) -> int:
    """Mounts an empty FUSE connection and gives its descriptor. Raises OSError: no /dev/fuse, or not root."""
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    try:
        mounted = _LIBC.mount(
            b"evy-disk", os.fsencode(mountpoint), b"fuse.evy-disk", _MS_NOSUID_NODEV, options.encode()
        )
        _checked(mounted, f"mount {mountpoint}")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def unmount(mountpoint: Path) -> None:
    """Takes the mount away, also from programs that still have files open there."""
    _checked(_LIBC.umount2(os.fsencode(mountpoint), _MNT_DETACH), f"umount {mountpoint}")


class Request(NamedTuple):
    """What the kernel asks, of which node, for whom."""

    opcode: int
    unique: int
    node: int
    uid: int
    gid: int
    body: memoryview


class Disk:
    """Serves a :class:`Card` to the kernel, with the faults it was told to have."""

    def __init__(self, card: Card, descriptor: int) -> None:
        self.card = card
        self.sync_takes_s = 0.0
        self.syncs_to_fail = 0
        self.syncs = 0
        self.cuts = 0
        self.gone = asyncio.Event()
        """Set when somebody unmounted it."""
        self._descriptor = descriptor
        self._buffer = bytearray(_REQUEST_OCTETS)
        self._listings: dict[int, list[tuple[int, int, bytes]]] = {}
        self._handles = 0
        self._late: set[asyncio.Task[None]] = set()
        self._calls: dict[int, Callable[[Request], bytes]] = {
            1: self._lookup,
            3: self._getattr,
            4: self._setattr,
            9: self._mkdir,
            10: self._unlink,
            11: self._rmdir,
            12: self._rename,
            13: self._link,
            14: self._open,
            15: self._read,
            16: self._write,
            17: self._statfs,
            18: self._nothing,  # release
            25: self._nothing,  # flush
            26: self._init,
            27: self._opendir,
            28: self._readdir,
            29: self._releasedir,
            35: self._create,
            38: self._nothing,  # destroy
        }
        asyncio.get_running_loop().add_reader(descriptor, self._serve)

    def cut(self, seed: int | None) -> None:
        """The power goes and comes back; with a seed, part of what was not synced survives."""
        self.card.cut(None if seed is None else random.Random(seed))  # noqa: S311  repeatable, not secret
        self.cuts += 1
        self._listings.clear()

    def room(self, octets: int | None) -> None:
        """How much fits from now on; None: as much as the card's size allows."""
        card = self.card
        card.limit_octets = card.size_octets if octets is None else card.used_octets + octets

    def close(self) -> None:
        """Stops serving; what is not synced reaches the card, as at a clean shutdown."""
        if not self.gone.is_set():
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self.gone.set()
        for task in self._late:
            task.cancel()
        self.card.sync_all()
        os.close(self._descriptor)

    def _serve(self) -> None:
        """Answers what the kernel asks until it asks nothing more."""
        while not self.gone.is_set():
            try:
                octets = os.readv(self._descriptor, [self._buffer])
            except BlockingIOError:
                return
            except FileNotFoundError:  # the asker was killed meanwhile
                continue
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                asyncio.get_running_loop().remove_reader(self._descriptor)
                self.gone.set()
                return
            _, opcode, unique, node, uid, gid, *_ = _IN.unpack_from(self._buffer)
            body = memoryview(self._buffer)[_IN.size : octets]
            self._take(Request(opcode, unique, node, uid, gid, body))

    def _take(self, request: Request) -> None:
        if request.opcode == _FORGET:
            self.card.forget(request.node, int.from_bytes(request.body[:8], "little"))
        elif request.opcode == _BATCH_FORGET:
            for number, times in struct.iter_unpack("<2Q", request.body[8:]):
                self.card.forget(number, times)
        elif request.opcode in _FSYNC:
            self._fsync(request.unique, request.node)
        elif request.opcode != _INTERRUPT:  # it will be answered soon enough
            self._answer(request)

    def _answer(self, request: Request) -> None:
        try:
            payload = self._calls.get(request.opcode, _unknown)(request)
        except OSError as error:
            self._reply(request.unique, error=error.errno or errno.EIO)
        except Exception:
            # A bug of ours: the kernel must not wait for ever, and people must see it.
            log.exception("FUSE operation %d failed", request.opcode)
            self._reply(request.unique, error=errno.EIO)
        else:
            self._reply(request.unique, payload)

    def _reply(self, unique: int, payload: bytes = b"", error: int = 0) -> None:
        with suppress(FileNotFoundError):  # the asker was killed meanwhile
            os.writev(self._descriptor, [_OUT.pack(_OUT.size + len(payload), -error, unique), payload])

    # Sync, which may be slow or fail.

    def _fsync(self, unique: int, node: int) -> None:
        if self.sync_takes_s:
            task = asyncio.get_running_loop().create_task(self._fsync_late(unique, node))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
        else:
            self._sync(unique, node)

    async def _fsync_late(self, unique: int, node: int) -> None:
        cuts = self.cuts
        await asyncio.sleep(self.sync_takes_s)
        if cuts == self.cuts:
            self._sync(unique, node)
        else:
            self._reply(unique, error=errno.EIO)

    def _sync(self, unique: int, number: int) -> None:
        self.syncs += 1
        fails = self.syncs_to_fail > 0
        self.syncs_to_fail -= fails
        try:
            node = self.card.node(number)
            self.card.sync(node if isinstance(node, File) else None, fails=fails)
        except OSError as error:
            self._reply(unique, error=error.errno or errno.EIO)
        else:
            self._reply(unique)

    # The rest, by the number of the operation.

    def _init(self, request: Request) -> bytes:
        major, minor, readahead, flags = struct.unpack_from("<4I", request.body)
        if (major, minor) < (7, 31):
            raise OSError(errno.EPROTO, f"FUSE {major}.{minor} is too old, 7.31 or newer is needed")
        offered = flags & (_ASYNC_READ | _BIG_WRITES)
        return _INIT_OUT.pack(7, 31, readahead, offered, 16, 12, MAX_WRITE, 1, 0, 0, 0, *[0] * 7)

    def _nothing(self, _request: Request) -> bytes:
        return b""

    def _lookup(self, request: Request) -> bytes:
        return _entry(self.card.lookup(self.card.folder(request.node), _name(request.body)))

    def _getattr(self, request: Request) -> bytes:
        return _ATTR_OUT.pack(ATTRIBUTES_VALID_S, 0, 0) + _attributes(self.card.node(request.node))

    def _setattr(self, request: Request) -> bytes:
        node = self.card.node(request.node)
        valid, _, _, size, _, _, mtime, _, _, mtime_ns, _, mode, _, uid, gid, _ = _SETATTR.unpack_from(
            request.body
        )
        if valid & _SET_SIZE:
            self.card.resize(self.card.file(request.node), size)
        if valid & (_SET_MODE | _SET_UID | _SET_GID):
            access = Access(
                stat.S_IMODE(mode) if valid & _SET_MODE else node.access.bits,
                uid if valid & _SET_UID else node.access.uid,
                gid if valid & _SET_GID else node.access.gid,
            )
            self.card.change_access(node, access)
        if valid & _SET_MTIME_NOW:
            node.touch()
        elif valid & _SET_MTIME:
            node.mtime_ns = mtime * 1_000_000_000 + mtime_ns
        return self._getattr(request)

    def _mkdir(self, request: Request) -> bytes:
        mode, umask = struct.unpack_from("<2I", request.body)
        access = Access(stat.S_IMODE(mode) & ~umask, request.uid, request.gid)
        return _entry(self.card.mkdir(self.card.folder(request.node), _name(request.body[8:]), access))

    def _create(self, request: Request) -> bytes:
        _, mode, umask, _ = _CREATE.unpack_from(request.body)
        access = Access(stat.S_IMODE(mode) & ~umask, request.uid, request.gid)
        name = _name(request.body[_CREATE.size :])
        return _entry(self.card.create(self.card.folder(request.node), name, access)) + _OPENED

    def _unlink(self, request: Request) -> bytes:
        self.card.remove(self.card.folder(request.node), _name(request.body), directory=False)
        return b""

    def _rmdir(self, request: Request) -> bytes:
        self.card.remove(self.card.folder(request.node), _name(request.body), directory=True)
        return b""

    def _rename(self, request: Request) -> bytes:
        to = int.from_bytes(request.body[:8], "little")
        name, new_name, _ = bytes(request.body[8:]).split(b"\0", 2)
        self.card.rename(self.card.folder(request.node), name, self.card.folder(to), _checked_name(new_name))
        return b""

    def _link(self, request: Request) -> bytes:
        file = self.card.file(int.from_bytes(request.body[:8], "little"))
        self.card.link(file, self.card.folder(request.node), _name(request.body[8:]))
        return _entry(file)

    def _open(self, request: Request) -> bytes:
        self.card.node(request.node)
        return _OPENED

    def _read(self, request: Request) -> bytes:
        _, offset, size = _READ.unpack_from(request.body)
        return self.card.read(self.card.file(request.node), offset, size)

    def _write(self, request: Request) -> bytes:
        _, offset, size, *_ = _WRITE.unpack_from(request.body)
        data = bytes(request.body[_WRITE.size : _WRITE.size + size])
        return struct.pack("<2I", self.card.write(self.card.file(request.node), offset, data), 0)

    def _statfs(self, _request: Request) -> bytes:
        card = self.card
        blocks = max(card.limit_octets, card.used_octets) // BLOCK_OCTETS
        free = blocks - card.used_octets // BLOCK_OCTETS
        files = (1 << 20, (1 << 20) - len(card.nodes))
        return _STATFS.pack(blocks, free, free, *files, BLOCK_OCTETS, NAME_OCTETS, BLOCK_OCTETS, *[0] * 7)

    def _opendir(self, request: Request) -> bytes:
        folder = self.card.folder(request.node)
        up = folder.parent or folder
        self._handles += 1
        self._listings[self._handles] = [
            (folder.number, folder.mode, b"."),
            (up.number, up.mode, b".."),
            *((entry.number, entry.mode, name) for name, entry in folder.entries.items()),
        ]
        return _OPEN_OUT.pack(self._handles, 0, 0)

    def _readdir(self, request: Request) -> bytes:
        handle, offset, size = _READ.unpack_from(request.body)
        listing = self._listings.get(handle)
        if listing is None:
            raise OSError(errno.ESTALE, "the directory was opened before a power cut")
        out = bytearray()
        for place, (number, mode, name) in enumerate(listing[offset:], offset + 1):
            entry = _DIRENT.pack(number, place, len(name), stat.S_IFMT(mode) >> 12) + name
            entry += bytes(-len(entry) % 8)
            if len(out) + len(entry) > size:
                break
            out += entry
        return bytes(out)

    def _releasedir(self, request: Request) -> bytes:
        self._listings.pop(int.from_bytes(request.body[:8], "little"), None)
        return b""


def _unknown(request: Request) -> bytes:
    raise OSError(errno.ENOSYS, f"FUSE operation {request.opcode}")


def _name(body: memoryview) -> bytes:
    return _checked_name(bytes(body).split(b"\0", 1)[0])


def _checked_name(name: bytes) -> bytes:
    if len(name) > NAME_OCTETS:
        raise OSError(errno.ENAMETOOLONG, os.fsdecode(name))
    return name


def _attributes(node: Node) -> bytes:
    times = (node.atime_ns, node.mtime_ns, node.ctime_ns)
    links = 2 * node.links if isinstance(node, Folder) else node.links
    blocks = -(-node.size // BLOCK_OCTETS) * BLOCK_OCTETS // 512
    return _ATTR.pack(
        node.number,
        node.size,
        blocks,
        *(at // 1_000_000_000 for at in times),
        *(at % 1_000_000_000 for at in times),
        *(node.mode, links, node.access.uid, node.access.gid, 0, BLOCK_OCTETS, 0),
    )


def _entry(node: Node) -> bytes:
    """Answer that tells the kernel of a node; names are valid for no time."""
    node.known += 1
    return _ENTRY.pack(node.number, 0, 0, ATTRIBUTES_VALID_S, 0, 0) + _attributes(node)
