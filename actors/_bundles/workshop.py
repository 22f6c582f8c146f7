"""Where a centre makes bundles: the last versions with their packs, in ``<data>/bundles``."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from actors._bundles.arrive import MANIFEST, PackGoneError, pack_name
from actors._bundles.manifest import (
    MAX_MANIFEST_OCTETS,
    MAX_TREE_OCTETS,
    BundleRefusedError,
    Manifest,
    Pack,
    Part,
    digest,
    seal,
    unseal,
)
from actors._bundles.pack import read_tree, regions_of, tree_hash, unpack, ways, whole
from actors._bundles.versions import replace_file
from actors._runtime.objects import Shelf
from subjects.errors import ConfigError

BASES: Final = 3
"""Former versions from which there is a pack: a node that is further behind fetches all."""


class Workshop:
    """The versions that a centre has built."""

    def __init__(self, data: Path, key: str) -> None:
        """``key`` is the centre's public one: what lies here is believed no more than what comes."""
        self.directory: Final = data / "bundles"
        self._key: Final = key

    def built(self) -> list[int]:
        """Numbers of what is here, the newest last."""
        return sorted(int(path.stem) for path in self.directory.glob("*.manifest") if path.stem.isdigit())

    def sealed(self, version: int) -> bytes:
        """A signed manifest. Raises :class:`ConfigError`."""
        try:
            return self._manifest_file(version).read_bytes()
        except OSError as error:
            listed = ", ".join(map(str, self.built())) or "none: `evy sync build` makes one"
            raise ConfigError(f"version {version} is not here; there are {listed}") from error

    def manifest(self, version: int) -> Manifest:
        """A manifest, read. Raises :class:`ConfigError`, :class:`BundleRefusedError`."""
        return unseal(self.sealed(version), self._key)

    def pack(self, pack: Pack) -> bytes:
        """The octets of a pack. Raises :class:`ConfigError`."""
        try:
            return self._pack_file(pack).read_bytes()
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}; build again") from error

    def _manifest_file(self, version: int) -> Path:
        return self.directory / f"{version}.manifest"

    def _pack_file(self, pack: Pack) -> Path:
        return self.directory / "packs" / pack.sha256

    def build(
        self,
        source: Path,
        sign: Callable[[bytes], bytes],
        *,
        now: float,
        critical: bool = False,
        note: str = "",
        version: int | None = None,
    ) -> Manifest | None:
        """A new version of the texts in ``source``; None when they are those of the last one.

        Raises :class:`ConfigError` for a number that goes back, :class:`BundleRefusedError` for files that no
        bundle may have.
        """
        former = [self.manifest(number) for number in self.built()[-BASES:]]
        last = former[-1] if former else None
        number = version or (last.version + 1 if last else 1)
        if last and number <= last.version:
            raise ConfigError(f"version {last.version} was built; a new one has a higher number")
        trees = {region: read_tree(folder) for region, folder in regions_of(source).items()}
        if not any(trees.values()):
            raise ConfigError(f"{source}: no articles, templates, notices, triage or contacts to bundle")
        same = last and {part.region: part.tree for part in last.parts} == {
            region: tree_hash(tree) for region, tree in trees.items()
        }
        if same and not critical and version is None:
            return None
        (self.directory / "packs").mkdir(parents=True, exist_ok=True)
        parts = tuple(self._part(region, tree, former) for region, tree in trees.items())
        mark = number if critical else last.critical if last else 0
        made = Manifest(number, mark, now, note, parts)
        replace_file(self._manifest_file(number), seal(made, sign))
        self._prune()
        return made

    def _part(self, region: str, tree: dict[str, bytes], former: list[Manifest]) -> Part:
        hashed = tree_hash(tree)
        packs = [whole(tree)]
        bases: set[str] = {hashed}
        for manifest in former:
            part = next((part for part in manifest.parts if part.region == region), None)
            if part and part.tree not in bases:
                bases.add(part.tree)
                base = unpack(_whole(part), self.pack(_whole(part)), {}, part)
                best = ways(tree, base)[0]
                if best[0].octets < packs[0][0].octets:
                    packs.append(best)
        for pack, octets in packs:
            replace_file(self._pack_file(pack), octets)
        return Part(region, hashed, len(tree), sum(map(len, tree.values())), tuple(pack for pack, _ in packs))

    def _prune(self) -> None:
        built = self.built()
        for number in built[: -BASES - 1]:
            self._manifest_file(number).unlink()
        wanted = {
            pack.sha256
            for number in built[-BASES - 1 :]
            for part in self.manifest(number).parts
            for pack in part.packs
        }
        for path in (self.directory / "packs").iterdir():
            if path.name not in wanted:
                path.unlink()

    async def publish(self, shelf: Shelf, version: int) -> list[str]:
        """Puts a version where the nodes look, the manifest last; gives the names of what was put.

        Raises :class:`ConfigError` when a later one is there.
        """
        sealed, manifest = self.sealed(version), self.manifest(version)
        there = await self.published(shelf)
        if there and there.version > version:
            raise ConfigError(
                f"version {there.version} is published; nodes take nothing earlier. Build the texts again "
                f"with --version {there.version + 1}"
            )
        names = {pack_name(pack): pack for part in manifest.parts for pack in part.packs}
        # What was damaged there is put again; what is right is left, since nodes may be reading it.
        put = [name for name, pack in names.items() if not await _lies(shelf, name, pack)]
        for name in put:
            await shelf.put(name, self.pack(names[name]))
        if await shelf.get(MANIFEST) != sealed:
            await shelf.put(MANIFEST, sealed)
            put.append(MANIFEST)
        await shelf.keep({MANIFEST, *names})
        return put

    async def published(self, shelf: Shelf) -> Manifest | None:
        """What the nodes find; None when that is nothing, or nothing of this centre's."""
        there = await shelf.get(MANIFEST)
        try:
            return unseal(there, self._key) if there is not None else None
        except BundleRefusedError:
            return None

    def export(self, version: int, file: Path) -> int:
        """Writes a version into one file that can be carried; gives its octets."""
        sealed, manifest = self.sealed(version), self.manifest(version)
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            _add(archive, MANIFEST, sealed)
            for part in manifest.parts:
                pack = _whole(part)
                _add(archive, pack_name(pack), self.pack(pack))
        replace_file(file, content.getvalue())
        return len(content.getvalue())


async def _lies(shelf: Shelf, name: str, pack: Pack) -> bool:
    octets = await shelf.get(name)
    return octets is not None and digest(octets) == pack.sha256


def _whole(part: Part) -> Pack:
    return next(pack for pack in part.packs if pack.form == "whole")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


class Stick:
    """A version in a file, as :meth:`Workshop.export` writes it. Nothing of it is unpacked by its name."""

    def __init__(self, file: Path) -> None:
        """Raises :class:`ConfigError` for what is no such file."""
        self._file = file
        self.sealed = self._read(MANIFEST, MAX_MANIFEST_OCTETS)

    def _read(self, name: str, most: int) -> bytes:
        try:
            with tarfile.open(self._file, mode="r:") as archive:
                member = archive.getmember(name)
                inside = archive.extractfile(member) if member.isfile() and member.size <= most else None
                if inside is None:
                    raise ConfigError(f"{self._file}: {name[:20]} is too large, or no file")
                return inside.read(most)
        except KeyError as error:
            raise ConfigError(
                f"{self._file}: no {name[:20]} in it; `evy sync export` makes such files"
            ) from error
        except (OSError, tarfile.TarError) as error:
            raise ConfigError(f"{self._file} is no bundle of `evy sync export`: {error}") from error

    async def get(self, pack: Pack) -> bytes:
        """The octets of a pack."""
        try:
            return self._read(pack_name(pack), min(pack.octets + 1, MAX_TREE_OCTETS))
        except ConfigError as error:
            raise PackGoneError(str(error)) from error
