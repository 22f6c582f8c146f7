"""Nkeys and the JWTs of NATS's operator mode: who may connect to the centre, and with which subjects.

Formats: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt, claims of
version 2 as nats-server reads them. No token expires: what has to end is revoked.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import nkeys

Kind = Literal["operator", "account", "user"]

_PREFIX: Final[Mapping[Kind, int]] = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}
_UNLIMITED: Final = -1
_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}


class Key:
    """An Ed25519 key pair in NATS's text form; the seed is the secret."""

    def __init__(self, seed: str) -> None:
        """Raises :class:`nkeys.NkeysError` for text that is no seed."""
        self.seed = seed
        self._pair = nkeys.from_seed(bytearray(seed.encode()))
        self.public: str = self._pair.public_key.decode()

    @classmethod
    def create(cls, kind: Kind) -> "Key":
        """A fresh key from the system's randomness."""
        return cls(nkeys.encode_seed(secrets.token_bytes(32), _PREFIX[kind]).decode())

    def sign_octets(self, octets: bytes) -> bytes:
        """The Ed25519 signature of some octets."""
        signature: bytes = self._pair.sign(octets)
        return signature

    def sign(self, claims: Mapping[str, Any], issued_at: int) -> str:
        """The claims as a JWT issued by this key. ``issued_at`` is Unix time in seconds."""
        body = {"iss": self.public, "iat": issued_at, **claims}
        digest = hashlib.new("sha512_256", _json(body)).digest()
        body["jti"] = base64.b32encode(digest).decode().rstrip("=")
        text = f"{_b64(_json(_HEADER))}.{_b64(_json(body))}"
        return f"{text}.{_b64(self._pair.sign(text.encode()))}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_claims(token: str) -> dict[str, Any]:
    """Body of a JWT, unverified. Raises ValueError for what is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("no JWT: it has not three parts")
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    return claims


def operator_claims(operator: Key, system_account: str) -> dict[str, Any]:
    """Claims of the centre itself, signed by its own key."""
    body = {"system_account": system_account, "type": "operator", "version": 2}
    return {"name": "EVY", "sub": operator.public, "nats": body}


def account_claims(
    name: str,
    public: str,
    *,
    jetstream: bool,
    revoked: Mapping[str, int] | None = None,
    mappings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Claims of an account. ``revoked``: user keys with the Unix time up to which their tokens are void."""
    storage = _UNLIMITED if jetstream else 0
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), _UNLIMITED)
    limits |= {"mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage}
    body: dict[str, Any] = {
        "limits": {**limits, "wildcards": True, "disallow_bearer": True},
        "default_permissions": {"pub": {}, "sub": {}},
        "type": "account",
        "version": 2,
    }
    if revoked:
        body["revocations"] = dict(revoked)
    if mappings:
        body["mappings"] = {source: [{"subject": target}] for source, target in mappings.items()}
    return {"name": name, "sub": public, "nats": body}


def user_claims(
    name: str,
    public: str,
    *,
    publish: Sequence[str] = (),
    subscribe: Sequence[str] = (),
    connections: Sequence[Literal["STANDARD", "LEAFNODE"]] = ("STANDARD",),
) -> dict[str, Any]:
    """Claims of a user. Empty lists allow every subject; ``connections`` says what may log in."""
    return {
        "name": name,
        "sub": public,
        "nats": {
            "pub": {"allow": list(publish)} if publish else {},
            "sub": {"allow": list(subscribe)} if subscribe else {},
            "subs": _UNLIMITED,
            "data": _UNLIMITED,
            "payload": _UNLIMITED,
            "allowed_connection_types": list(connections),
            "type": "user",
            "version": 2,
        },
    }


def credentials(token: str, seed: str) -> str:
    """Text of a ``.creds`` file: the user's JWT with its seed."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def issuer(creds: str) -> str:
    """Public key of who signed the token in the text of a ``.creds`` file: a centre's account.

    Raises ValueError for what is no such text."""
    lines = creds.strip().splitlines()
    if len(lines) < 2:
        raise ValueError("no credentials: no token in them")
    return str(read_claims(lines[1])["iss"])
