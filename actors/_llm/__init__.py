"""Which model answers what: the ``[llm]`` table, the settings that the centre and its nodes share.

Each key may also be set by an environment variable of its name in capitals (``LLM_STRATEGY``), which wins.
"""

import os
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, Literal

import msgspec

from actors._runtime.config import Config
from subjects.errors import ConfigError
from subjects.messages import Privacy

MICRO_CENTS: Final = 100_000_000
"""Money is counted in whole micro-cents: so many make one unit (a dollar) of the currency of the prices."""
MOST_MONEY: Final = 1_000_000_000
"""Units; ten times as much in micro-cents is still a 64-bit integer."""

Amount = int | float | str
"""Money as it is written in a file or a variable: 20, 0.15 or "0.15"."""
Strategy = Literal["local", "hybrid", "api-only"]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=600)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class LlmConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[llm]`` table. What a node reads of it is ``default_privacy_level``; the rest is the centre's."""

    llm_strategy: Strategy = "local"
    """local: the centre's own model only. hybrid: outside providers first where a question's class allows it,
    then the own model. api-only: there is no own model."""
    llm_monthly_budget: Amount = 0
    """Most that outside calls may cost in a calendar month (UTC); 0: none are made."""
    cost_alert_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.8
    """Share of the budget from which an event `cost_alert` is raised, once a month."""
    emergency_local_only: bool = True
    """Urgent questions never go outside. Where life is at risk no model is asked at all, whatever is set."""
    default_privacy_level: Privacy = "private"
    """Privacy class of a node's queries where ``[intake] privacy`` says nothing."""
    allow_api_for_aggregated: bool = False
    """Questions of many people, put together and nobody's own, may go outside."""
    audit_all_api_calls: bool = True
    """Decisions against an outside call are audited too; calls always are."""
    local_timeout_sec: _Seconds | None = None
    """One try at the own model; None: ``[infer_large] timeout_s``."""
    api_timeout_sec: _Seconds = 30.0
    """One call to a provider."""
    max_concurrent_local: _Count | None = None
    """Questions at the own model at once; None: ``[infer_large] concurrency``."""
    max_concurrent_api: _Count = 4
    """Outside calls at once, all providers together."""

    @property
    def budget(self) -> int:
        """The monthly budget in micro-cents."""
        return micro_cents(self.llm_monthly_budget)

    @property
    def alert_at(self) -> int:
        """What a month has cost when the alert is due, in micro-cents."""
        return -(-self.budget * round(self.cost_alert_threshold * 10_000) // 10_000)

    def __post_init__(self) -> None:
        _ = self.budget


def micro_cents(amount: Amount) -> int:
    """An amount as written, exactly. Raises ValueError for what is no money or finer than a micro-cent."""
    try:
        # The shortest decimal that gives a float is what stood in the file.
        exact = Decimal(str(amount).strip()) * MICRO_CENTS
        whole = int(exact)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ValueError(f"{amount!r} is no amount of money: write 20 or 0.15") from error
    if whole != exact or not 0 <= whole <= MOST_MONEY * MICRO_CENTS:
        raise ValueError(f"{amount!r}: give 0 to {MOST_MONEY}, with at most eight decimals")
    return whole


def shown(micro: int) -> str:
    """Micro-cents as people write money, down to hundredths of a cent."""
    return f"{Decimal(micro) / MICRO_CENTS:.4f}"


def llm_config(config: Config, environment: Mapping[str, str] = os.environ) -> LlmConfig:
    """The table under the environment. Raises :class:`ConfigError` that names the key or variable."""
    written = config.section("llm", LlmConfig)
    for key in LlmConfig.__struct_fields__:
        name = key.upper()
        if (text := environment.get(name, "").strip()) == "":
            continue
        try:
            # As text, so that money is never a float; numbers and booleans are read from it.
            over = msgspec.convert(
                {key: text.lower() if text.lower() in _WORDS else text}, LlmConfig, strict=False
            )
        except (msgspec.ValidationError, ValueError) as error:
            raise ConfigError(f"environment variable {name}={text!r}: {error}") from error
        written = msgspec.structs.replace(written, **{key: getattr(over, key)})
    return written


_WORDS: Final = frozenset({"true", "false"})
