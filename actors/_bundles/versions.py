"""The versions of a node's bundled texts on its card, one of them current, and what became of each.

``<data>/sync`` holds a folder of each kept version, a symbolic link ``current``, what is on its way in
``incoming``, and ``state.json``. A version is written beside the others and synced to the card, checked
there, and becomes current by one rename of the link: whoever looks sees the old one or the new one.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from actors._bundles.manifest import BundleRefusedError, BundleWaitError, Manifest, digest, name_of
from actors._bundles.pack import Tree, read_tree, tree_hash
from actors.knowledge.loader import ALL, BUNDLES, REGION
from subjects.errors import ConfigError

KEPT: Final = 3
"""Versions on the card, the current one included: one costs some megabytes."""
HISTORY: Final = 100
"""Entries kept; each is some 200 octets."""
MANIFEST: Final = "manifest"
SPARE_OCTETS: Final = 16 * 1024 * 1024
"""Stays free when a version is written: the server and the texts of people come first."""

What = Literal["applied", "refused", "rolled_back"]


class Entry(msgspec.Struct, frozen=True):
    """One line of the history."""

    at: float
    what: What
    version: int
    """The bundle that it is about."""
    was: int
    """What was current before."""
    by: str
    """link, mesh, stick or a person's command."""
    reason: str = ""
    octets: int = 0
    """What was fetched for it."""


class State(msgspec.Struct, frozen=True):
    """What the node remembers besides the folders."""

    highest: int = 0
    """The highest version that ever was current: an earlier one takes a person."""
    held: str = ""
    """Name of the version that is not applied by itself: it was refused, or rolled back by a person. Of one
    that no signature vouched for, or that an earlier release held, the digest of the manifest as it came."""
    held_because: str = ""
    history: tuple[Entry, ...] = ()
    """The newest last."""


class Applied(msgspec.Struct, frozen=True):
    """A version on the card."""

    folder: Path
    manifest: Manifest
    name: str
    """Of the version, whichever way it came: :func:`actors._bundles.manifest.name_of`."""
    regions: frozenset[str]
    """Of which it holds the files, ``""`` (all) among them."""

    @property
    def version(self) -> int:
        """Its number."""
        return self.manifest.version


class Versions:
    """The versions of one node. Only one process writes at a time: see :meth:`writing`."""

    def __init__(self, data: Path) -> None:
        self.directory: Final = data / BUNDLES
        self._link: Final = self.directory / "current"
        self.incoming: Final = self.directory / "incoming"

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Held while something is applied; :class:`BundleWaitError` when another process does."""
        self.incoming.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BundleWaitError("another process applies a bundle here now; try again") from error
            self._tidy()
            yield

    def _tidy(self) -> None:
        """Removes what a process that died was writing."""
        for path in self.directory.glob("*.new"):
            shutil.rmtree(path, ignore_errors=True)
        (self.directory / "current.new").unlink(missing_ok=True)

    def mend(self) -> None:
        """Makes a missing link again, as the history says what it was: a backup holds no links."""
        history = self.state().history
        last = next((entry for entry in reversed(history) if entry.what != "refused"), None)
        if last and not self._link.is_symlink():
            chosen = next((one for one in self.kept() if one.version == last.version), None)
            if chosen:
                self._point(chosen.folder)

    def state(self) -> State:
        """What is remembered. A file that cannot be read is an error, not a fresh start: it holds the
        highest version. Raises :class:`ConfigError`."""
        path = self.directory / "state.json"
        try:
            known = msgspec.json.decode(path.read_bytes(), type=State)
        except FileNotFoundError:
            known = State()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}: {error}; remove it, and apply the newest bundle by `evy sync pull`"
            ) from error
        now = self.current()
        return msgspec.structs.replace(known, highest=max(known.highest, now.version if now else 0))

    def remember(self, state: State) -> None:
        """Writes the state, whole or not at all."""
        kept = msgspec.structs.replace(state, history=state.history[-HISTORY:])
        self.directory.mkdir(parents=True, exist_ok=True)
        replace_file(self.directory / "state.json", msgspec.json.encode(kept))

    def current(self) -> Applied | None:
        """The version in use; None: only what was shipped."""
        return self._read(self._link.resolve()) if self._link.is_symlink() else None

    def kept(self) -> list[Applied]:
        """Versions on the card, the newest last."""
        found = [self._read(path) for path in self.directory.glob("[0-9]*") if not path.name.endswith(".new")]
        return sorted((one for one in found if one), key=lambda one: one.version)

    def _read(self, folder: Path) -> Applied | None:
        try:
            manifest = msgspec.json.decode((folder / "inside.json").read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None  # nothing that this node made; a person sees by `evy sync status` that it is gone
        regions = {
            path.name.removeprefix(REGION) for path in folder.iterdir() if path.name.startswith(REGION)
        }
        return Applied(folder, manifest, name_of(manifest), frozenset(regions | {""}))

    def trees(self, applied: Applied | None) -> dict[str, dict[str, bytes]]:
        """The files of a version by region, as far as they still are what was signed."""
        found: dict[str, dict[str, bytes]] = {}
        for part in applied.manifest.parts if applied else ():
            if applied and part.region in applied.regions:
                with contextlib.suppress(BundleRefusedError, ConfigError):
                    tree = read_tree(applied.folder / folder_of(part.region))
                    if tree_hash(tree) == part.tree:
                        found[part.region] = tree
        return found

    def stage(self, sealed: bytes, manifest: Manifest, trees: Mapping[str, Tree]) -> Path:
        """Writes a version beside the others, on the card when this returns. Nobody uses it yet.

        Raises :class:`BundleWaitError` when there is no room, or the card cannot be written.
        """
        needed = sum(len(content) for tree in trees.values() for content in tree.values())
        named = digest(sealed + ",".join(sorted(trees)).encode())
        folder = self.directory / f"{manifest.version:08}-{named[:12]}"
        draft = folder.with_name(f"{folder.name}.new")
        try:
            free = shutil.disk_usage(self.directory).free
            if free < needed + SPARE_OCTETS:
                raise BundleWaitError(
                    f"no room: it takes {needed + SPARE_OCTETS} octets, {free} are free; former texts stay"
                )
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            for region, tree in trees.items():
                (draft / folder_of(region)).mkdir()
                for name, content in tree.items():
                    path = draft / folder_of(region) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(path, content)
            _write(draft / MANIFEST, sealed)
            _write(draft / "inside.json", msgspec.json.encode(manifest))
            for path in [draft, *(path for path in draft.rglob("*") if path.is_dir())]:
                sync_folder(path)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise BundleWaitError(f"the card cannot take it: {error}; the former texts stay") from error
        return draft

    def switch(self, draft: Path, manifest: Manifest) -> None:
        """Makes a staged version the current one."""
        folder = draft.with_name(draft.name.removesuffix(".new"))
        try:
            if folder != draft:
                now = self.current()
                if now and now.folder == folder.resolve():
                    shutil.rmtree(draft)  # the same version again
                else:
                    shutil.rmtree(folder, ignore_errors=True)
                    draft.rename(folder)
            self._point(folder)
        except OSError as error:
            raise BundleWaitError(f"the card cannot take version {manifest.version}: {error}") from error

    def _point(self, folder: Path | None) -> None:
        if folder is None:
            self._link.unlink(missing_ok=True)
        else:
            draft = self.directory / "current.new"
            draft.unlink(missing_ok=True)
            draft.symlink_to(folder.name)
            draft.replace(self._link)
        sync_folder(self.directory)

    def back(self, to: int | None) -> Applied | None:
        """Makes a former version current: that of a number, or the one before; gives it. None: what was
        shipped. Raises :class:`ConfigError` when there is none."""
        now, kept = self.current(), self.kept()
        if now is None and to is None:
            raise ConfigError("nothing to go back from: this node has only what was shipped")
        if to == 0:
            self._point(None)
            return None
        if to is None:
            before = [one for one in kept if now and one.version < now.version]
            if not before:
                raise ConfigError("no former version is kept; `evy sync rollback --to 0`: what was shipped")
            chosen = before[-1]
        else:
            found = next((one for one in kept if one.version == to), None)
            if found is None:
                listed = ", ".join(str(one.version) for one in kept) or "none"
                raise ConfigError(f"version {to} is not kept; there are {listed}, and 0: what was shipped")
            chosen = found
        self._point(chosen.folder)
        return chosen

    def prune(self) -> None:
        """Removes versions beyond :data:`KEPT`, oldest first, never the current one."""
        now = self.current()
        others = [one for one in self.kept() if not now or one.folder != now.folder]
        for one in others[: max(0, len(others) - (KEPT - 1))]:
            shutil.rmtree(one.folder, ignore_errors=True)

    def unreported(self) -> list[Entry]:
        """Entries of the history that the centre was not told, the oldest first."""
        history = self.state().history
        try:
            last = msgspec.json.decode((self.directory / "reported.json").read_bytes(), type=Entry)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return list(history[-1:])
        return list(history[history.index(last) + 1 :] if last in history else history[-1:])

    def reported(self, entry: Entry) -> None:
        """The centre was told of this one and all before."""
        replace_file(self.directory / "reported.json", msgspec.json.encode(entry))

    def note(self, entry: Entry, **changed: object) -> None:
        """Adds to the history, with other changes of the state."""
        known = self.state()
        self.remember(msgspec.structs.replace(known, history=(*known.history, entry), **changed))


def folder_of(region: str) -> str:
    """Where the files of a region lie in a version."""
    return f"{REGION}{region}" if region else ALL


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Puts a folder's entries on the card."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file, the old content or the new whatever happens. Raises :class:`BundleWaitError`."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write(draft, content)
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise BundleWaitError(f"the card cannot take it: {error}: {path}") from error
