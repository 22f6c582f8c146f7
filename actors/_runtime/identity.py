"""Who this node is: a secret that never leaves it, and the pseudonyms made with it."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from subjects.errors import ConfigError


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """Node name, secret of the pseudonyms, and a nonce that tells installations apart.

    The nonce is part of every deduplication id: a node set up again on a new card must not have its
    messages taken for those of its former life.
    """

    node: str
    secret: bytes
    nonce: str
    credentials: str = ""
    """File with which it logs in at a server that asks, as a centre's does; an edge's own server does not."""
    ca: str = ""
    """File with the authority that vouches for that server."""

    def sender_ref(self, number: str) -> str:
        """Pseudonym of a phone number: 20 hex digits of HMAC-SHA256, stable on this node only."""
        return hmac.new(self.secret, b"number:" + number.encode(), hashlib.sha256).hexdigest()[:20]

    def report_ref(self, query_id: str) -> str:
        """What a report calls a text: 16 hex digits of HMAC-SHA256. Who has it can neither find the query it
        stands for nor tell which texts are of one person."""
        return hmac.new(self.secret, b"report:" + query_id.encode(), hashlib.sha256).hexdigest()[:16]


RESTORING: Final = "restoring"
"""In the data directory, while a backup is unpacked there: it is no node yet."""


def load_identity(node: str, directory: Path) -> Identity:
    """Reads the node's secret from ``directory``, or makes it (mode 0600) on the first start.

    Raises :class:`ConfigError` when the file is there and is not a secret: making a new one would orphan
    every pseudonym, so a person must decide.
    """
    path = directory / "identity.json"
    if (directory / RESTORING).exists():
        raise ConfigError(
            f"a restore into {directory} was not finished: do it again (`evy restore`), or remove "
            f"{directory / RESTORING} to give it up"
        )
    directory.mkdir(parents=True, exist_ok=True)
    try:
        return _with_files(msgspec.json.decode(path.read_bytes(), type=Identity), directory)
    except FileNotFoundError:
        pass
    except (msgspec.DecodeError, PermissionError) as error:
        raise ConfigError(
            f"{path} is not this node's identity ({error}); restore it from a backup, or remove it to start "
            "afresh: people then lose their language and STOP settings"
        ) from error
    made = Identity(node, secrets.token_bytes(32), secrets.token_hex(4))
    draft = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(made))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # atomic, and fails when another process of this node was faster
    except FileExistsError:
        return load_identity(node, directory)
    finally:
        draft.unlink()
    return _with_files(made, directory)


def _with_files(identity: Identity, directory: Path) -> Identity:
    credentials, ca = directory / "server" / "centre.creds", directory / "server" / "ca.pem"
    if not credentials.exists():
        return identity
    return msgspec.structs.replace(identity, credentials=str(credentials), ca=str(ca))
