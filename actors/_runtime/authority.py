"""The centre's keys: who is enrolled, who is revoked, and the bundles that make servers and edges.

A directory with mode 0700 that only `evy nats enrol` and `revoke` need; the servers run without it, so it may
lie on a stick in a drawer.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from actors._runtime import claims
from actors._runtime.certificates import create_ca, create_certificate
from actors._runtime.claims import Key, Kind
from actors._runtime.server_files import Bundle, EdgeLink, HubFiles, HubServer, write_secret
from subjects.errors import ConfigError
from subjects.link import edge_permissions

ACCOUNT: Final = "EVY"

_KEYS: Final[Mapping[str, Kind]] = {
    "operator": "operator",
    "system": "account",
    "account": "account",
    "tools": "user",
    "centre": "user",
}


class Edge(msgspec.Struct, frozen=True):
    """An enrolled edge: its public key and when (Unix time) it was given a credential."""

    key: str
    issued_at: int


class Revoked(msgspec.Struct, frozen=True):
    """A key that no longer opens anything."""

    node: str
    until: int
    """Tokens issued up to this Unix time are void."""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the authority remembers; no secret in it."""

    servers: tuple[HubServer, ...]
    edges: dict[str, Edge] = {}
    revoked: dict[str, Revoked] = {}
    """By public key."""
    issued_at: int = 0
    """Time of the last token: they must not go back when the clock does, or servers ignore the newer one."""


class Authority:
    """The keys and the list of edges of one centre, in ``directory``."""

    def __init__(self, directory: Path) -> None:
        """Opens what :meth:`create` made. Raises :class:`ConfigError`."""
        self.directory = directory
        try:
            self.state = msgspec.json.decode((directory / "state.json").read_bytes(), type=State)
            self.operator, self.system, self.account, self.tools, self.centre = (
                Key((directory / f"{name}.nk").read_text().strip()) for name in _KEYS
            )
            self.ca = (directory / "ca.pem").read_text()
            self._ca_key = (directory / "ca.key").read_text()
        except FileNotFoundError as error:
            raise ConfigError(
                f"{error.filename} is missing: this is not the centre's key directory; "
                "run `evy nats init --profile bigevy` here, or name it with --keys"
            ) from error
        except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ConfigError(f"{directory}: {error}") from error

    @classmethod
    def create(cls, directory: Path, servers: Sequence[HubServer]) -> "Authority":
        """Makes keys and CA for a centre of one or three servers; :class:`ConfigError` if it has some."""
        if (directory / "state.json").exists():
            raise ConfigError(f"{directory} holds a centre's keys already")
        for name, kind in _KEYS.items():
            write_secret(directory / f"{name}.nk", Key.create(kind).seed + "\n", replace=False)
        certificate, key = create_ca("EVY centre")
        write_secret(directory / "ca.key", key, replace=False)
        write_secret(directory / "ca.pem", certificate, replace=False)
        state = State(tuple(servers))
        write_secret(directory / "state.json", msgspec.json.encode(state).decode(), replace=False)
        authority = cls(directory)
        authority._write_credentials()
        return authority

    def _save(self, state: State) -> None:
        text = msgspec.json.format(msgspec.json.encode(state)).decode()
        write_secret(self.directory / "state.json", text, replace=True)
        self.state = state

    def _now(self) -> int:
        """Time for the next token, never before the last one."""
        now = max(int(time.time()), self.state.issued_at + 1)
        self._save(msgspec.structs.replace(self.state, issued_at=now))
        return now

    def _write_credentials(self) -> None:
        token = self.system.sign(claims.user_claims("tools", self.tools.public), self._now())
        write_secret(self.directory / "tools.creds", claims.credentials(token, self.tools.seed), replace=True)
        token = self.account.sign(claims.user_claims("centre", self.centre.public), self._now())
        text = claims.credentials(token, self.centre.seed)
        write_secret(self.directory / "centre.creds", text, replace=True)
        self._write_account()

    def _write_account(self) -> None:
        void = {key: revoked.until for key, revoked in self.state.revoked.items()}
        account = claims.account_claims(ACCOUNT, self.account.public, jetstream=True, revoked=void)
        write_secret(self.directory / "account.jwt", self.operator.sign(account, self._now()), replace=True)

    @property
    def account_token(self) -> str:
        """The account's current JWT, with its list of revoked edges."""
        return (self.directory / "account.jwt").read_text()

    def sign_texts(self, octets: bytes) -> bytes:
        """Signs what nodes shall say, by the account's key, which every node knows from its credential."""
        return self.account.sign_octets(octets)

    def server_bundle(self, name: str) -> Bundle:
        """What one server of the centre needs, with a fresh certificate."""
        server = next((s for s in self.state.servers if s.name == name), None)
        if server is None:
            known = ", ".join(s.name for s in self.state.servers)
            raise ConfigError(f"no server {name}; this centre has {known}")
        hosts = list(dict.fromkeys((*server.hosts, "localhost", "127.0.0.1")))
        certificate, key = create_certificate(self.ca, self._ca_key, name, hosts)
        system = claims.account_claims("SYS", self.system.public, jetstream=False)
        routes = tuple(f"tls://{s.hosts[0]}:{s.cluster_port}" for s in self.state.servers)
        hub = HubFiles(
            server=server,
            routes=routes if len(routes) > 1 else (),
            certificate=certificate,
            certificate_key=key,
            operator=self.operator.sign(
                claims.operator_claims(self.operator, self.system.public), self._now()
            ),
            system_account=self.system.public,
            accounts={
                self.system.public: self.operator.sign(system, self._now()),
                self.account.public: self.account_token,
            },
            credentials=(self.directory / "centre.creds").read_text(),
        )
        return Bundle(1, "bigevy", name, self.ca, hub=hub)

    def enrol(self, node: str) -> Bundle:
        """A credential for an edge. Raises :class:`ConfigError` when it has one: revoke that first."""
        if node in self.state.edges:
            raise ConfigError(f"{node} is enrolled; `evy nats revoke {node}` first if it needs new keys")
        key = Key.create("user")
        allowed = edge_permissions(node)
        issued_at = self._now()
        token = self.account.sign(
            claims.user_claims(
                node,
                key.public,
                publish=allowed.publish,
                subscribe=allowed.subscribe,
                connections=("LEAFNODE",),
            ),
            issued_at,
        )
        self._save(
            msgspec.structs.replace(self.state, edges={**self.state.edges, node: Edge(key.public, issued_at)})
        )
        urls = tuple(f"tls://{s.hosts[0]}:{s.leaf_port}" for s in self.state.servers)
        return Bundle(1, "lilevy", node, self.ca, edge=EdgeLink(urls, claims.credentials(token, key.seed)))

    def revoke(self, node: str) -> bool:
        """Voids an edge's credential; False when that was done before. The servers must be told.

        Raises :class:`ConfigError` for a node that never was enrolled.
        """
        edge = self.state.edges.get(node)
        if edge is None:
            if node in {revoked.node for revoked in self.state.revoked.values()}:
                return False
            known = ", ".join(sorted(self.state.edges)) or "none"
            raise ConfigError(f"{node} is not enrolled; enrolled: {known}")
        void = Revoked(node, max(int(time.time()), edge.issued_at))
        edges = {name: other for name, other in self.state.edges.items() if name != node}
        revoked = {**self.state.revoked, edge.key: void}
        self._save(msgspec.structs.replace(self.state, edges=edges, revoked=revoked))
        self._write_account()
        return True

    def move(self, servers: Sequence[HubServer]) -> None:
        """Gives the servers other addresses; all keys stay. Edges know the addresses of their day."""
        self._save(msgspec.structs.replace(self.state, servers=tuple(servers)))
