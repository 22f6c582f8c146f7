"""Who makes a mesh: the key that signs its file, the network key, and who is a member.

One file with mode 0600 that only `evy mesh new`, `enrol`, `plan`, `renew` and `revoke` need; nodes work
without it, so it may lie on a stick in a drawer. No node's private key is kept in it.
"""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from evy_core import MeshError, MeshNode

from actors._roster.network import (
    FIRST_ADDRESS,
    LAST_ADDRESS,
    LAST_NETWORK,
    MAX_MEMBERS,
    NETWORK_KEY_OCTETS,
    Change,
    Key,
    Member,
    MeshFile,
    Network,
    seal,
    shown_at,
    signed,
)
from actors._runtime.server_files import write_secret
from subjects.errors import ConfigError

FILE: Final = "operator.json"
HIDDEN_OCTETS, LONGEST_FRAME = 11, 237
"""Of the module that hides most and takes least (docs/mesh.md, M44): what it may do, every one may."""


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signing_key: Key
    network_key: Annotated[bytes, msgspec.Meta(min_length=NETWORK_KEY_OCTETS, max_length=NETWORK_KEY_OCTETS)]
    network: Network
    used: frozenset[int]
    """Addresses that ever sent under this network key: none is given out twice, because a node that was
    wiped counts its frames from nothing, and a counter that comes again under the same key and address would
    break the encryption."""


class Operator:
    """The keys and members of one mesh, in ``directory``."""

    def __init__(self, directory: Path) -> None:
        """Opens what :meth:`create` made. Raises :class:`ConfigError`."""
        self.path: Final = directory / FILE
        try:
            self._kept = msgspec.json.decode(self.path.read_bytes(), type=_Kept)
        except FileNotFoundError as error:
            raise ConfigError(
                f"{self.path} is missing: this is not the operator's machine of a mesh; "
                "run `evy mesh new NAME` here, or name the directory with --keys"
            ) from error
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.path}: {error}; bring your copy of it") from error

    @classmethod
    def create(
        cls, directory: Path, name: str, *, region: str, frequency_hz: int, spreading_factor: int
    ) -> "Operator":
        """A new mesh without members. Raises :class:`ConfigError` when there is one, or a value is wrong."""
        signing = Ed25519PrivateKey.generate()
        fields = {
            "name": name,
            "network": 1 + secrets.randbelow(LAST_NETWORK),
            "number": 1,
            "operator": signing.public_key().public_bytes_raw(),
            "region": region,
            "frequency_hz": frequency_hz,
            "spreading_factor": spreading_factor,
        }
        try:
            network = msgspec.convert(fields, type=Network)
        except msgspec.ValidationError as error:
            raise ConfigError(f"a mesh {name!r}: {error}") from error
        key = secrets.token_bytes(NETWORK_KEY_OCTETS)
        _check_law(network, key)
        kept = _Kept(signing.private_bytes_raw(), key, network, frozenset())
        write_secret(directory / FILE, _text(kept), replace=False)
        return cls(directory)

    @property
    def network(self) -> Network:
        """The mesh as it is now."""
        return self._kept.network

    @property
    def file(self) -> MeshFile:
        """What every member may have."""
        return signed(self.network, self._kept.signing_key)

    def enrol(self, node: str, *, address: int | None = None, again: bool = False) -> MeshFile:
        """Makes a node a member and gives its file, the only copy of its private key.

        Raises :class:`ConfigError`: an address that is taken, a member already, too many.
        """
        former = self.network.member(node)
        if former and not again:
            raise ConfigError(
                f"{node} is a member of {self.network.name} with address {former.address}; "
                "--again makes new keys for it, and a new address"
            )
        others = tuple(member for member in self.network.members if member.name != node)
        if len(others) >= MAX_MEMBERS:
            raise ConfigError(f"{self.network.name} has {MAX_MEMBERS} nodes, and no mesh may have more")
        chosen = self._address(address)
        own = X25519PrivateKey.generate()
        public = own.public_key().public_bytes_raw()
        try:
            member = msgspec.convert(
                {
                    "address": chosen,
                    "name": node,
                    "public_key": public,
                    "sealed": seal(self._kept.network_key, public),
                },
                type=Member,
            )
        except msgspec.ValidationError as error:
            raise ConfigError(f"node {node!r}: {error}") from error
        self._change((*others, member), self._kept.network_key, self._kept.used | {chosen})
        return msgspec.structs.replace(self.file, node=node, private_key=own.private_bytes_raw())

    def _address(self, wanted: int | None) -> int:
        if wanted is None:
            free = (each for each in range(FIRST_ADDRESS, LAST_ADDRESS + 1) if each not in self._kept.used)
            found = next(free, None)
            if found is None:
                raise ConfigError("every address was used with this network key: `evy mesh renew` first")
            return found
        if not FIRST_ADDRESS <= wanted <= LAST_ADDRESS:
            raise ConfigError(f"address {wanted}: use {FIRST_ADDRESS} to {LAST_ADDRESS}")
        if wanted in self._kept.used:
            holder = next((each.name for each in self.network.members if each.address == wanted), None)
            taken = f"is {holder}'s" if holder else "was a node's under this network key"
            raise ConfigError(f"address {wanted} {taken}: leave out --address, or choose another")
        return wanted

    def revoke(self, node: str) -> None:
        """Takes a node out, with a new network key for the others. Raises :class:`ConfigError`."""
        if self.network.member(node) is None:
            known = ", ".join(member.name for member in self.network.members) or "nobody"
            raise ConfigError(f"{node} is no member of {self.network.name}; members: {known}")
        self.renew(tuple(member for member in self.network.members if member.name != node))

    def renew(self, members: tuple[Member, ...] | None = None) -> None:
        """A new network key for ``members``, all of them unless named."""
        key = secrets.token_bytes(NETWORK_KEY_OCTETS)
        resealed = tuple(
            msgspec.structs.replace(member, sealed=seal(key, member.public_key))
            for member in (self.network.members if members is None else members)
        )
        self._change(resealed, key, frozenset(member.address for member in resealed))

    def plan(self, spreading_factor: int, at: int, now: float) -> None:
        """Another spreading factor for all nodes from ``at`` on (Unix time); a former plan is void.

        Raises :class:`ConfigError`: a time that has passed, what holds already, what the law does not allow.
        """
        if at <= now:
            raise ConfigError(
                f"{shown_at(at)} has passed: every node needs the new roster before, so leave it days"
            )
        holds = self.network.holds_at(now)
        if spreading_factor == holds:
            raise ConfigError(f"SF{holds} holds already; `evy mesh plan --cancel` keeps it")
        try:
            planned = msgspec.convert({"spreading_factor": spreading_factor, "at": at}, type=Change)
            _check_law(
                msgspec.structs.replace(self.network, spreading_factor=spreading_factor),
                self._kept.network_key,
            )
        except (msgspec.ValidationError, ConfigError) as error:
            lawful = " or ".join(f"SF{each}" for each in self._lawful() if each != holds)
            raise ConfigError(
                f"SF{spreading_factor}: {error}; instead of SF{holds} you may use {lawful}"
            ) from error
        self._edit(msgspec.structs.replace(self.network, spreading_factor=holds, planned=planned))

    def cancel(self, now: float) -> None:
        """What holds now stays, and nothing is planned. Raises :class:`ConfigError` where nothing was."""
        if self.network.planned is None:
            raise ConfigError(f"nothing is planned: SF{self.network.spreading_factor} stays as it is")
        holds = self.network.holds_at(now)
        self._edit(msgspec.structs.replace(self.network, spreading_factor=holds, planned=None))

    def _lawful(self) -> Iterator[int]:
        for each in range(7, 13):
            with contextlib.suppress(ConfigError):
                _check_law(
                    msgspec.structs.replace(self.network, spreading_factor=each), self._kept.network_key
                )
                yield each

    def _change(self, members: tuple[Member, ...], key: bytes, used: frozenset[int]) -> None:
        ordered = tuple(sorted(members, key=lambda member: member.address))
        self._edit(msgspec.structs.replace(self.network, members=ordered), key, used)

    def _edit(self, network: Network, key: bytes | None = None, used: frozenset[int] | None = None) -> None:
        kept = msgspec.structs.replace(
            self._kept,
            network=msgspec.structs.replace(network, number=self.network.number + 1),
            network_key=self._kept.network_key if key is None else key,
            used=self._kept.used if used is None else used,
        )
        write_secret(self.path, _text(kept), replace=True)
        self._kept = kept


def _check_law(network: Network, key: bytes) -> None:
    """Asks the state machine that every node will run. Raises :class:`ConfigError` with what is allowed."""
    try:
        MeshNode(
            address=FIRST_ADDRESS,
            network=network.network,
            network_key=key,
            private_key=X25519PrivateKey.generate().private_bytes_raw(),
            roster={},
            region=network.region,
            frequency_hz=network.frequency_hz,
            spreading_factor=network.spreading_factor,
            hidden_octets=HIDDEN_OCTETS,
            longest_frame=LONGEST_FRAME,
            seed=0,
            now_us=0,
        )
    except MeshError as error:
        raise ConfigError(f"no mesh can work so: {error}") from error


def _text(kept: _Kept) -> str:
    return msgspec.json.format(msgspec.json.encode(kept)).decode() + "\n"
