"""What a bundle is: a signed manifest that names, by region, the tree of files and packs that lead to it.

The files of all nodes are the part ``""``; a node adds the parts of its regions. A part is known by the hash
of its tree, so a node finds the pack that begins at what it has, whichever way it came there. A pack is named
by its content, and the list of files inside it is covered by its hash: one signature covers all.

A second signature is of the same manifest without its packs: files that came in no pack, as over a mesh, are
held against the hashes of their trees, and need nothing else of it.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from subjects.errors import EvyError

MAX_MANIFEST_OCTETS: Final = 64 * 1024
MAX_TREE_OCTETS: Final = 32 * 1024 * 1024
"""Of all files of a part together; eight times what EVY ships."""
MAX_FILES: Final = 5000
"""Of a part; each costs a node a file and an inode."""

_MARK: Final = b"EVY bundle 1\n"
"""Goes before what is signed, so that no other signature of the same key can pass for one of these."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Region = Annotated[str, msgspec.Meta(pattern=r"^(?:[a-z0-9][a-z0-9_-]{0,31})?$")]
Form = Literal["whole", "plain", "over"]
"""How a pack is made. whole: every file. The others hold the files that changed: plain by themselves, over
with the former tree as dictionary, so that of a changed file only what is new in it travels."""


class BundleRefusedError(EvyError):
    """A bundle that must not be applied, with the reason; trying it again changes nothing."""


class BundleWaitError(EvyError):
    """A bundle that cannot be applied now: no link, no room; trying again later is right."""


class Pack(msgspec.Struct, frozen=True):
    """One content-addressed part of a bundle on its way: ``octets`` compressed, ``unpacked`` inside."""

    form: Form
    sha256: Sha256
    octets: Annotated[int, msgspec.Meta(ge=1, le=MAX_TREE_OCTETS)]
    unpacked: Annotated[int, msgspec.Meta(ge=1, le=2 * MAX_TREE_OCTETS)]
    base: str = ""
    """Hash of the tree it begins at; empty: nothing."""


class Part(msgspec.Struct, frozen=True):
    """The files of one region, ``""`` those of all."""

    region: Region
    tree: Sha256
    files: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILES)]
    octets: Annotated[int, msgspec.Meta(ge=0, le=MAX_TREE_OCTETS)]
    packs: Annotated[tuple[Pack, ...], msgspec.Meta(max_length=16)]


class Manifest(msgspec.Struct, frozen=True):
    """One version of all texts that a centre sends down."""

    version: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    critical: int
    """The last version that could not wait; a node that is behind it applies this one at once."""
    made_at: float
    """Unix seconds by the centre's clock."""
    note: Annotated[str, msgspec.Meta(max_length=200)]
    parts: Annotated[tuple[Part, ...], msgspec.Meta(min_length=1, max_length=256)]

    def of(self, regions: frozenset[str]) -> tuple[Part, ...]:
        """The parts for a node: that of all, and those of its regions."""
        return tuple(part for part in self.parts if not part.region or part.region in regions)


class _Signed(msgspec.Struct, frozen=True, omit_defaults=True):
    manifest: bytes
    signature: bytes
    bare: bytes = b""
    """Signature of the manifest without its packs; empty: a centre of an earlier release made it."""


def seal(manifest: Manifest, sign: Callable[[bytes], bytes]) -> bytes:
    """The manifest as it travels and is kept; ``sign`` makes the Ed25519 signature of the centre."""
    octets = msgspec.json.encode(manifest)
    without = bare(manifest)
    more = sign(_MARK + without) if without != octets else b""
    sealed = msgspec.json.encode(_Signed(octets, sign(_MARK + octets), more))
    if len(sealed) > MAX_MANIFEST_OCTETS:
        raise BundleRefusedError(
            f"the manifest has {len(sealed)} octets, at most {MAX_MANIFEST_OCTETS}: too many regions"
        )
    return sealed


def unseal(octets: bytes, key: str) -> Manifest:
    """The manifest inside, once the centre's public ``key`` (an account's nkey) has vouched for it.

    Raises :class:`BundleRefusedError`.
    """
    if len(octets) > MAX_MANIFEST_OCTETS:
        raise BundleRefusedError(f"a manifest of {len(octets)} octets, at most {MAX_MANIFEST_OCTETS}")
    signed = _signed(octets)
    try:
        public_key(key).verify(signed.signature, _MARK + signed.manifest)
    except InvalidSignature as error:
        raise BundleRefusedError(
            "bad signature: it is another centre's, or was changed on its way"
        ) from error
    try:
        return msgspec.json.decode(signed.manifest, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleRefusedError(f"signed, but not readable by this release: {error}; upgrade it") from error


def _signed(octets: bytes) -> _Signed:
    try:
        return msgspec.json.decode(octets, type=_Signed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleRefusedError(f"no manifest of a bundle: {error}") from error


def bare(manifest: Manifest) -> bytes:
    """A manifest without its packs, as it is signed: what a version is, whichever way it came."""
    parts = tuple(msgspec.structs.replace(part, packs=()) for part in manifest.parts)
    return msgspec.json.encode(msgspec.structs.replace(manifest, parts=parts))


def name_of(manifest: Manifest) -> str:
    """The same for every way in which a version comes."""
    return digest(bare(manifest))


def bare_seal(octets: bytes, signature: bytes) -> bytes:
    """What :func:`bare` gave with its signature, as it is kept and unsealed."""
    return msgspec.json.encode(_Signed(octets, signature))


def bare_signature(sealed: bytes, key: str) -> bytes:
    """The centre's signature of the manifest without packs. Raises :class:`BundleRefusedError` when there is
    none that holds: the centre, or this node, is of an earlier release."""
    manifest, signed = unseal(sealed, key), _signed(sealed)
    octets = bare(manifest)
    signature = signed.bare or signed.signature
    unseal(bare_seal(octets, signature), key)
    return signature


def public_key(nkey: str) -> Ed25519PublicKey:
    """The Ed25519 key in an nkey's text: prefix, 32 octets, CRC. Raises :class:`BundleRefusedError`."""
    try:
        raw = base64.b32decode(nkey.encode())
    except (binascii.Error, ValueError) as error:
        raise BundleRefusedError(f"{nkey[:60]!r} is no public key of a centre") from error
    if (
        len(raw) != 35
        or not nkey.startswith("A")
        or binascii.crc_hqx(raw[:33], 0).to_bytes(2, "little") != raw[33:]
    ):
        raise BundleRefusedError(f"{nkey[:60]!r} is no public key of a centre: they begin with A")
    return Ed25519PublicKey.from_public_bytes(raw[1:33])


def digest(octets: bytes) -> str:
    """SHA-256, as packs and manifests are named."""
    return hashlib.sha256(octets).hexdigest()
