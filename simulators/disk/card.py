"""What a program sees of a card, and what of it would survive a power cut.

Modelled on ext4 with ``data=ordered``, without its conveniences. What is not synced is in memory only; the
backing directory holds what is on the card:

- Changes of names and sizes (create, mkdir, unlink, rmdir, rename, truncate, chmod, chown) go to a journal. A
  sync of any file or directory commits the whole journal, in order, as ext4's does.
- Written data reaches the card when its own file is synced, after the journal. ext4 would write it back
  within half a minute by itself, and early when a file replaces another; here it waits for ever.
- A failed sync loses what it was to write, and the next one succeeds, as in Linux since 4.13.
- :meth:`Card.cut` drops the rest, or with a source of randomness lets part of it survive: a prefix of the
  journal, and of each file a prefix of its writes, the last one torn at any octet (a real card tears at
  sectors; programs must not count on that).

Times of files do not survive; symbolic links and special files do not exist. All content is held in memory,
and each file on the card holds a descriptor: made for stores of megabytes and hundreds of files.
"""

import errno
import os
import random
import stat
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

BLOCK_OCTETS: Final = 4096
ROOT: Final = 1
"""Number of the root directory, the same as in the FUSE protocol."""


class Write(NamedTuple):
    """Data that no sync has made durable."""

    offset: int
    data: bytes


class Access(NamedTuple):
    """Permission bits and owner."""

    bits: int
    uid: int
    gid: int


class Node:
    """A file or directory as programs see it now."""

    kind = 0

    def __init__(self, number: int, access: Access) -> None:
        self.number = number
        self.access = access
        self.atime_ns = self.mtime_ns = self.ctime_ns = time.time_ns()
        self.links = 1
        self.known = 0
        """Times the kernel was told of it and did not forget: an unlinked file lives until nobody has it."""

    @property
    def size(self) -> int:
        """Octets."""
        return BLOCK_OCTETS

    @property
    def mode(self) -> int:
        """Kind and permissions, as stat(2) gives them."""
        return self.kind | self.access.bits

    @property
    def linked(self) -> bool:
        """Whether it has a name."""
        return self.links > 0

    def touch(self) -> None:
        """The content changed now."""
        self.mtime_ns = self.ctime_ns = time.time_ns()


class File(Node):
    """A regular file."""

    kind = stat.S_IFREG

    def __init__(self, number: int, access: Access, content: bytes = b"") -> None:
        super().__init__(number, access)
        self.content = bytearray(content)
        self.unsynced: list[Write] = []
        self.backing: int | None = None
        """Descriptor of what is on the card; None before the journal that creates it is committed."""
        self.shaped_at = 0
        """Journal sequence of its creation or last truncation: later data cannot survive without it."""

    @property
    def size(self) -> int:
        """Octets."""
        return len(self.content)


class Folder(Node):
    """A directory."""

    kind = stat.S_IFDIR

    def __init__(self, number: int, access: Access, parent: "Folder | None", name: bytes) -> None:
        super().__init__(number, access)
        self.entries: dict[bytes, Node] = {}
        self.parent = parent
        self.name = name


class Held(NamedTuple):
    """What the card holds, and what only memory does."""

    used_octets: int
    free_octets: int
    journal_entries: int
    unsynced_files: int
    unsynced_octets: int


class Card:
    """A card of ``size_octets`` whose durable state is in ``backing``. Its methods raise OSError as system
    calls do."""

    def __init__(self, backing: Path, size_octets: int) -> None:
        self._backing = os.fsencode(backing)
        self.size_octets = size_octets
        self.limit_octets = size_octets
        self._numbers = count(ROOT + 1)
        self._begin()

    def _begin(self) -> None:
        """Takes what the backing directory holds for the truth. Numbers are never used twice, so nothing
        that the kernel remembers of a file before a cut is taken for the file after it."""
        self.nodes: dict[int, Node] = {}
        self.used_octets = 0
        self._files: dict[int, File] = {}  # also unlinked ones, until their unlinking is committed
        self._journal: list[Callable[[], None]] = []
        self._committed = 0
        self.root = Folder(ROOT, _access(Path(os.fsdecode(self._backing)).stat()), None, b"")
        self._add(self.root)
        self._scan(self.root, {})

    def _scan(self, folder: Folder, seen: dict[int, File]) -> None:
        """Fills a folder; ``seen`` has the files found so far by their number on the card."""
        with os.scandir(self._path(folder)) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            number, access = next(self._numbers), _access(info)
            if entry.is_dir(follow_symlinks=False):
                made = Folder(number, access, folder, entry.name)
                folder.entries[entry.name] = self._add(made)
                self._scan(made, seen)
            elif info.st_ino in seen:
                folder.entries[entry.name] = seen[info.st_ino]
                seen[info.st_ino].links += 1
            elif entry.is_file(follow_symlinks=False):
                descriptor = os.open(entry.path, os.O_RDWR)
                file = File(number, access, os.pread(descriptor, info.st_size, 0))
                file.backing = descriptor
                folder.entries[entry.name] = self._add(file)
                seen[info.st_ino] = file

    def _add(self, node: Node) -> Node:
        self.nodes[node.number] = node
        if isinstance(node, File):
            self._files[node.number] = node
        self.used_octets += _blocks(node.size)
        return node

    def _path(self, folder: Folder, *names: bytes) -> bytes:
        parts = list(reversed(names))
        walk: Folder | None = folder
        while walk is not None and walk.parent is not None:
            parts.append(walk.name)
            walk = walk.parent
        return b"/".join([self._backing, *reversed(parts)])

    def _need(self, octets: int) -> None:
        if octets > 0 and self.used_octets + octets > self.limit_octets:
            raise OSError(errno.ENOSPC, f"the card is full ({self.limit_octets} octets)")

    def _record(self, operation: Callable[[], None]) -> int:
        self._journal.append(operation)
        return self._committed + len(self._journal)

    # What programs do.

    def node(self, number: int) -> Node:
        """Node by number; ESTALE for one from before a cut."""
        try:
            return self.nodes[number]
        except KeyError:
            raise OSError(errno.ESTALE, f"node {number} is from before a power cut") from None

    def folder(self, number: int) -> Folder:
        """Directory by number."""
        node = self.node(number)
        if not isinstance(node, Folder):
            raise NotADirectoryError(errno.ENOTDIR, f"node {number} is a file")
        return node

    def file(self, number: int) -> File:
        """Regular file by number."""
        node = self.node(number)
        if not isinstance(node, File):
            raise IsADirectoryError(errno.EISDIR, f"node {number} is a directory")
        return node

    def lookup(self, folder: Folder, name: bytes) -> Node:
        """Entry of a directory."""
        try:
            return folder.entries[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.fsdecode(name)) from None

    def _place(self, folder: Folder, name: bytes, node: Node) -> None:
        if name in folder.entries:
            raise FileExistsError(errno.EEXIST, os.fsdecode(name))
        if not folder.linked:
            raise FileNotFoundError(errno.ENOENT, "the directory was removed")
        folder.entries[name] = node
        if node.number not in self.nodes:
            self._add(node)
        folder.touch()

    def create(self, folder: Folder, name: bytes, access: Access) -> File:
        """A new, empty file."""
        file = File(next(self._numbers), access)
        self._place(folder, name, file)
        path = self._path(folder, name)

        def durably() -> None:
            file.backing = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            _set_access(file.backing, access)

        file.shaped_at = self._record(durably)
        return file

    def mkdir(self, folder: Folder, name: bytes, access: Access) -> Folder:
        """A new directory."""
        self._need(BLOCK_OCTETS)
        made = Folder(next(self._numbers), access, folder, name)
        self._place(folder, name, made)
        path = self._path(made)

        def durably() -> None:
            os.mkdir(path)  # noqa: PTH102  names are octets here, not text
            _set_access(path, access)

        self._record(durably)
        return made

    def link(self, file: File, folder: Folder, name: bytes) -> None:
        """Another name for a file."""
        if not file.linked:
            raise FileNotFoundError(errno.ENOENT, "the file was removed")
        self._place(folder, name, file)
        file.links += 1
        path = self._path(folder, name)

        def durably() -> None:
            # The directory is not used, but without one Python calls link(2), which does not follow.
            os.link(f"/proc/self/fd/{file.backing}", path, src_dir_fd=file.backing, follow_symlinks=True)

        self._record(durably)

    def remove(self, folder: Folder, name: bytes, *, directory: bool) -> None:
        """Unlinks a file, or removes an empty directory."""
        node = self.lookup(folder, name)
        if isinstance(node, Folder) != directory:
            raise OSError(errno.ENOTDIR if directory else errno.EISDIR, os.fsdecode(name))
        if isinstance(node, Folder) and node.entries:
            raise OSError(errno.ENOTEMPTY, os.fsdecode(name))
        del folder.entries[name]
        folder.touch()
        self._record(partial(os.rmdir if directory else os.unlink, self._path(folder, name)))
        self._orphan(node)

    def rename(self, folder: Folder, name: bytes, to: Folder, new_name: bytes) -> None:
        """Moves an entry, replacing what has the new name."""
        node = self.lookup(folder, name)
        there = to.entries.get(new_name)
        if there is node:  # also another name of the same file: rename(2) does nothing then
            return
        if there is not None and isinstance(there, Folder) != isinstance(node, Folder):
            raise OSError(errno.EISDIR if isinstance(there, Folder) else errno.ENOTDIR, os.fsdecode(new_name))
        if isinstance(there, Folder) and there.entries:
            raise OSError(errno.ENOTEMPTY, os.fsdecode(new_name))
        self._record(partial(os.rename, self._path(folder, name), self._path(to, new_name)))
        del folder.entries[name]
        to.entries[new_name] = node
        if isinstance(node, Folder):
            node.parent, node.name = to, new_name
        folder.touch()
        to.touch()
        if there is not None:
            self._orphan(there)

    def read(self, file: File, offset: int, size: int) -> bytes:
        """Up to ``size`` octets."""
        return bytes(memoryview(file.content)[offset : offset + size])

    def write(self, file: File, offset: int, data: bytes) -> int:
        """Writes in memory; gives the octets that fitted, ENOSPC when none did."""
        end = max(file.size, offset + len(data))
        room = self.limit_octets - self.used_octets
        if _blocks(end) - _blocks(file.size) > room:
            end = max(file.size, _blocks(file.size) + max(0, room) // BLOCK_OCTETS * BLOCK_OCTETS)
            data = data[: max(0, end - offset)]
            if not data:
                raise OSError(errno.ENOSPC, f"the card is full ({self.limit_octets} octets)")
        self._grow(file, offset + len(data))
        file.content[offset : offset + len(data)] = data
        file.unsynced.append(Write(offset, data))
        file.touch()
        return len(data)

    def _grow(self, file: File, size: int) -> None:
        if size > file.size:
            self.used_octets += _blocks(size) - _blocks(file.size)
            file.content.extend(bytes(size - file.size))

    def resize(self, file: File, size: int) -> None:
        """Truncates or extends with zeros."""
        if size > file.size:
            self._need(_blocks(size) - _blocks(file.size))
            self._grow(file, size)
        else:
            self.used_octets -= _blocks(file.size) - _blocks(size)
            del file.content[size:]
            kept = [Write(at, data[: size - at]) for at, data in file.unsynced if at < size]
            file.unsynced = kept

        def durably() -> None:
            if file.backing is not None:
                os.ftruncate(file.backing, size)

        file.shaped_at = self._record(durably)
        file.touch()

    def change_access(self, node: Node, access: Access) -> None:
        """Changes permissions and owner."""
        node.access = access
        node.ctime_ns = time.time_ns()
        path = self._path(node) if isinstance(node, Folder) else None

        def durably() -> None:
            where = node.backing if isinstance(node, File) else path
            if where is not None:
                _set_access(where, access)

        self._record(durably)

    def _orphan(self, node: Node) -> None:
        node.links -= 1
        self.forget(node.number, 0)

    def forget(self, number: int, times: int) -> None:
        """The kernel no longer knows a node it was told of so many times."""
        node = self.nodes.get(number)
        if node is None:
            return
        node.known -= times
        if node.linked or node.known > 0:
            return
        del self.nodes[number]
        self.used_octets -= _blocks(node.size)
        if isinstance(node, File):
            self._record(partial(self._close, node))

    # What the card does.

    def sync(self, file: File | None, *, fails: bool = False) -> None:
        """Syncs a file, or a directory (None): the journal, then the file's data. ``fails``: EIO."""
        if fails:
            if file is not None:
                file.unsynced.clear()
            raise OSError(errno.EIO, "the card failed to write")
        self._commit(len(self._journal))
        if file is not None:
            self._keep(file)

    def sync_all(self) -> None:
        """What a clean shutdown does."""
        self._commit(len(self._journal))
        for file in self._files.values():
            self._keep(file)

    def cut(self, survives: random.Random | None = None) -> None:
        """Power off and on: what was not synced is gone, but for what ``survives`` lets reach the card."""
        if survives is not None:
            self._commit(survives.randint(0, len(self._journal)))
            for file in self._files.values():
                if file.shaped_at <= self._committed and file.unsynced:
                    last = survives.randrange(len(file.unsynced))
                    offset, data = file.unsynced[last]
                    file.unsynced[last:] = [Write(offset, data[: survives.randint(0, len(data))])]
                    self._keep(file)
        for file in list(self._files.values()):
            self._close(file)
        self._begin()

    def held(self) -> Held:
        """Sums for people and tests."""
        waiting = [file.unsynced for file in self._files.values() if file.unsynced]
        octets = sum(len(write.data) for writes in waiting for write in writes)
        free = max(0, self.limit_octets - self.used_octets)
        return Held(self.used_octets, free, len(self._journal), len(waiting), octets)

    def _commit(self, entries: int) -> None:
        for operation in self._journal[:entries]:
            operation()
        del self._journal[:entries]
        self._committed += entries

    def _keep(self, file: File) -> None:
        if file.backing is not None:  # else it was unlinked before it ever reached the card
            for offset, data in file.unsynced:
                done = 0
                while done < len(data):
                    done += os.pwrite(file.backing, data[done:], offset + done)
        file.unsynced.clear()

    def _close(self, file: File) -> None:
        if file.backing is not None:
            os.close(file.backing)
            file.backing = None
        self._files.pop(file.number, None)


def _access(info: os.stat_result) -> Access:
    return Access(stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)


def _set_access(where: int | bytes, access: Access) -> None:
    os.chown(where, access.uid, access.gid)
    os.chmod(where, access.bits)  # noqa: PTH101  descriptors and octets, not text


def _blocks(octets: int) -> int:
    """Octets rounded up to whole blocks."""
    return -(-octets // BLOCK_OCTETS) * BLOCK_OCTETS
