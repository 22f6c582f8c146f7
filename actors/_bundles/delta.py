"""A version as what is new in it, for a way on which each octet counts: the mesh.

A delta begins with the centre's signature of the manifest without packs. Behind it are that manifest and the
files that changed, compressed with all that the reader has as dictionary; what the reader can compute, the
hashes of trees and the names of former files, is left out. Whoever has two versions can write it, and nothing
in it is believed: it is right when what it leads to is what the centre signed.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Final, NamedTuple

import msgspec
import zstandard

from actors._bundles.manifest import (
    MAX_FILES,
    MAX_MANIFEST_OCTETS,
    BundleRefusedError,
    Manifest,
    Region,
    bare,
    bare_seal,
    digest,
    unseal,
)
from actors._bundles.pack import Tree, bounded, check_path, tree_hash
from actors._bundles.versions import Applied, Versions

MAX_OCTETS: Final = 32 * 1024
"""Of a delta: at SF9 and 125 kHz three minutes of air, each hop."""
MAX_UNPACKED: Final = 4 * 1024 * 1024
"""Of the files in it, whole."""
SIGNATURE_OCTETS: Final = 64
_LEVEL: Final = 12
_TABLES: Final = 20
"""Binary logarithm of the compressor's tables: 9 MB in all, for a giver that is a Raspberry Pi. zstd's best
with all the memory it wants saves 5 % of such deltas, and takes ten times as long."""
_MAX_WINDOW: Final = 26
_UNKNOWN: Final = b"0" * 64
"""Stands for the hash of a tree that the reader computes."""


class Standing(NamedTuple):
    """What a node has of a version: the manifest without packs, and the files of each part it takes."""

    bare: bytes
    trees: Mapping[str, Tree]

    @property
    def name(self) -> bytes:
        """Four octets that say from where a delta begins; zeros: from nothing."""
        if not self.bare:
            return bytes(4)
        return bytes.fromhex(digest(self.bare + "\0".join(sorted(self.trees)).encode()))[:4]


NOWHERE: Final = Standing(b"", {})


def standing(versions: Versions, applied: Applied | None, regions: frozenset[str]) -> Standing | None:
    """What there is of a version for a node of these regions; None when not all of it is here, as signed."""
    if applied is None:
        return None
    have = versions.trees(applied)
    taken = [part.region for part in applied.manifest.of(regions)]
    if not all(region in have for region in taken):
        return None
    return Standing(bare(applied.manifest), {region: have[region] for region in taken})


class _Body(msgspec.Struct, frozen=True, array_like=True):
    bare: Annotated[bytes, msgspec.Meta(max_length=MAX_MANIFEST_OCTETS)]
    touched: Annotated[tuple[bytes | None, ...], msgspec.Meta(max_length=MAX_FILES)]
    """New content of each file that the head names; None: it is gone."""
    added: Annotated[tuple[tuple[Region, str, bytes], ...], msgspec.Meta(max_length=MAX_FILES)]


_Files = dict[tuple[str, str], bytes]


def _files(trees: Mapping[str, Tree]) -> _Files:
    """All files in the order in which a delta counts them."""
    return {(region, name): trees[region][name] for region in sorted(trees) for name in sorted(trees[region])}


def write(base: Standing, target: Standing, signature: bytes) -> bytes:
    """The delta from one version to another, for a node that stands on ``base``."""
    old, new = _files(base.trees), _files(target.trees)
    touched = [at for at, file in enumerate(old) if new.get(file) != old[file]]
    names = list(old)
    body = _Body(
        _masked(target),
        tuple(new.get(names[at]) for at in touched),
        tuple((region, name, new[region, name]) for region, name in new if (region, name) not in old),
    )
    octets = msgspec.msgpack.encode(body)
    dictionary = _dictionary(base, old, touched)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        window_log=_window(len(dictionary)),
        hash_log=_TABLES,
        chain_log=_TABLES,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    compressor = zstandard.ZstdCompressor(dict_data=_raw(dictionary), compression_params=parameters)
    gaps = (at - before for before, at in zip([-1, *touched], touched, strict=False))
    return signature + _numbers([len(touched), *gaps]) + compressor.compress(octets)


def read(
    octets: bytes, base: Standing, regions: frozenset[str], key: str
) -> tuple[bytes, Manifest, dict[str, dict[str, bytes]]]:
    """The sealed manifest that a delta leads to, read, and its files by region.

    Raises :class:`BundleRefusedError` for whatever the centre with this ``key`` did not sign.
    """
    if len(octets) > MAX_OCTETS:
        raise BundleRefusedError(f"a delta of {len(octets)} octets, at most {MAX_OCTETS}")
    old = _files(base.trees)
    signature, rest = octets[:SIGNATURE_OCTETS], iter(octets[SIGNATURE_OCTETS:])
    touched = _touched(rest, len(old))
    body = _unpacked(bytes(rest), _dictionary(base, old, touched))
    if len(body.touched) != len(touched):
        raise BundleRefusedError(f"a delta with {len(body.touched)} of {len(touched)} files")
    files = dict(old)
    names = list(old)
    for at, content in zip(touched, body.touched, strict=True):
        if content is None:
            del files[names[at]]
        else:
            files[names[at]] = content
    files.update({(region, name): content for region, name, content in body.added})
    return _signed(body.bare, files, signature, regions, key)


def _signed(
    masked: bytes, files: _Files, signature: bytes, regions: frozenset[str], key: str
) -> tuple[bytes, Manifest, dict[str, dict[str, bytes]]]:
    taken = _taken(masked, regions)
    trees: dict[str, dict[str, bytes]] = {region: {} for region in taken}
    for (region, name), content in files.items():
        if region in trees:  # a region that is no more: nothing of it is kept
            check_path(name)
            trees[region][name] = content
    filled = masked
    for region in taken:
        bounded(len(trees[region]), sum(map(len, trees[region].values())), "a delta")
        filled = filled.replace(_UNKNOWN, tree_hash(trees[region]).encode(), 1)
    sealed = bare_seal(filled, signature)
    return sealed, unseal(sealed, key), trees


def _masked(target: Standing) -> bytes:
    masked = target.bare
    for region in _taken(masked, frozenset(target.trees)):
        masked = masked.replace(tree_hash(target.trees[region]).encode(), _UNKNOWN, 1)
    return masked


def _taken(octets: bytes, regions: frozenset[str]) -> list[str]:
    try:
        manifest = msgspec.json.decode(octets, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleRefusedError(f"a delta without a manifest: {error}") from error
    return [part.region for part in manifest.of(regions)]


def _dictionary(base: Standing, files: _Files, touched: Iterable[int]) -> bytes:
    """What the reader has, what changes at the end: near is cheap."""
    chosen, contents = set(touched), list(files.values())
    rest = (content for at, content in enumerate(contents) if at not in chosen)
    return b"".join((*rest, base.bare, *(contents[at] for at in sorted(chosen))))


def _window(dictionary: int) -> int:
    """Binary logarithm of how far back a delta may refer: to all of the dictionary from its end."""
    return min(_MAX_WINDOW, (dictionary + MAX_UNPACKED).bit_length())


def _raw(dictionary: bytes) -> zstandard.ZstdCompressionDict | None:
    if len(dictionary) < 8:  # zstd takes no shorter one
        return None
    return zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _unpacked(octets: bytes, dictionary: bytes) -> _Body:
    decompressor = zstandard.ZstdDecompressor(
        dict_data=_raw(dictionary),
        max_window_size=1 << _window(len(dictionary)),
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
    )
    try:
        # Not at once: that would take as much memory as the frame says.
        body = decompressor.stream_reader(octets).read(MAX_UNPACKED + 1)
        if len(body) > MAX_UNPACKED:
            raise BundleRefusedError(f"a delta of more than {MAX_UNPACKED} octets of files")
        return msgspec.msgpack.decode(body, type=_Body)
    except (zstandard.ZstdError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleRefusedError(f"a delta that cannot be unpacked: {error}") from error


def _numbers(numbers: Iterable[int]) -> bytes:
    """Seven bits an octet, the lowest first; the highest bit says that more follow."""
    octets = bytearray()
    for number in numbers:
        left = number
        while left > 0x7F:
            octets.append(left & 0x7F | 0x80)
            left >>= 7
        octets.append(left)
    return bytes(octets)


def _number(octets: Iterator[int]) -> int:
    number = 0
    for shift in (0, 7, 14):
        octet = next(octets, None)
        if octet is None:
            break
        number |= (octet & 0x7F) << shift
        if octet < 0x80:
            return number
    raise BundleRefusedError("a delta that is cut off")


def _touched(octets: Iterator[int], files: int) -> list[int]:
    """Places of the files that change, of so many."""
    places: list[int] = []
    at = -1
    for _ in range(_number(octets)):
        at += _number(octets)
        if at >= files or (places and at == places[-1]) or at < 0:
            raise BundleRefusedError(f"a delta that changes file {at} of {files}")
        places.append(at)
    return places
