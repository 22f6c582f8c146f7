"""Trees of text files, and packs that lead from one to the next in few octets."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from actors._bundles.manifest import (
    MAX_FILES,
    MAX_TREE_OCTETS,
    BundleRefusedError,
    Form,
    Pack,
    Part,
    digest,
)
from subjects.errors import ConfigError

Tree = Mapping[str, bytes]
"""Files by their path inside a part."""

LEVEL: Final = 19
"""zstd's slowest level without its memory-hungry ones: a node needs no more to unpack than at level 3."""
WINDOW: Final = 26
"""Binary logarithm of how far back a pack may refer: 64 MiB, a former part and the new one."""

PLACES: Final = ("articles", "templates", "follow", "notices", "sources", "triage")
"""Folders of a bundle; each is what the folder of that name in ``actors/knowledge`` is."""
FILES: Final = ("sources.toml", "contacts.toml", "mesh.roster")
REGIONS: Final = "regions"
"""Folder whose folders are regions, each laid out like a bundle."""

_STEP: Final = re.compile(r"[a-z0-9][A-Za-z0-9_.-]{0,79}")
DEEPEST: Final = 4


class _Index(msgspec.Struct, frozen=True):
    """The head of a pack: what follows it, in this order, and what goes."""

    files: tuple[tuple[str, int], ...]
    removed: tuple[str, ...] = ()


def check_path(name: str) -> None:
    """Raises :class:`BundleRefusedError` for a path that no file of a bundle may have."""
    steps = name.split("/")
    fits = steps[0] in PLACES and 2 <= len(steps) <= DEEPEST and all(map(_STEP.fullmatch, steps))
    if name not in FILES and not (fits and name.endswith((".toml", ".tsv"))):
        raise BundleRefusedError(
            f"{name[:120]!r} is no file of a bundle: {', '.join(FILES)}, or .toml and .tsv under "
            f"{', '.join(PLACES)}"
        )


def tree_hash(tree: Tree) -> str:
    """What a tree is known by: SHA-256 over the path and SHA-256 of every file, by path."""
    whole = hashlib.sha256()
    for name in sorted(tree):
        whole.update(f"{name}\0{digest(tree[name])}\n".encode())
    return whole.hexdigest()


def read_tree(directory: Path) -> dict[str, bytes]:
    """The files of a part on disk. What is none of a bundle's, such as notes or drafts of an editor, is left.

    Raises :class:`BundleRefusedError` for too much, :class:`ConfigError` for what cannot be read.
    """
    found: dict[str, bytes] = {}
    octets = 0
    for path in _files(directory):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        octets += len(content)
        found[path.relative_to(directory).as_posix()] = content
        bounded(len(found), octets, str(directory))
    for name in found:
        check_path(name)
    return found


def _files(directory: Path) -> Iterator[Path]:
    for place in PLACES:
        for suffix in ("*.toml", "*.tsv"):
            yield from (path for path in sorted((directory / place).rglob(suffix)) if path.is_file())
    yield from (directory / name for name in FILES if (directory / name).is_file())


def bounded(files: int, octets: int, where: str) -> None:
    """Raises :class:`BundleRefusedError` for more than a part may have."""
    if files > MAX_FILES or octets > MAX_TREE_OCTETS:
        raise BundleRefusedError(
            f"{where}: {files} files of {octets} octets; a part has at most {MAX_FILES} of {MAX_TREE_OCTETS}"
        )


def regions_of(directory: Path) -> dict[str, Path]:
    """The folder of each part of what shall be bundled: ``""`` for all, then by region."""
    found = {"": directory}
    for path in sorted((directory / REGIONS).glob("*")):
        if path.is_dir():
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", path.name):
                raise ConfigError(f"{path}: name a region with a-z, 0-9, _ and -, at most 32")
            found[path.name] = path
    return found


def changes(tree: Tree, base: Tree) -> list[str]:
    """Files that are other than in ``base``."""
    return [name for name in sorted(tree) if base.get(name) != tree[name]]


def _body(tree: Tree, names: Iterable[str], removed: Iterable[str]) -> bytes:
    listed = tuple(names)
    index = _Index(tuple((name, len(tree[name])) for name in listed), tuple(removed))
    return msgspec.json.encode(index) + b"\0" + b"".join(tree[name] for name in listed)


def _dictionary(tree: Tree) -> bytes:
    return b"".join(tree[name] for name in sorted(tree))


def _compressor(dictionary: bytes) -> zstandard.ZstdCompressor:
    if not dictionary:
        return zstandard.ZstdCompressor(level=LEVEL)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=WINDOW, enable_ldm=True, dict_size=len(dictionary)
    )
    raw = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=raw, compression_params=parameters)


def whole(tree: Tree) -> tuple[Pack, bytes]:
    """A pack that begins at nothing."""
    body = _body(tree, sorted(tree), ())
    octets = _compressor(b"").compress(body)
    return Pack("whole", digest(octets), len(octets), len(body)), octets


def ways(tree: Tree, base: Tree) -> list[tuple[Pack, bytes]]:
    """Packs from ``base`` to ``tree``, the smallest first."""
    changed = changes(tree, base)
    body = _body(tree, changed, (name for name in sorted(base) if name not in tree))
    dictionaries: dict[Form, bytes] = {
        "plain": b"",
        "over": _dictionary(base),
    }
    made = []
    for form, dictionary in dictionaries.items():
        if form == "plain" or dictionary:
            octets = _compressor(dictionary).compress(body)
            made.append((Pack(form, digest(octets), len(octets), len(body), tree_hash(base)), octets))
    return sorted(made, key=lambda one: one[0].octets)


def unpack(pack: Pack, octets: bytes, base: Tree, part: Part) -> dict[str, bytes]:
    """The tree that a pack leads to. Raises :class:`BundleRefusedError` unless it is the part's."""
    where = f"pack {pack.sha256[:12]}"
    if len(octets) != pack.octets or digest(octets) != pack.sha256:
        raise BundleRefusedError(f"{where}: wrong checksum: {len(octets)} octets, {pack.octets} were signed")
    index, content = _read(pack, octets, base, where)
    tree = {} if pack.form == "whole" else {name: base[name] for name in base if name not in index.removed}
    begin = 0
    for name, length in index.files:
        check_path(name)
        if length < 0 or begin + length > len(content):
            raise BundleRefusedError(f"{where}: {name} is cut off")
        tree[name] = content[begin : begin + length]
        begin += length
    bounded(len(tree), sum(map(len, tree.values())), where)
    if tree_hash(tree) != part.tree:
        raise BundleRefusedError(f"{where}: wrong checksum of the files it leads to")
    return tree


def _read(pack: Pack, octets: bytes, base: Tree, where: str) -> tuple[_Index, bytes]:
    dictionary = _dictionary(base) if pack.form == "over" else b""
    raw = (
        zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        if dictionary
        else None
    )
    try:
        if zstandard.frame_content_size(octets) != pack.unpacked:
            raise BundleRefusedError(f"{where}: not as large inside as was signed")
        body = zstandard.ZstdDecompressor(dict_data=raw, max_window_size=1 << WINDOW).decompress(
            octets, max_output_size=pack.unpacked
        )
    except zstandard.ZstdError as error:
        raise BundleRefusedError(f"{where}: {error}") from error
    head, _, content = body.partition(b"\0")
    try:
        return msgspec.json.decode(head, type=_Index), content
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleRefusedError(f"{where}: {error}") from error
