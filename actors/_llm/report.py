"""What outside calls of a month cost, how well they were answered, and what that suggests."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from actors._llm import MICRO_CENTS, LlmConfig, shown
from actors._llm.ledger import Call

ENOUGH: Final = 20
"""Fewer calls than this say nothing about a provider."""
MANY_PERCENT: Final = 20
BETTER_POINTS: Final = 5
_ANSWERS: Final = frozenset({"answered", "unsupported", "unknown"})


class Share(msgspec.Struct, frozen=True):
    """One provider's month. Money is micro-cents; percentages are whole, None where nothing can be said."""

    provider: str
    models: tuple[str, ...]
    calls: int
    outcomes: dict[str, int]
    cost: int
    prompt_tokens: int
    completion_tokens: int
    p50_ms: int
    p95_ms: int
    failed_percent: int | None
    passed_percent: int | None
    """Of the answers, those that the post-check supports."""
    cost_per_passed: int | None
    open: int
    """Calls without an end yet, counted at their worst price."""


class Report(msgspec.Struct, frozen=True):
    """A month's report. Money is micro-cents."""

    month: str
    strategy: str
    budget: int
    committed: int
    left: int
    providers: tuple[Share, ...]
    not_asked: dict[str, int]
    recommendations: tuple[str, ...]


def report(
    month: str,
    calls: Sequence[Call],
    not_asked: Mapping[str, int],
    settings: LlmConfig,
    order: Sequence[str] = (),
) -> Report:
    """The report of a month's calls; ``order`` is that in which the providers are asked now."""
    names = sorted({call.provider for call in calls}, key=lambda name: (_place(name, order), name))
    shares = tuple(_share(name, [call for call in calls if call.provider == name]) for name in names)
    committed = sum(share.cost for share in shares)
    return Report(
        month=month,
        strategy=settings.llm_strategy,
        budget=settings.budget,
        committed=committed,
        left=settings.budget - committed,
        providers=shares,
        not_asked=dict(sorted(not_asked.items())),
        recommendations=tuple(_recommended(shares, not_asked, settings, committed)),
    )


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _share(name: str, calls: Sequence[Call]) -> Share:
    outcomes = Counter(call.outcome for call in calls if call.outcome is not None)
    ended = sum(outcomes.values())
    failed = sum(count for outcome, count in outcomes.items() if outcome not in _ANSWERS)
    passed, answers = outcomes["answered"], outcomes["answered"] + outcomes["unsupported"]
    cost = sum(call.reserved if call.cost is None else call.cost for call in calls)
    waits = sorted(call.ms for call in calls if call.outcome in _ANSWERS)
    return Share(
        provider=name,
        models=tuple(sorted({call.model for call in calls})),
        calls=len(calls),
        outcomes={str(outcome): count for outcome, count in outcomes.most_common()},
        cost=cost,
        prompt_tokens=sum(call.prompt_tokens for call in calls),
        completion_tokens=sum(call.completion_tokens for call in calls),
        p50_ms=_quantile(waits, 50),
        p95_ms=_quantile(waits, 95),
        failed_percent=_percent(failed, ended),
        passed_percent=_percent(passed, answers),
        cost_per_passed=-(-cost // passed) if passed else None,
        open=len(calls) - ended,
    )


def _quantile(ordered: Sequence[int], percent: int) -> int:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0


def _percent(part: int, of: int) -> int | None:
    return round(100 * part / of) if of else None


def _recommended(
    shares: Sequence[Share], not_asked: Mapping[str, int], settings: LlmConfig, committed: int
) -> list[str]:
    said = [words for share in shares if share.calls >= ENOUGH for words in _of_one(share)]
    measured = [share for share in shares if share.passed_percent is not None and share.calls >= ENOUGH]
    for number, first in enumerate(measured):
        for second in measured[number + 1 :]:
            better = (second.passed_percent or 0) >= (first.passed_percent or 0) + BETTER_POINTS
            dearer = (second.cost_per_passed or 0) > (first.cost_per_passed or MICRO_CENTS)
            if better and not dearer:
                said.append(
                    f"ask {second.provider} before {first.provider} (order): {second.passed_percent} % of "
                    f"its answers pass the post-check, not {first.passed_percent} %, and they cost no more"
                )
    if settings.budget and committed >= settings.alert_at:
        said.append(
            f"{_percent(committed, settings.budget)} % of the budget is gone: raise LLM_MONTHLY_BUDGET, or "
            "set LLM_STRATEGY to local until the month ends"
        )
    for reason, count in not_asked.items():
        if count >= ENOUGH and "twentieth" in reason:
            said.append(
                f"{count} calls were too dear for what is left: raise LLM_MONTHLY_BUDGET, take a cheaper "
                "model or fewer [infer_large] max_answer_tokens"
            )
    unsure = sum(count for reason, count in not_asked.items() if "redaction" in reason)
    if unsure >= ENOUGH:
        said.append(
            f"{unsure} questions stayed inside because redaction was unsure: `evy llm audit` has the "
            "reasons; this is as it should be, the own model answered them"
        )
    return said


def _of_one(share: Share) -> list[str]:
    said = []
    name, outcomes = share.provider, share.outcomes
    if (share.failed_percent or 0) >= MANY_PERCENT:
        worst = ", ".join(f"{count} {what}" for what, count in outcomes.items() if what not in _ANSWERS)
        said.append(f"{name} failed {share.failed_percent} % of its calls ({worst}): put another before it")
    if outcomes.get("busy", 0) * 10 >= share.calls:
        said.append(f"{name} was too busy for {outcomes['busy']} calls: lower its requests_per_minute")
    if outcomes.get("timeout", 0) * 10 >= share.calls:
        said.append(
            f"{name} took longer than API_TIMEOUT_SEC {outcomes['timeout']} times: raise it, or drop it"
        )
    if outcomes.get("unusable", 0) * 10 >= share.calls:
        said.append(f"{name} wrote no JSON {outcomes['unusable']} times: take another of its models")
    if outcomes.get("lost", 0):
        said.append(f"{outcomes['lost']} calls of {name} ended with their process: see why infer_large died")
    if share.passed_percent is not None and share.passed_percent < 50:
        said.append(
            f"only {share.passed_percent} % of the answers of {name} pass the post-check: people get "
            "reviewed passages instead, which cost nothing"
        )
    return said


def lines(found: Report) -> list[str]:
    """The report for people."""
    money = f"{shown(found.committed)} of {shown(found.budget)} spent or reserved"
    said = [f"{found.month}, strategy {found.strategy}: {money}, {shown(max(0, found.left))} left"]
    if not found.providers:
        said.append("no outside call was made")
    else:
        heads = ("provider", "calls", "passed", "failed", "cost", "per passed", "p50 ms", "p95 ms")
        said += ["", "".join(f"{head:>12}" for head in heads)]
    for share in found.providers:
        cells = (
            share.provider,
            str(share.calls),
            "-" if share.passed_percent is None else f"{share.passed_percent} %",
            "-" if share.failed_percent is None else f"{share.failed_percent} %",
            shown(share.cost),
            "-" if share.cost_per_passed is None else shown(share.cost_per_passed),
            str(share.p50_ms),
            str(share.p95_ms),
        )
        said.append("".join(f"{cell:>12}" for cell in cells))
        ended = ", ".join(f"{count} {what}" for what, count in share.outcomes.items())
        said.append(f"{'':>12}  {ended}" + (f", {share.open} without an end" if share.open else ""))
    if found.not_asked:
        said += ["", "not asked:"]
        said += [f"{count:>8}  {reason}" for reason, count in found.not_asked.items()]
    said += [
        "",
        "recommended:",
        *(f"  - {words}" for words in found.recommendations or ("nothing to change",)),
    ]
    return said
