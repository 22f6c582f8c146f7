"""`evy.toml`: one file, every key with a default, unknown keys refused by name."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from actors._runtime.server_files import settings
from subjects.errors import ConfigError
from subjects.names import HUB
from subjects.registry import Profile

T = TypeVar("T")

PLACES: Final = (Path("evy.toml"), Path("/etc/evy/evy.toml"))
"""Where `evy.toml` is looked for when neither ``--config`` nor ``EVY_CONFIG`` names it."""

_NODE_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


def default_data_dir() -> str:
    """``$EVY_DATA``, else the user's state directory."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return os.environ.get("EVY_DATA") or str(Path(state) / "evy")


_EDGE: Final = (
    ("sms",),
    ("intake", "route", "compress", "alert", "bulletin", "link", "mesh", "node"),
    ("rag", "infer_small"),
)
_CENTRE: Final = (("infer_large", "forget", "collect", "feeds", "sync"),)
_WATCH: Final = (("analytics",),)
PROCESSES: Final[Mapping[Profile, tuple[tuple[str, ...], ...]]] = {
    "lilevy": (*_EDGE, ("analytics", "sync")),
    "bigevy": _CENTRE + _WATCH,
    "hybrid": _EDGE + _CENTRE + _WATCH,
}
"""Which actors share a process under `evy up`; libgammu and llama.cpp are kept apart from the rest,
and so is what only looks on."""


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[node]`` table: what every part of a node needs to know."""

    profile: Profile = "lilevy"
    """lilevy: an edge node. bigevy: the centre. hybrid: both on one server."""
    name: str = ""
    """Lower case letters, digits and hyphens: it is part of stream, durable and domain names. The centre's
    is always "hub"; empty: the profile's."""
    data_dir: str = msgspec.field(default_factory=default_data_dir)
    nats_url: str = ""
    """A server to use; empty: `evy up` starts its own on ``nats_port``."""
    nats_port: int = 4222
    health_port: int = 0
    """Loopback port of ``/healthz`` under `evy up`; 0: ``nats_port`` + 4001, or any free one."""
    emergency_number: str = "112"
    """What templates tell people to call. Set it to your country's number."""
    answer_within_s: float = 15.0
    """How long an ordinary text may take before it is answered with what the node has."""
    node_only: bool = False
    """True keeps every query on this machine, its own centre included."""
    centre: bool = False
    """This edge node is enrolled at a centre, and may ask it; true after `evy nats join`. A hybrid is its
    own centre."""
    wait_s: float = 6 * 3600.0
    """How long a question waits for a link, and a late answer is still wanted."""
    keep_days: Annotated[float, msgspec.Meta(ge=2)] = 90.0
    """Nothing that tells of a person is kept longer: events, dead letters, numbers, what was sent.

    At least 2, because a text may be tried for a day. An opt-out stays, work that waits, and the number of
    who asked for public alerts."""
    replicas: int = 1
    """Copies of each stream; 3 on a cluster of three servers."""
    processes: tuple[tuple[str, ...], ...] = ()
    """Which actors share a process under `evy up`; empty: :data:`PROCESSES` of the profile."""

    def __post_init__(self) -> None:
        default = HUB if self.profile == "bigevy" else self.profile
        msgspec.structs.force_setattr(self, "name", self.name or default)
        msgspec.structs.force_setattr(self, "processes", self.processes or PROCESSES[self.profile])
        if (self.name == HUB) != (self.profile == "bigevy"):
            raise ValueError(f"node name {self.name!r}: {HUB!r} is the centre's, and the centre's only")
        if not _NODE_NAME.fullmatch(self.name):
            raise ValueError(f"node name {self.name!r}: use lower case letters, digits and hyphens")

    @property
    def directory(self) -> Path:
        """The data directory."""
        return Path(self.data_dir).expanduser()

    @property
    def server_directory(self) -> Path:
        """Where `evy nats` installs the server's configuration, certificates and credentials."""
        return self.directory / "server"

    @property
    def url(self) -> str:
        """The server to connect to."""
        return self.nats_url or f"nats://127.0.0.1:{self.nats_port}"


class Config:
    """A parsed `evy.toml`. ``path`` is None when there is no file and every value is the default."""

    def __init__(self, tables: Mapping[str, Any], path: Path | None = None) -> None:
        self.tables = tables
        self.path = path
        self.node = _as_installed(self.section("node", NodeConfig))

    def section(self, name: str, of: type[T]) -> T:
        """One table as a typed struct. Raises :class:`ConfigError` with the key that is wrong."""
        try:
            return msgspec.convert(self.tables.get(name, {}), type=of)
        except (msgspec.ValidationError, ValueError) as error:
            raise ConfigError(f"{self.path or 'evy.toml'}, table [{name}]: {error}") from error

    def check_sections(self, known: frozenset[str]) -> None:
        """Raises :class:`ConfigError` when the file has a table nobody reads."""
        for name in self.tables:
            if name not in known:
                listed = ", ".join(sorted(known))
                raise ConfigError(f"{self.path}: nothing reads table [{name}]; known tables: {listed}")


def _as_installed(node: NodeConfig) -> NodeConfig:
    """What `evy nats` installed needs no second mention in `evy.toml`."""
    installed = settings(node.server_directory)
    if installed is None:
        return node
    hub = installed.bundle.hub
    return msgspec.structs.replace(
        node,
        centre=node.centre or installed.bundle.edge is not None,
        replicas=max(node.replicas, len(hub.routes) if hub else 1),
    )


def load_config(path: Path | None = None) -> Config:
    """Reads the file at ``path``, ``EVY_CONFIG`` or the first of :data:`PLACES` that exists.

    Raises :class:`ConfigError` when a named file is missing or is not TOML.
    """
    named = path or (Path(os.environ["EVY_CONFIG"]) if os.environ.get("EVY_CONFIG") else None)
    found = named or next((place for place in PLACES if place.is_file()), None)
    if found is None:
        return Config({})
    try:
        return Config(tomllib.loads(found.read_text(encoding="utf-8")), found)
    except FileNotFoundError as error:
        raise ConfigError(f"{found}: no such file; `evy doctor` prints the defaults") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{found}: {error}") from error
