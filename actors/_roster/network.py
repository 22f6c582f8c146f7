"""The file of a mesh network: what all its nodes agree on, and who they are, signed by who made it.

It is the same for every node and holds no secret in the clear: the network key is in it once for each
member, sealed to that member's public key (HPKE, RFC 9180). With a node's private key added it is what
`evy mesh enrol` makes for that one node.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from subjects.errors import ConfigError

ROSTER: Final = "mesh.roster"
"""Its name among what a centre syncs; beside it `evy mesh` writes NAME.roster."""
MAX_FILE_OCTETS: Final = 256 * 1024
"""Five times the file of a full network: what is larger is none."""
MAX_MEMBERS: Final = 100
NETWORK_KEY_OCTETS: Final = 16
FIRST_ADDRESS, LAST_ADDRESS = 1, 254
"""0 is nobody, 255 everybody."""
LAST_NETWORK: Final = 255
"""One octet of each frame."""

_MARK: Final = b"EVY mesh 1\n"
"""Goes before what is signed and sealed, so that nothing else made with the same keys can pass for it."""
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Address = Annotated[int, msgspec.Meta(ge=FIRST_ADDRESS, le=LAST_ADDRESS)]
SpreadingFactor = Annotated[int, msgspec.Meta(ge=7, le=12)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node: its address on the air, its name, its X25519 public key."""

    address: Address
    name: Name
    public_key: Key
    sealed: Annotated[bytes, msgspec.Meta(max_length=256)]
    """The network key, for this node alone."""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another spreading factor, for all nodes from one time on."""

    spreading_factor: SpreadingFactor
    at: Annotated[int, msgspec.Meta(ge=0)]
    """Unix time."""


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every node of a network knows of it."""

    name: Name
    network: Annotated[int, msgspec.Meta(ge=1, le=LAST_NETWORK)]
    """Its number in each frame; drawn at random, so that neighbours rarely share one."""
    number: Annotated[int, msgspec.Meta(ge=1)]
    """Grows with every change; a node never goes back to a lower one."""
    operator: Key
    """Ed25519 public key of who may change it."""
    region: Literal["EU868", "US915"]
    frequency_hz: Annotated[int, msgspec.Meta(ge=137_000_000, le=1_020_000_000)]
    """What an SX1276 can tune to (datasheet §1)."""
    spreading_factor: SpreadingFactor
    """The present one; what is before ``planned``."""
    members: Annotated[tuple[Member, ...], msgspec.Meta(max_length=MAX_MEMBERS)] = ()
    planned: Change | None = None
    """Left out where there is none, so that a release that knows no plans reads such a file."""

    def __post_init__(self) -> None:
        for what in ("address", "name", "public_key"):
            if len({getattr(member, what) for member in self.members}) != len(self.members):
                raise ValueError(f"two members have the same {what.replace('_', ' ')}")

    def holds_at(self, unix: float) -> int:
        """The spreading factor that all agreed on for that time."""
        if self.planned and unix >= self.planned.at:
            return self.planned.spreading_factor
        return self.spreading_factor

    def member(self, name: str) -> Member | None:
        """The node of that name."""
        return next((member for member in self.members if member.name == name), None)


class MeshFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network's file as it travels; with ``node`` and ``private_key`` it is one node's, and a secret."""

    version: Literal[1]
    network: bytes
    signature: bytes
    node: str = ""
    private_key: bytes = b""

    @property
    def public(self) -> "MeshFile":
        """The same without the node's private key: what may be given to anybody."""
        return msgspec.structs.replace(self, node="", private_key=b"")

    def text(self) -> str:
        """The octets of the file."""
        return msgspec.json.format(msgspec.json.encode(self)).decode() + "\n"

    def read(self) -> Network:
        """The network, if its operator, who is named in it, has signed it. Raises :class:`ConfigError`."""
        try:
            network = msgspec.json.decode(self.network, type=Network)
            Ed25519PublicKey.from_public_bytes(network.operator).verify(self.signature, _MARK + self.network)
        except InvalidSignature as error:
            raise ConfigError("its signature is wrong: it was changed on its way; copy it again") from error
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(
                f"this release cannot read it ({error}); copy it again, or upgrade EVY here"
            ) from error
        return network

    def network_key(self, network: Network) -> bytes:
        """The network key as it was sealed to this file's node. Raises :class:`ConfigError`."""
        member = network.member(self.node)
        own = _private(self.private_key)
        if member is None or own is None or public_of(self.private_key) != member.public_key:
            raise ConfigError(
                f"{self.node} is no member of {network.name} any more, or was enrolled again: "
                f"`evy mesh enrol {self.node} --again` at the operator's machine makes its new file"
            )
        try:
            key = _SUITE.decrypt(member.sealed, own, info=_MARK)
        except (InvalidTag, ValueError) as error:
            raise ConfigError(
                f"the network key for {self.node} cannot be opened; copy the file again"
            ) from error
        if len(key) != NETWORK_KEY_OCTETS:
            raise ConfigError(
                f"a network key of {len(key)} octets, not {NETWORK_KEY_OCTETS}; upgrade EVY here"
            )
        return key


def read_file(path: Path) -> MeshFile:
    """Reads a file of `evy mesh`. Raises :class:`ConfigError` with the reason when it is none."""
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_FILE_OCTETS + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; `evy mesh enrol` makes such files") from error
    if len(octets) > MAX_FILE_OCTETS:
        raise ConfigError(f"{path} has more than {MAX_FILE_OCTETS} octets: it is no file of `evy mesh`")
    try:
        return msgspec.json.decode(octets, type=MeshFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no file of `evy mesh`: {error}") from error


def signed(network: Network, signing_key: bytes) -> MeshFile:
    """The network's file, signed with the operator's Ed25519 key."""
    octets = msgspec.json.encode(network)
    signature = Ed25519PrivateKey.from_private_bytes(signing_key).sign(_MARK + octets)
    return MeshFile(1, octets, signature)


def seal(network_key: bytes, public_key: bytes) -> bytes:
    """The network key for the node with that public key."""
    return _SUITE.encrypt(network_key, X25519PublicKey.from_public_bytes(public_key), info=_MARK)


def public_of(private_key: bytes) -> bytes:
    """The X25519 public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def shown_at(at: float) -> str:
    """A time for people: "2026-12-01 03:00 UTC"."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _private(private_key: bytes) -> X25519PrivateKey | None:
    return X25519PrivateKey.from_private_bytes(private_key) if len(private_key) == 32 else None
