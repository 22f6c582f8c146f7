"""The ``[sms]`` table: one modem by its own keys, or several as ``[[sms.modem]]``."""

import re
from typing import Final, Literal

import msgspec

from actors.sms.credit import CreditConfig
from actors.sms.profiles import PROFILES
from actors.sms.reception import OnCall

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_IMEI: Final = re.compile(r"[0-9]{14,16}")
_PROFILES: Final = tuple(row.model for row in PROFILES)
_PREFIX: Final = re.compile(r"\+?[0-9]{1,15}")
_MOST_PER_DAY: Final = 100_000
"""No SIM sends more: a part takes a network a second or two."""


class ModemConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One modem with its SIM."""

    device: str = ""
    """Serial device of the modem; empty: this node has none. For a modem on USB name it by
    "/dev/serial/by-id/…": "/dev/ttyUSB0" may be "/dev/ttyUSB1" after it was pulled out and put back."""
    driver: Literal["gammu", "at"] = "gammu"
    """"gammu" knows many phones; "at" speaks to modems of the standard (SIM800, SIM7000) directly."""
    profile: str = ""
    """Row of `actors/sms/profiles.py` that it behaves like, such as "SIMCOM_SIM800", for a copy that calls
    itself something else; empty: by what it says it is (AT+CGMM)."""
    pin_file: str = ""
    """File with the SIM's PIN, readable by EVY only; empty: the SIM wants none. A refused PIN is never tried
    again."""
    power_key_command: tuple[str, ...] = ()
    """Command that presses the modem's power key, such as a line of `gpioset`; run when nothing else wakes
    it. Empty: there is none."""
    connection: str = "at115200"
    """Gammu's name of the connection: "at" and the line's speed; "dku2at" for a line without one, such as a
    pseudo terminal, where it opens ten times faster."""
    name: str = "modem"
    """Name of the modem in the ledger and in events; keep it for as long as the SIM is the same."""
    imei: str = ""
    """Its IMEI (AT+CGSN): it is found by it wherever it is plugged in. Empty: noted when it is first opened,
    in the data directory; then a modem that takes its place is accepted."""
    prefixes: tuple[str, ...] = ()
    """Numbers that it serves, by how they begin ("+34"); the longest prefix wins. Empty: the numbers that no
    other modem serves."""
    per_minute: int = 0
    """Parts that the carrier lets through in a minute, and likewise below; 0: no limit is known. The last
    tenth of each is kept for flash, which no limit holds back."""
    per_hour: int = 0
    per_day: int = 0
    credit: CreditConfig | None = None
    """How its balance is asked for; [sms.credit] where a modem has none of its own."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"modem name {self.name!r}: use lower case letters, digits and hyphens")
        if self.profile and self.profile not in _PROFILES:
            raise ValueError(f"profile {self.profile!r} of modem {self.name}: {', '.join(_PROFILES)}")
        if self.imei and not _IMEI.fullmatch(self.imei):
            raise ValueError(f"imei {self.imei!r} of modem {self.name}: 14 to 16 digits, as AT+CGSN says")
        for prefix in self.prefixes:
            if not _PREFIX.fullmatch(prefix):
                raise ValueError(f"prefix {prefix!r} of modem {self.name}: write the digits, such as +34")
        for limit in (self.per_minute, self.per_hour, self.per_day):
            if not 0 <= limit <= _MOST_PER_DAY:
                raise ValueError(f"a limit of modem {self.name} is {limit}: use 0 (none) to {_MOST_PER_DAY}")


class SmsConfig(ModemConfig, frozen=True, forbid_unknown_fields=True):
    """The ``[sms]`` table. Its own keys are those of the only modem, unless there are ``[[sms.modem]]``."""

    modem: tuple[ModemConfig, ...] = ()
    """Several modems, each with a name of its own; the first one without prefixes serves whom nobody else
    does."""
    failover_after_s: float = 30.0
    """How long a text waits for a modem that is away before another one sends it; flash does not wait."""
    poll_interval_s: float = 0.2
    part_timeout_s: float = 600.0
    """How long a multipart text waits for its missing parts."""
    answer_within_s: float | None = None
    """Overrides [node] answer_within_s for texts that come by modem."""
    calls: OnCall = "text"
    """What is done about a call: "text" hangs up and says by text, once an hour to a caller, that only texts
    are read; "reject" hangs up; "ignore" lets it ring."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [modem.name for modem in self.modem]
        if len(set(names)) < len(names):
            raise ValueError(f"each [[sms.modem]] needs a name of its own; there are {', '.join(names)}")
        devices = [modem.device for modem in self.modem]
        if not all(devices) or len(set(devices)) < len(devices):
            raise ValueError("each [[sms.modem]] needs a device of its own")
        default = ModemConfig()
        both = [
            key
            for key in ModemConfig.__struct_fields__
            if self.modem and key != "credit" and getattr(self, key) != getattr(default, key)
        ]
        if both:
            raise ValueError(f"{', '.join(both)}: with [[sms.modem]] this belongs to one of the modems")

    @property
    def modems(self) -> tuple[ModemConfig, ...]:
        """Every modem of the node; empty when none is named."""
        if self.modem:
            return tuple(
                msgspec.structs.replace(modem, credit=modem.credit or self.credit) for modem in self.modem
            )
        own = {key: getattr(self, key) for key in ModemConfig.__struct_fields__}
        return (ModemConfig(**own),) if self.device else ()
