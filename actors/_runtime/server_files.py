"""A machine's filled server configuration: what `evy nats init` and `join` write and `evy up` starts.

The directory holds ``nats.conf`` (values, then the shipped file with its includes: nats-server reads it
without any variable set), certificates and credentials. All of it is made from ``bundle.json`` again at every
start, so an upgrade of EVY is an upgrade of the configuration. Secrets have mode 0600.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from subjects.errors import ConfigError
from subjects.registry import Profile

Value = str | int | tuple[str, ...] | Mapping[str, str]
"""What the configuration files' variables hold."""

SHIPPED: Final = Path(__file__).resolve().parents[2] / "nats"
_INCLUDE: Final = re.compile(r'^([ ]*)include "([^"]+)"$', re.MULTILINE)
STORE_KEY: Final = "EVY_STORE_KEY"
"""Variable with the JetStream encryption key; the form ``EVY_STORE_KEY=…`` is also that of its file, so that
systemd's EnvironmentFile can read it."""


class EdgeLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an edge needs to reach its centre."""

    urls: tuple[str, ...]
    credentials: str


class HubServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One server of the centre and where it listens."""

    name: str
    hosts: tuple[str, ...]
    """Names and addresses under which it is reached; the first is given to edges and other servers."""
    client_port: int = 4222
    leaf_port: int = 7422
    cluster_port: int = 6222
    listen: str = "0.0.0.0"  # noqa: S104  # a centre is there to be reached; every listener asks for TLS and keys


class HubFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one server of the centre needs."""

    server: HubServer
    routes: tuple[str, ...]
    """The cluster ports of all its servers; empty for a centre of one."""
    certificate: str
    certificate_key: str
    operator: str
    system_account: str
    accounts: dict[str, str]
    credentials: str
    """For the centre's own actors and tools."""


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything one machine needs, in one file that is carried there. It holds secrets."""

    version: Literal[1]
    profile: Profile
    node: str
    ca: str
    edge: EdgeLink | None = None
    hub: HubFiles | None = None

    def save(self, path: Path) -> None:
        """Writes the file, mode 0600. An existing file stays: :class:`ConfigError`."""
        write_secret(path, msgspec.json.format(msgspec.json.encode(self)).decode() + "\n", replace=False)


def load_bundle(path: Path) -> Bundle:
    """Reads a bundle. Raises :class:`ConfigError` with the reason when it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Bundle)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; `evy nats enrol` at the centre makes it") from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} is no bundle of `evy nats enrol`: {error}") from error


def write_secret(path: Path, text: str, *, replace: bool) -> None:
    """Writes a file that only its owner reads, complete or not at all. Raises :class:`ConfigError`."""
    if path.exists() and not replace:
        raise ConfigError(f"{path} exists and is kept; move it away if you want a new one")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def nats_value(value: Value) -> str:
    """A value in NATS's configuration language."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(json.dumps(item) for item in value) + "]"
    return "{ " + ", ".join(f"{name}: {json.dumps(item)}" for name, item in value.items()) + " }"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``nats.conf`` is made from: a bundle and what is particular to this machine."""

    bundle: Bundle
    port: int
    store: str
    monitor_port: int
    store_key_file: str = ""
    store_key_mark: str = ""
    """Tells a wrong key from the right one before a server looks at the store."""

    def store_key(self) -> str:
        """The JetStream encryption key; empty when the store is in the clear.

        Raises :class:`ConfigError` when the key is missing or not the one the store was made with.
        """
        if not self.store_key_file:
            return ""
        key = read_store_key(Path(self.store_key_file))
        if not hmac.compare_digest(_mark(key), self.store_key_mark):
            raise ConfigError(
                f"the key in {self.store_key_file} is not the one that {self.store} is encrypted with: "
                "bring the right one, or move the store away and lose what waits in it"
            )
        return key


def join(
    directory: Path,
    bundle: Bundle,
    *,
    port: int = 4222,
    store: Path | None = None,
    monitor_port: int = -1,
    store_key_file: Path | None = None,
) -> Path:
    """Installs a bundle in ``directory`` and gives the path of the filled ``nats.conf``.

    ``port`` is the client port of an edge; a server of the centre has it in its bundle. ``store`` is where
    JetStream keeps its files: ``nats`` beside the directory unless named. ``monitor_port`` -1: any free one.
    Without ``store_key_file`` the key of a former installation stays in use.
    """
    directory = directory.resolve()
    before = settings(directory)
    key_file = str(store_key_file.resolve()) if store_key_file else before.store_key_file if before else ""
    made = Settings(
        bundle,
        bundle.hub.server.client_port if bundle.hub else port,
        str((store or directory.parent / "nats").resolve()),
        monitor_port,
        key_file,
        _mark(read_store_key(Path(key_file))) if key_file else "",
    )
    if before and before.store_key_mark and before.store == made.store:
        made = msgspec.structs.replace(made, store_key_mark=before.store_key_mark)
        made.store_key()
    if before and before.bundle != bundle:  # its keys may be the only copy
        kept = directory / f"bundle.json.until-{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(2)}"
        write_secret(kept, (directory / "bundle.json").read_text(), replace=False)
    _save(directory, made)
    return fill(directory)


def settings(directory: Path) -> Settings | None:
    """What was installed in a directory; None when nothing was."""
    path = directory / "bundle.json"
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Settings)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}; install the bundle again: evy nats join BUNDLE") from error


def refresh(directory: Path, account: str, token: str) -> None:
    """Gives a server of the centre that is installed here the account's new token to start with.

    A running server keeps what it was told in a directory of its own; this is for when that is lost.
    """
    installed = settings(directory)
    if installed and installed.bundle.hub:
        hub = installed.bundle.hub
        hub = msgspec.structs.replace(hub, accounts={**hub.accounts, account: token})
        bundle = msgspec.structs.replace(installed.bundle, hub=hub)
        _save(directory, msgspec.structs.replace(installed, bundle=bundle))
        fill(directory)


def _save(directory: Path, made: Settings) -> None:
    text = msgspec.json.format(msgspec.json.encode(made)).decode() + "\n"
    _write_changed(directory / "bundle.json", text)


def fill(directory: Path, monitor_port: int | None = None) -> Path:
    """Writes ``nats.conf`` and the files it names from what was installed. Raises :class:`ConfigError`."""
    installed = settings(directory)
    if installed is None:
        raise ConfigError(
            f"nothing is installed in {directory}: run `evy nats init` or `evy nats join BUNDLE`"
        )
    directory = directory.resolve()
    bundle = installed.bundle
    files: dict[str, str] = {}
    values: dict[str, Value] = {
        "EVY_NODE": bundle.node,
        "EVY_NATS_PORT": installed.port,
        "EVY_STORE": installed.store,
        "EVY_MONITOR": f"127.0.0.1:{installed.monitor_port if monitor_port is None else monitor_port}",
    }
    if not installed.store_key_file:  # else it is in the environment, never in a file beside the store
        values[STORE_KEY] = ""
    includes = [f"{bundle.profile}.conf"]
    if bundle.ca:
        files["ca.pem"] = bundle.ca
        values["EVY_CA"] = str(directory / "ca.pem")
    if bundle.edge:
        files["hub.creds"] = bundle.edge.credentials
        values["EVY_HUB_URLS"] = bundle.edge.urls
        values["EVY_HUB_CREDENTIALS"] = str(directory / "hub.creds")
        includes.append("leaf.conf")
    if bundle.hub:
        files |= _hub_files(bundle.hub)
        values |= _hub_values(bundle.hub, directory)
        if bundle.hub.routes:
            includes = ["bigevy-cluster.conf"]
    lines = ["# Written by EVY from bundle.json beside it, at every start: changes made here are lost.", ""]
    lines += [f"{name}: {nats_value(value)}" for name, value in values.items()]
    files["nats.conf"] = "\n".join(lines) + "\n\n" + "\n".join(map(shipped, includes))
    for name, text in files.items():
        _write_changed(directory / name, text)
    return directory / "nats.conf"


def _hub_files(hub: HubFiles) -> dict[str, str]:
    return {
        "server.pem": hub.certificate,
        "server.key": hub.certificate_key,
        "centre.creds": hub.credentials,
    }


def _hub_values(hub: HubFiles, directory: Path) -> dict[str, Value]:
    values: dict[str, Value] = {
        "EVY_LISTEN": hub.server.listen,
        "EVY_LEAF_PORT": hub.server.leaf_port,
        "EVY_CERTIFICATE": str(directory / "server.pem"),
        "EVY_CERTIFICATE_KEY": str(directory / "server.key"),
        "EVY_OPERATOR": hub.operator,
        "EVY_SYSTEM_ACCOUNT": hub.system_account,
        "EVY_ACCOUNTS": hub.accounts,
        "EVY_ACCOUNTS_DIR": str(directory / "accounts"),
    }
    if hub.routes:
        values |= {"EVY_CLUSTER_PORT": hub.server.cluster_port, "EVY_ROUTES": hub.routes}
    return values


def _write_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        write_secret(path, text, replace=True)


def create_store_key(path: Path) -> None:
    """Writes a fresh JetStream encryption key, mode 0600; :class:`ConfigError` when the file exists."""
    write_secret(path, f"{STORE_KEY}=k{secrets.token_hex(32)}\n", replace=False)


def read_store_key(path: Path) -> str:
    """The key in a file of the form ``EVY_STORE_KEY=…``. Raises :class:`ConfigError`."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"no store key in {path} ({error}): plug in or mount what holds it") from error
    name, _, key = text.partition("=")
    if name != STORE_KEY or not re.fullmatch(r"k[0-9a-f]{64}", key):
        raise ConfigError(f"{path} is no store key: one line {STORE_KEY}=k and 64 hex digits")
    return key


def _mark(key: str) -> str:
    return hmac.new(key.encode(), b"evy store key", hashlib.sha256).hexdigest()[:16]


def shipped(name: str) -> str:
    """A file of ``nats/`` with its includes in place: an included file does not see the values outside it."""
    text = (SHIPPED / name).read_text()
    return _INCLUDE.sub(lambda found: textwrap.indent(shipped(found[2]), found[1]).rstrip(), text)
