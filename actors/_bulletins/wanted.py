"""Who asked for public alerts, in which language, for which places."""

import msgspec

from actors._bulletins.judge import Wanted
from actors._people.consent import Consent
from actors._runtime.actor import KeyValue
from actors._runtime.state import read


class _Session(msgspec.Struct, frozen=True):
    lang: str = ""


async def everybody(consents: KeyValue, sessions: KeyValue, default: str) -> list[Wanted]:
    """Everybody whose consent allows alerts, in the order of their references; two reads for each of them."""
    found = []
    for ref in sorted(await consents.keys()):
        consent = await read(consents, ref, Consent)
        if consent and consent.wants_alerts:
            session = await read(sessions, ref, _Session)
            lang = (session.lang if session else "") or consent.lang or default
            found.append(Wanted(ref, lang, consent.places))
    return found
