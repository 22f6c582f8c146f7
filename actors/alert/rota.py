"""How many texts one responder gets: at most so many in an hour, the last of them digests of many cases."""

from typing import Final, Literal

import msgspec

from actors._people.cases import AskedAbout, Case, Held, Rota, Said
from actors._people.contacts import Contact
from actors.alert.words import Words
from subjects import names

HOUR_S: Final = 3600.0
DIGESTS_PER_HOUR: Final = 5
"""Texts of the hour that are kept for digests."""
DIGEST_EVERY_S: Final = HOUR_S / DIGESTS_PER_HOUR
"""With this gap there is always a digest left for who is in danger next."""
GATHER_S: Final = 30.0
"""A digest waits so long for further cases."""
ASKED_KEPT: Final = 200
"""Cases that a responder may answer to; about 60 octets each."""
HELD_AT_MOST: Final = 200
"""Cases that wait for one responder's digests, about 150 octets each; a digest takes about six in twelve
minutes, so the next one would wait for a working day."""

Verdict = Literal["sent", "held", "dropped"]
"""What becomes of a text: sent, in the next digest, or neither, because too many are."""

changed = msgspec.structs.replace


def current(rota: Rota | None, boot_id: str, now_s: float) -> Rota:
    """The record as of now: texts older than an hour no longer count. After a reboot the hour begins anew,
    and what is held is due at once."""
    rota = rota or Rota(boot_id=boot_id)
    if rota.boot_id != boot_id:
        held = tuple(changed(one, at_s=now_s - GATHER_S) for one in rota.held)
        return changed(rota, boot_id=boot_id, sent=(), held=held, digest_at_s=-1.0)
    return changed(rota, sent=tuple(one for one in rota.sent if now_s - one[0] < HOUR_S))


def admitted(
    rota: Rota, said: Said, case: Case, ref: str, now_s: float, *, per_hour: int
) -> tuple[Rota, Verdict]:
    """Whether a text of a case may be sent now; if not, the case is in the next digest. The same again for a
    text that was decided before."""
    text_id = f"{said.query_id}.{said.ordinal}"
    if any(text_id == sent for _, sent in rota.sent):
        return rota, "sent"
    if text_id in rota.digested or any(text_id == one.text_id for one in rota.held):
        return rota, "held"
    sends = said.owed or len(rota.sent) < per_hour - DIGESTS_PER_HOUR
    others = tuple(one for one in rota.held if one.ref != ref)
    if not sends and len(others) >= HELD_AT_MOST:
        return rota, "dropped"
    if said.asks or said.owed:
        kept = tuple(one for one in rota.asked if one.ref != ref)[-ASKED_KEPT + 1 :]
        rota = changed(rota, asked=(*kept, AskedAbout(case.number, ref, case.lane, in_full=sends)))
    if sends:
        return changed(rota, sent=(*rota.sent, (now_s, text_id))), "sent"
    since_s = next((one.at_s for one in rota.held if one.ref == ref), now_s)
    held = Held(case.number, ref, case.lane, said.brief, said.query_id, since_s, text_id)
    return changed(rota, held=(*others, held)), "held"


def digest_due_s(rota: Rota, *, per_hour: int) -> float:
    """When (boot clock) the next digest is due; infinity: nothing is held."""
    if not rota.held:
        return float("inf")
    due_s = min(one.at_s for one in rota.held) + GATHER_S
    if rota.digest_at_s >= 0:
        due_s = max(due_s, rota.digest_at_s + DIGEST_EVERY_S)
    if len(rota.sent) >= per_hour:
        due_s = max(due_s, rota.sent[-per_hour][0] + HOUR_S)
    return due_s


def with_digest(rota: Rota, contact: Contact, words: Words, now_s: float) -> tuple[Rota, list[int], int]:
    """The record with a digest in its outbox; the numbers of the cases in it, and how many are still held."""
    held = sorted(rota.held, key=lambda one: (names.LANES.index(one.lane), one.at_s))
    text, count = words.digest(contact, held)
    # Told from earlier digests by the first text in it, which is in no other.
    query_id, _, ordinal = held[0].text_id.rpartition(".")
    said = Said(contact.key, text, words.lang_of(contact), query_id, int(ordinal))
    rota = changed(
        rota,
        held=tuple(held[count:]),
        sent=(*rota.sent, (now_s, held[0].text_id)),
        digested=(*rota.digested, *(one.text_id for one in held[:count]))[-HELD_AT_MOST:],
        digest_at_s=now_s,
        outbox=(*rota.outbox, said),
    )
    return rota, [one.number for one in held[:count]], len(held) - count
