"""The ``[sync]`` table, and which centre a node believes."""

from typing import Annotated

import msgspec

from actors._bundles.arrive import Terms
from actors._bundles.manifest import BundleRefusedError, Region, public_key
from actors._people.contacts import Contact, Hours
from actors._runtime.claims import issuer
from actors._runtime.config import Config
from actors._runtime.server_files import settings
from subjects.errors import ConfigError


class SyncConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[sync]`` table."""

    regions: tuple[Region, ...] = ()
    """Where the node is: it takes the texts of all nodes, and those of these regions."""
    every_s: Annotated[float, msgspec.Meta(ge=10)] = 300.0
    """How often it looks for another bundle; a look is half a kilobyte."""
    hours: tuple[Hours, ...] = ()
    """Local hours in which a bundle is fetched and applied, such as "01:00-05:00"; empty: always. A critical
    one does not wait for them."""
    battery_from: Annotated[float, msgspec.Meta(ge=0, le=100)] = 50.0
    """Per cent of battery below which only a critical bundle is fetched, and that from 20 on."""
    key: str = ""
    """Public key of the centre whose bundles are believed; empty: that of the enrolment (`evy nats join`)."""

    def is_time(self, minute: int | None) -> bool:
        """Whether ``minute`` of the local day is in the hours; always, when the time is not known."""
        return Contact("", "000", hours=self.hours).is_on_duty(minute)


def key_of(config: Config) -> str:
    """The centre's public key as this machine knows it. Raises :class:`ConfigError` when it knows none."""
    known = config.section("sync", SyncConfig).key
    installed = settings(config.node.server_directory)
    if not known and installed and installed.bundle.edge:
        known = issuer(installed.bundle.edge.credentials)
    if not known and installed and installed.bundle.hub:
        known = issuer(installed.bundle.hub.credentials)
    if not known:
        raise ConfigError(
            "no centre whose bundles this node could believe: `evy nats join` its enrolment, or set "
            '[sync] key = "A…" (`evy sync status` at the centre shows it)'
        )
    try:
        public_key(known)
    except BundleRefusedError as error:
        raise ConfigError(f"[sync] key: {error}") from error
    return known


def terms_of(config: Config) -> Terms:
    """What this node takes. Raises :class:`ConfigError`."""
    return Terms(key_of(config), frozenset(config.section("sync", SyncConfig).regions))
