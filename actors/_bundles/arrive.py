"""A bundle on its way into a node: fetched by chunks, held against its signature, tried, made current.

What arrived is on the card and stays there over cuts and restarts. Nothing of it is used before all of it has
proved to be what was signed and `actors._bundles.check` has found nothing wrong.
"""

import asyncio
import datetime as dt
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import msgspec

from actors._bundles.check import tried
from actors._bundles.manifest import (
    MAX_MANIFEST_OCTETS,
    BundleRefusedError,
    BundleWaitError,
    Manifest,
    Pack,
    Part,
    digest,
    name_of,
    unseal,
)
from actors._bundles.pack import Tree, tree_hash, unpack
from actors._bundles.versions import Applied, Entry, State, Versions, folder_of, replace_file
from actors._runtime.bus import BusError
from actors._runtime.objects import Found, Objects

MANIFEST: Final = "manifest"
"""Name of the object that says what the newest version is."""
REST: Final = 1.0
"""Rest after a chunk, in times of what it took: at most half of any line is a bundle's, and an answer waits
behind one chunk at most."""
DAMAGED: Final = 2
"""A pack that came damaged so often is so at the centre."""

Get = Callable[[Pack], Awaitable[bytes]]
"""Gives the octets of a pack, wherever they come from."""
Told = Callable[[int, int], object]
"""Takes how many octets of how many have arrived."""
Check = Callable[[Sequence[Path], dt.date], Awaitable[list[str]]]


class Terms(msgspec.Struct, frozen=True):
    """What a node takes."""

    key: str
    """Public key of its centre."""
    regions: frozenset[str] = frozenset()


class Came(NamedTuple):
    """Files that came in no pack; a part is taken when it is what was signed."""

    trees: Mapping[str, Tree]
    octets: int
    """What they took on their way."""


NOTHING: Final = Came({}, 0)


class _Place(msgspec.Struct, frozen=True):
    """How far a pack has come."""

    nuid: str = ""
    next: int = 0
    octets: int = 0
    damaged: int = 0


class PackGoneError(BundleWaitError):
    """The centre has not, or no more, what its manifest names."""


def pack_name(pack: Pack) -> str:
    """Name of a pack's object."""
    return f"pack.{pack.sha256}"


async def read_manifest(objects: Objects, found: Found) -> bytes:
    """The manifest as it lies in the store. Raises :class:`BundleWaitError`, :class:`BundleRefusedError`."""
    octets, place = b"", 0
    while len(octets) < found.size:
        answer = await _chunk(objects, found, place)
        place, chunk = answer
        octets += chunk
        if not chunk or len(octets) > MAX_MANIFEST_OCTETS:
            raise BundleRefusedError(f"a manifest of more than {MAX_MANIFEST_OCTETS} octets")
    return octets


async def _chunk(objects: Objects, found: Found, place: int) -> tuple[int, bytes]:
    try:
        answer = await objects.chunk(found, place)
    except BusError as error:
        raise BundleWaitError(str(error)) from error
    if answer is None:
        raise PackGoneError("the centre replaced it while it was read; the next look finds the new one")
    return answer


async def find(objects: Objects, name: str) -> Found | None:
    """An object of the centre. Raises :class:`BundleWaitError`."""
    try:
        return await objects.find(name)
    except BusError as error:
        raise BundleWaitError(str(error)) from error


def over_the_link(
    objects: Objects,
    incoming: Path,
    told: Told = lambda _have, _of: None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Get:
    """Gets packs from the centre, going on where an earlier try ended."""

    async def get(pack: Pack) -> bytes:
        found = await find(objects, pack_name(pack))
        if found is None:
            raise PackGoneError(f"the centre has no pack {pack.sha256[:12]}: `evy sync publish` there again")
        try:
            kept = _Kept(incoming, pack, found)
            while kept.place.octets < pack.octets:
                began = clock()
                after, chunk = await _chunk(objects, found, kept.place.next)
                kept.add(chunk, after)
                told(kept.place.octets, pack.octets)
                if kept.place.octets < pack.octets:
                    await sleep(REST * (clock() - began))
            return kept.content()
        except OSError as error:
            raise BundleWaitError(f"the card cannot take it: {error}; the former texts stay") from error

    return get


class _Kept:
    """A pack as far as it has come, on the card."""

    def __init__(self, incoming: Path, pack: Pack, found: Found) -> None:
        incoming.mkdir(parents=True, exist_ok=True)
        self._pack = pack
        self._data = incoming / f"{pack.sha256}.part"
        self._mark = incoming / f"{pack.sha256}.at.part"
        self.place = _resume(self._data, self._mark, found)
        with self._data.open("ab") as file:  # what came behind the mark may be torn
            file.truncate(self.place.octets)

    def add(self, chunk: bytes, after: int) -> None:
        """Puts a chunk on the card, then where the next one lies."""
        if not chunk or self.place.octets + len(chunk) > self._pack.octets:
            self._damaged()
        with self._data.open("ab") as file:
            file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        octets = self.place.octets + len(chunk)
        self.place = msgspec.structs.replace(self.place, next=after, octets=octets)
        replace_file(self._mark, msgspec.json.encode(self.place))

    def content(self) -> bytes:
        """All of it, if it is what was signed."""
        octets = self._data.read_bytes()
        if digest(octets) != self._pack.sha256:
            self._damaged()
        return octets

    def _damaged(self) -> NoReturn:
        """What came is not what was signed: it goes, and comes again once."""
        count, name = self.place.damaged + 1, self._pack.sha256[:12]
        self._data.unlink(missing_ok=True)
        if count < DAMAGED:
            replace_file(self._mark, msgspec.json.encode(_Place(self.place.nuid, damaged=count)))
            raise BundleWaitError(f"wrong checksum: pack {name} came damaged and is fetched anew")
        self._mark.unlink(missing_ok=True)
        raise BundleRefusedError(
            f"wrong checksum: pack {name} came damaged {count} times, so it is at the centre; "
            "`evy sync publish` there again, then `evy sync pull --again` here"
        )


def _resume(data: Path, mark: Path, found: Found) -> _Place:
    try:
        place = msgspec.json.decode(mark.read_bytes(), type=_Place)
        held = data.stat().st_size if place.octets else 0
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return _Place(found.nuid)
    if place.nuid != found.nuid or held < place.octets:
        return _Place(found.nuid, damaged=place.damaged)
    return place


async def no_packs(pack: Pack) -> bytes:
    """The :data:`Get` of a bundle that comes without any."""
    raise PackGoneError(f"pack {pack.sha256[:12]} does not come this way")


def is_held(state: State, sealed: bytes, key: str) -> bool:
    """Whether it was refused or rolled back here, whichever way it came then."""
    if not state.held or state.held == digest(sealed):
        return bool(state.held)
    try:
        return state.held == name_of(unseal(sealed, key))
    except BundleRefusedError:
        return False


async def apply(
    versions: Versions,
    sealed: bytes,
    terms: Terms,
    get: Get,
    *,
    by: str,
    now: float,
    person: bool = False,
    check: Check = tried,
    came: Came = NOTHING,
) -> Entry | None:
    """Makes a bundle the current version, or refuses it; what became of it is in the history, and given.

    None: it is the current one already. ``person``: a person says so, which allows an earlier version and one
    that was refused or rolled back. Raises :class:`BundleWaitError` when it may be tried again.
    """
    with versions.writing():
        state, current = versions.state(), versions.current()
        was, name = current.version if current else 0, digest(sealed)
        got = _Counted(get, came.octets)
        version = 0
        try:
            manifest = unseal(sealed, terms.key)
            version, name = manifest.version, name_of(manifest)
            if current and current.name == name and current.regions == _taken(manifest, terms):
                return None
            _allowed(manifest, name, state, current, person=person)
            trees = await _trees({**versions.trees(current), **came.trees}, manifest, terms, got)
            draft = versions.stage(sealed, manifest, trees)
            await _try(draft, trees, manifest, check)
            versions.switch(draft, manifest)
        except BundleRefusedError as error:
            entry = Entry(now, "refused", version, was, by, str(error), got.octets)
            versions.note(entry, held=name, held_because=str(error))
            return entry
        entry = Entry(now, "applied", version, was, by, manifest.note, got.octets)
        kept_back = current.name if current and version < state.highest else ""
        versions.note(
            entry,
            highest=max(version, state.highest),
            held=kept_back,
            held_because="a person put an earlier version in its place" if kept_back else "",
        )
        versions.prune()
        shutil.rmtree(versions.incoming, ignore_errors=True)
        return entry


class _Counted:
    """Counts what was fetched."""

    def __init__(self, get: Get, octets: int) -> None:
        self._get = get
        self.octets = octets

    async def __call__(self, pack: Pack) -> bytes:
        content = await self._get(pack)
        self.octets += len(content)
        return content


def _taken(manifest: Manifest, terms: Terms) -> frozenset[str]:
    return frozenset(part.region for part in manifest.of(terms.regions)) | {""}


def _allowed(manifest: Manifest, name: str, state: State, current: Applied | None, *, person: bool) -> None:
    if current and manifest.version == current.version and name != current.name:
        raise BundleRefusedError(
            f"another bundle has number {manifest.version} and is in use: the centre lost count; "
            f"build there with `--version {manifest.version + 1}`"
        )
    if manifest.version < state.highest and not person:
        raise BundleRefusedError(
            f"downgrade: this is version {manifest.version}, and {state.highest} was here; "
            "`evy sync apply FILE --downgrade` if a person wants it"
        )


async def _trees(have: Mapping[str, Tree], manifest: Manifest, terms: Terms, get: Get) -> dict[str, Tree]:
    """The files of all parts that the node takes: what is here already, and what must come."""
    made: dict[str, Tree] = {}
    for part in manifest.of(terms.regions):
        base = have.get(part.region, {})
        made[part.region] = (
            base if part.region in have and tree_hash(base) == part.tree else await _come(part, base, get)
        )
    return made


async def _come(part: Part, base: Tree, get: Get) -> Tree:
    begins = tree_hash(base)
    usable = sorted(
        (pack for pack in part.packs if pack.form == "whole" or pack.base == begins),
        key=lambda pack: pack.octets,
    )
    for pack in usable:
        try:
            return unpack(pack, await get(pack), base, part)
        except PackGoneError:
            if pack is usable[-1]:
                raise
    raise BundleRefusedError(f"no pack for region {part.region or 'all'!r} begins at what this node has")


async def _try(draft: Path, trees: Iterable[str], manifest: Manifest, check: Check) -> None:
    """Raises :class:`BundleRefusedError` when something is wrong with a staged version, which then goes."""
    folders = [draft / folder_of(region) for region in sorted(trees)]
    today = dt.datetime.fromtimestamp(manifest.made_at, dt.UTC).date()  # a node's own clock may stand at 1970
    try:
        wrong = await check(folders, today)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    if wrong:
        shutil.rmtree(draft, ignore_errors=True)
        raise BundleRefusedError("; ".join(wrong))


def rollback(versions: Versions, to: int | None, *, by: str, now: float) -> Entry:
    """Puts a former version back; what was current is not applied again by itself.

    Raises :class:`ConfigError` when there is none."""
    with versions.writing():
        before = versions.current()
        chosen = versions.back(to)
        entry = Entry(
            now, "rolled_back", chosen.version if chosen else 0, before.version if before else 0, by
        )
        versions.note(
            entry,
            held=before.name if before else "",
            held_because=f"a person went back from {before.version}" if before else "",
        )
        return entry
