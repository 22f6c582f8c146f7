"""What a node has of its mesh: the file it joined with, kept up to date by stick or by the centre.

``<data>/mesh`` (mode 0700) holds ``joined.mesh`` and what the actor `mesh` keeps: ``state``, the frame
counters. ``fresh`` beside it says that these keys never sent and counting may begin at nothing. A backup
leaves both out: a counter that comes again under the same key breaks the encryption.
"""

import contextlib
import logging
from pathlib import Path
from typing import Final

import msgspec

from actors._roster.network import ROSTER, Member, MeshFile, Network, read_file
from actors._runtime.server_files import write_secret
from actors.knowledge import bundled
from subjects.errors import ConfigError

log = logging.getLogger("evy.mesh")

FOLDER: Final = "mesh"
JOINED, STATE, FRESH = "joined.mesh", "state", "fresh"


class NotJoinedError(ConfigError):
    """This node belongs to no mesh."""


class Installed(msgspec.Struct, frozen=True):
    """A node's place in its mesh, opened: all that the radio needs."""

    node: str
    address: int
    private_key: bytes
    network_key: bytes
    name: str
    network: int
    number: int
    region: str
    frequency_hz: int
    spreading_factor: int
    members: dict[int, Member]
    """By address, this node too."""
    known: Network
    """All of what is agreed on."""
    folder: Path
    """Where the actor keeps its counters."""

    @property
    def roster(self) -> dict[int, bytes]:
        """The others' public keys by address."""
        return {
            address: member.public_key for address, member in self.members.items() if address != self.address
        }

    @property
    def names(self) -> dict[int, str]:
        """Names by address, for people."""
        return {address: member.name for address, member in self.members.items()}

    def address_of(self, node: str) -> int | None:
        """Where a node of that name is reached."""
        return next((address for address, member in self.members.items() if member.name == node), None)


def open_network(data: Path) -> Installed:
    """The node's mesh, after taking over a newer file that its centre has sent.

    Raises :class:`NotJoinedError`, and :class:`ConfigError` with the mend for what is damaged.
    """
    joined = _joined(data)
    if joined is None:
        raise NotJoinedError(
            "this node belongs to no mesh: `evy mesh enrol NODE` at the operator's machine, "
            "then `evy mesh join FILE` here"
        )
    for folder in bundled(data):
        if (folder / ROSTER).is_file():
            try:
                joined = _newer(data, joined, read_file(folder / ROSTER)) or joined
            except ConfigError as error:  # what is here still works, and a node must not stop for it
                log.warning("%s of the centre is not taken over: %s", ROSTER, error)
    return _opened(data, joined)


def newest(data: Path) -> int:
    """Number of the roster that :func:`open_network` would go by now, without taking it over; 0: none."""
    try:
        joined = _joined(data)
        known = joined.read() if joined else None
    except ConfigError:
        return 0
    if known is None:
        return 0
    numbers = [known.number]
    for folder in bundled(data):
        if (folder / ROSTER).is_file():
            with contextlib.suppress(ConfigError):
                sent = read_file(folder / ROSTER).read()
                numbers += [sent.number] if sent.operator == known.operator else []
    return max(numbers)


def join(data: Path, node: str, file: MeshFile, *, force: bool = False) -> Installed:
    """Makes this node a member, or brings its roster up to date. Again with the same file changes nothing.

    ``force`` leaves another mesh for this one. Raises :class:`ConfigError` for another node's file, another
    mesh's, and an old one.
    """
    network = file.read()
    before = _joined(data)
    if file.private_key:
        return _join_as(data, node, file, network, before, force=force)
    if before is None:
        raise NotJoinedError(
            f"this is the roster of {network.name}, and this node belongs to no mesh: it joins with the "
            f"file that `evy mesh enrol {node}` makes"
        )
    known = before.read()
    _same(network, known)
    if network.number < known.number:
        raise ConfigError(
            _old(network, known, "`evy mesh roster` at the operator's machine writes the newest")
        )
    return _opened(data, _newer(data, before, file) or before)


def _join_as(
    data: Path, node: str, file: MeshFile, network: Network, before: MeshFile | None, *, force: bool
) -> Installed:
    """Joins with a node's own file."""
    if file.node != node:
        raise ConfigError(
            f"this file is for the node {file.node}, and this one is called {node}: "
            f"bring the file of {node}, or set [node] name"
        )
    file.network_key(network)  # refuses what is damaged before anything is touched
    if before and before.private_key == file.private_key:
        return _opened(data, _newer(data, before, file.public) or before)
    if before and not force:
        known = before.read()
        _same(network, known, "--force leaves that one")
        if network.number < known.number:
            raise ConfigError(_old(network, known, f"`evy mesh enrol {node} --again` makes a new one"))
    _write(data, file)
    (data / FOLDER / STATE).unlink(missing_ok=True)
    write_secret(data / FOLDER / FRESH, "", replace=True)
    return _opened(data, file)


def _same(network: Network, known: Network, mend: str = "bring the one of that mesh") -> None:
    if (network.operator, network.network) != (known.operator, known.network):
        raise ConfigError(
            f"this file is of another mesh ({network.name}, network {network.network}), and this node "
            f"belongs to {known.name} (network {known.network}): {mend}"
        )


def _old(network: Network, known: Network, mend: str) -> str:
    return f"this file is older (number {network.number}) than what is here ({known.number}): {mend}"


def is_joined(data: Path) -> bool:
    """Whether this node belongs to a mesh, readable or not."""
    return (data / FOLDER / JOINED).exists()


def _joined(data: Path) -> MeshFile | None:
    path = data / FOLDER / JOINED
    return read_file(path) if path.exists() else None


def _newer(data: Path, joined: MeshFile, file: MeshFile) -> MeshFile | None:
    """What was joined with a newer roster of the same mesh, written down; None when it is not one."""
    known, network = joined.read(), file.read()
    if network.number <= known.number or network.operator != known.operator:
        return None
    merged = msgspec.structs.replace(file, node=joined.node, private_key=joined.private_key)
    merged.network_key(network)  # a roster without this node is said, not taken over
    _write(data, merged)
    return merged


def _write(data: Path, file: MeshFile) -> None:
    write_secret(data / FOLDER / JOINED, file.text(), replace=True)


def _opened(data: Path, file: MeshFile) -> Installed:
    network: Network = file.read()
    key = file.network_key(network)
    own = network.member(file.node)
    assert own is not None  # noqa: S101  # network_key found it
    return Installed(
        node=file.node,
        address=own.address,
        private_key=file.private_key,
        network_key=key,
        name=network.name,
        network=network.network,
        number=network.number,
        region=network.region,
        frequency_hz=network.frequency_hz,
        spreading_factor=network.spreading_factor,
        members={member.address: member for member in network.members},
        known=network,
        folder=data / FOLDER,
    )
