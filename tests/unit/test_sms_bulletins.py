"""sms: a public alert goes only to who still wants it, while it holds, and not once it is over."""

from typing import Any

import msgspec
import pytest

from actors._people.consent import Consent
from actors._runtime.memory import MemoryKeyValue
from actors.bulletin import Kept, alert_key
from actors.sms.sending import Sending
from actors.sms.station import Changes
from subjects.messages import OutboundSms

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("consent", "over", "expires_at", "reason"),
    [
        (Consent(stopped=False, alerts=True), "", NOW + 60, ""),
        (Consent(stopped=False, alerts=True), "", 0.0, ""),
        (Consent(stopped=True, alerts=True), "", NOW + 60, "STOP"),
        (Consent(stopped=False), "", NOW + 60, "asked for no public alerts"),
        (None, "", NOW + 60, "asked for no public alerts"),
        (Consent(stopped=False, alerts=True), "", NOW, "the alert expired"),
        (Consent(stopped=False, alerts=True), "replaced", NOW + 60, "the alert was replaced"),
        (Consent(stopped=False, alerts=True), "cancelled", NOW + 60, "the alert was cancelled"),
    ],
)
async def test_why_a_public_alert_is_withheld(
    consent: Consent | None, over: Any, expires_at: float, reason: str
) -> None:
    consents, bulletins, none = MemoryKeyValue(), MemoryKeyValue(), MemoryKeyValue()
    told: list[dict[str, object]] = []
    if consent:
        await consents.put("ana", msgspec.json.encode(consent))
    await bulletins.put(alert_key("k1"), msgspec.json.encode(Kept(NOW, over=over)))
    sending = Sending(
        [],
        ledger=None,  # type: ignore[arg-type]  # nothing gets so far
        changes=Changes(),
        homes=none,
        outbox=None,  # type: ignore[arg-type]  # likewise
        numbers=none,
        consent=consents,
        pseudonym=str,
        tell=lambda kind, **fields: told.append({"kind": kind, **fields}),
        failover_after_s=30,
        bulletins=bulletins,
        now=lambda: NOW,
    )
    out = OutboundSms(
        query_id="q",
        node="n1",
        text="x",
        lang="en",
        lane="routine",
        step="notice",
        kind="alert",
        sender_ref="ana",
        bulletin="k1",
        expires_at=expires_at,
    )
    await sending.handle(out)
    # Whoever would get it has no number here, which is the next thing that is looked at.
    assert [one["reason"] for one in told] == [reason or "no number: forgotten, or never texted this node"]
