"""The octets of a payload: a kind, what the kind needs as numbers, and words by `evy_core.Packer`.

Everything that comes from another node is checked here: its size, kind, version and every field. What is
wrong is a :class:`PayloadError` with a reason that is counted. The table of octets is in docs/mesh.md, M51.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, get_args

import msgspec
from evy_core import CoreError, Packer

from actors._people.contacts import Need
from actors.mesh import bulletins
from subjects.bulletin import Bulletin
from subjects.errors import EvyError
from subjects.mesh import MAX_PAYLOAD_OCTETS, CaseState, MeshNeeds, MeshReply
from subjects.messages import Alert, Answer, OutboundSms, Place, Privacy, Query, Step

VERSION: Final = 0
"""The upper three bits of the first octet; the lower five are the kind."""
QUERY, ANSWER, ALERT, REPLY, NEEDS, BULLETIN, SMS, VERSION_HERE, WANTED, PIECE, NOT_GIVEN = range(1, 12)
KINDS: Final = {
    QUERY: "query",
    ANSWER: "answer",
    ALERT: "alert",
    REPLY: "reply",
    NEEDS: "needs",
    BULLETIN: "bulletin",
    SMS: "sms",
    VERSION_HERE: "version",
    WANTED: "wanted",
    PIECE: "piece",
    NOT_GIVEN: "not_given",
}

LANGUAGES: Final = ("en", "es", "fr", "pt", "sw", "hi", "ar", "ht", "fil")
"""A language is its place in this list, which may only grow at its end; 63 is any other."""
_OTHER: Final = 63
NEED_LIST: Final[tuple[str, ...]] = get_args(Need)
"""A need is its place in this list, which may only grow at its end, to 24 at most."""
PRIVACIES: Final[tuple[Privacy, ...]] = ("private", "enhanced", "public")
STEPS: Final[tuple[Step, ...]] = ("model", "verbatim", "joined", "template")
CASE_STATES: Final[tuple[CaseState, ...]] = ("asking", "coming", "unheard")
MAX_TEXT: Final = 1000
"""Characters of a question, an answer or an SMS."""
MAX_PLACE: Final = 80
MAX_NEEDS: Final = 32
NOT_GIVEN_BECAUSE: Final[tuple["Because", ...]] = ("too_large", "not_here", "spent")
MAX_REGIONS: Final = 400
"""Characters of all names of regions together."""
_DEGREE: Final = 1 << 15
"""Parts of a degree: 3.4 m."""
_BETWEEN: Final = "\x1e"


class PayloadError(EvyError):
    """Octets of another node that are no payload; ``reason`` is a short code for the counters."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


Because = Literal["too_large", "not_here", "spent"]
"""Why a delta is not given: it is more than the air of a day, the giver lacks texts of those regions or a
signature of them, or its air of this day is used."""


class Version(NamedTuple):
    """Which texts of which centre a node has."""

    centre: bytes
    """Four octets of a hash of its key."""
    version: int
    """0: only what was shipped."""
    name: bytes
    """Four octets of the version's name, zeros for none."""


class Wanted(NamedTuple):
    """A node asks for what leads from its texts to those of another one."""

    base: bytes
    """`Standing.name` of what it has."""
    version: int
    """Which it was told of."""
    delta: bytes
    """Four octets of the hash of a delta of which it has some; zeros: of none."""
    offset: int
    """So much of it is there."""
    regions: tuple[str, ...]


class Piece(NamedTuple):
    """Some octets of a delta."""

    delta: bytes
    """Four octets of its hash."""
    total: int
    offset: int
    octets: bytes


class NotGiven(NamedTuple):
    """A node gives no delta."""

    because: Because
    version: int
    total: int
    """Octets of a delta that is too large; else 0."""


class Sms(NamedTuple):
    """An SMS that another node's modem is asked to send."""

    ref: str
    lang: str
    number: str
    text: str


class Asked(NamedTuple):
    """A question of another node."""

    ref: str
    lang: str
    privacy: Privacy
    text: str


class Told(NamedTuple):
    """What another node answers to a question of ours."""

    ref: str
    lang: str
    step: Step
    text: str
    sources: tuple[str, ...]


class Danger(NamedTuple):
    """Somebody at another node may be in danger."""

    ref: str
    lang: str
    needs: tuple[str, ...]
    topic: str
    place: Place | None
    safe: bool


OfTexts = Version | Wanted | Piece | NotGiven
Said = Asked | Told | Danger | MeshReply | MeshNeeds | Bulletin | Sms | OfTexts


def ref_of(query_id: str) -> str:
    """What a query, or the case that it opened, is called on the air: 4 octets as hex digits."""
    return hashlib.blake2b(query_id.encode(), digest_size=4).hexdigest()


class Codec:
    """Writes and reads payloads."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer

    # What leaves.

    def query(self, query: Query) -> bytes:
        """A question as it may leave the node: no number, no reference to the person."""
        return self._headed(QUERY, query.id, query.lang, PRIVACIES.index(query.privacy)) + self._pack(
            query.text[:MAX_TEXT]
        )

    def answer(self, answer: Answer, ref: str) -> bytes:
        """A checked answer with the tags of its sources."""
        step = STEPS.index(answer.step) if answer.step in STEPS else 0
        words = _BETWEEN.join((answer.text[:MAX_TEXT], *answer.sources[:3]))
        return bytes([ANSWER]) + bytes.fromhex(ref) + _lang_and(answer.lang, step) + self._pack(words)

    def alert(self, alert: Alert) -> bytes:
        """Reference, place and need; never what the person wrote, never a number."""
        bits = sum(1 << NEED_LIST.index(need) for need in alert.needs if need in NEED_LIST)
        place = alert.place
        exact = place is not None and place.latitude is not None and place.longitude is not None
        head = self._headed(
            ALERT, alert.query_id, alert.lang, int(exact) | int(alert.kind == "safe") << 1
        ) + bits.to_bytes(3, "big")
        if place is not None and place.latitude is not None and place.longitude is not None:
            head += _degrees(place.latitude) + _degrees(place.longitude)
        words = _BETWEEN.join((alert.topic, place.text[:MAX_PLACE] if place else ""))
        return head + self._pack(words)

    def reply(self, reply: MeshReply) -> bytes:
        """What the responders here say."""
        return bytes([REPLY]) + bytes.fromhex(reply.ref) + bytes([CASE_STATES.index(reply.state)])

    def needs(self, needs: MeshNeeds) -> bytes:
        """Counts by place: each need one octet and its count another, 255 for more."""
        counted = [
            bytes([NEED_LIST.index(need), min(count, 255)])
            for need, count in sorted(needs.counts.items())
            if need in NEED_LIST and count > 0
        ]
        return bytes([NEEDS, len(counted)]) + b"".join(counted) + self._pack(needs.place[:MAX_PLACE])

    def sms(self, sms: OutboundSms) -> bytes:
        """A text for another node's modem; the payload is sealed to that node."""
        digits = sms.number.removeprefix("+")
        plus = int(sms.number.startswith("+"))
        packed = bytes.fromhex(digits + ("" if len(digits) % 2 == 0 else "f"))
        head = self._headed(SMS, sms.ledger_key(0), sms.lang, plus) + bytes([len(digits)]) + packed
        return head + self._pack(sms.text[:MAX_TEXT])

    def bulletin(self, bulletin: Bulletin) -> bytes:
        """A public alert without its long texts."""
        return bytes([BULLETIN]) + bulletins.written(bulletin, self._pack)

    def version(self, said: Version) -> bytes:
        """Which texts are here, for everybody: 13 octets."""
        return bytes([VERSION_HERE]) + said.centre + said.version.to_bytes(4, "big") + said.name

    def wanted(self, said: Wanted) -> bytes:
        """15 octets, and the names of the regions."""
        numbers = said.version.to_bytes(4, "big") + said.delta + said.offset.to_bytes(2, "big")
        return bytes([WANTED]) + said.base + numbers + self._pack("\n".join(said.regions))

    def piece(self, said: Piece) -> bytes:
        """9 octets, and those of the delta."""
        place = said.total.to_bytes(2, "big") + said.offset.to_bytes(2, "big")
        return bytes([PIECE]) + said.delta + place + said.octets

    def not_given(self, said: NotGiven) -> bytes:
        """8 octets."""
        because = NOT_GIVEN_BECAUSE.index(said.because)
        numbers = said.version.to_bytes(4, "big") + min(said.total, 0xFFFF).to_bytes(2, "big")
        return bytes([NOT_GIVEN, because]) + numbers

    def _headed(self, kind: int, query_id: str, lang: str, two_bits: int) -> bytes:
        return bytes([VERSION << 5 | kind]) + bytes.fromhex(ref_of(query_id)) + _lang_and(lang, two_bits)

    def _pack(self, text: str) -> bytes:
        # A lone surrogate, as a phone may send it, is no text.
        [frame] = self._packer.pack([text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")])
        return frame

    # What comes.

    def read(self, octets: bytes) -> Said:
        """What another node said. Raises :class:`PayloadError`."""
        if not 1 <= len(octets) <= MAX_PAYLOAD_OCTETS:
            raise PayloadError("size", f"{len(octets)} octets; 1 to {MAX_PAYLOAD_OCTETS} are a payload")
        version, kind = octets[0] >> 5, octets[0] & 0x1F
        if version != VERSION:
            raise PayloadError("version", f"{version}; this node reads {VERSION}: bring its EVY up to date")
        reader = self._readers.get(kind)
        if reader is None:
            raise PayloadError("kind", f"{kind} is none that this node knows: bring its EVY up to date")
        try:
            return reader(self, octets[1:])
        except PayloadError:
            raise
        except (IndexError, ValueError, CoreError, msgspec.MsgspecError) as error:
            raise PayloadError("form", f"no {KINDS[kind]}: {error}") from error

    def _query(self, octets: bytes) -> Asked:
        ref, lang, privacy, rest = _head(octets)
        return Asked(ref, lang, PRIVACIES[privacy], self._words(rest, MAX_TEXT))

    def _answer(self, octets: bytes) -> Told:
        ref, lang, step, rest = _head(octets)
        text, *sources = self._unpack(rest).split(_BETWEEN)
        if not text.strip() or len(text) > MAX_TEXT or len(sources) > 3 or any(len(s) > 8 for s in sources):
            raise PayloadError("form", "an answer without words, or with too many")
        return Told(ref, lang, STEPS[step], text, tuple(sources))

    def _alert(self, octets: bytes) -> Danger:
        ref, lang, two_bits, rest = _head(octets)
        exact = two_bits & 1
        bits, rest = int.from_bytes(rest[:3], "big"), rest[3:]
        needs = tuple(need for place, need in enumerate(NEED_LIST) if bits >> place & 1)
        latitude = longitude = None
        if exact:
            latitude, longitude, rest = _from_degrees(rest[:3], 90), _from_degrees(rest[3:6], 180), rest[6:]
        topic, where = self._words(rest, 40 + MAX_PLACE, least=0).split(_BETWEEN)
        place = Place(where, latitude, longitude) if where or exact else None
        return Danger(ref, lang, needs, topic, place, bool(two_bits & 2))

    def _reply(self, octets: bytes) -> MeshReply:
        if len(octets) != 5:
            raise PayloadError("form", f"a reply of {len(octets) + 1} octets; it has 6")
        return MeshReply(octets[:4].hex(), CASE_STATES[octets[4]])

    def _needs(self, octets: bytes) -> MeshNeeds:
        count = octets[0]
        if count > MAX_NEEDS:
            raise PayloadError("form", f"{count} needs; there are {len(NEED_LIST)}")
        pairs = octets[1 : 1 + 2 * count]
        counts = {NEED_LIST[need]: seen for need, seen in zip(pairs[::2], pairs[1::2], strict=True)}
        return MeshNeeds(self._words(octets[1 + 2 * count :], MAX_PLACE), counts)

    def _sms(self, octets: bytes) -> Sms:
        ref, lang, plus, rest = _head(octets)
        count = rest[0]
        if not 3 <= count <= 15:
            raise PayloadError("form", f"a number of {count} digits")
        digits = rest[1 : 1 + (count + 1) // 2].hex()[:count]
        if len(digits) != count or not digits.isdigit():
            raise PayloadError("form", "a number that is none")
        text = self._words(rest[1 + (count + 1) // 2 :], MAX_TEXT)
        return Sms(ref, lang, f"+{digits}" if plus else digits, text)

    def _bulletin(self, octets: bytes) -> Bulletin:
        return bulletins.read(octets, self._unpack)

    def _version(self, octets: bytes) -> Version:
        if len(octets) != 12:
            raise PayloadError("form", f"a version of {len(octets) + 1} octets; it has 13")
        return Version(octets[:4], int.from_bytes(octets[4:8], "big"), octets[8:])

    def _wanted(self, octets: bytes) -> Wanted:
        names = self._words(octets[14:], MAX_REGIONS, least=0)
        numbers = int.from_bytes(octets[4:8], "big"), octets[8:12], int.from_bytes(octets[12:14], "big")
        return Wanted(octets[:4], *numbers, tuple(names.split("\n")) if names else ())

    def _piece(self, octets: bytes) -> Piece:
        total, offset = int.from_bytes(octets[4:6], "big"), int.from_bytes(octets[6:8], "big")
        if len(octets) <= 8 or offset + len(octets) - 8 > total:
            raise PayloadError("form", f"octets {offset} and on of a delta of {total}: {len(octets) - 8}")
        return Piece(octets[:4], total, offset, octets[8:])

    def _not_given(self, octets: bytes) -> NotGiven:
        if len(octets) != 7:
            raise PayloadError("form", f"«not given» of {len(octets) + 1} octets; it has 8")
        numbers = int.from_bytes(octets[1:5], "big"), int.from_bytes(octets[5:], "big")
        return NotGiven(NOT_GIVEN_BECAUSE[octets[0]], *numbers)

    def _unpack(self, octets: bytes) -> str:
        [text] = self._packer.unpack([octets])
        return text

    def _words(self, octets: bytes, most: int, *, least: int = 1) -> str:
        text = self._unpack(octets)
        if not least <= len(text.strip()) or len(text) > most:
            raise PayloadError("form", f"{len(text)} characters; {least} to {most} may be there")
        return text

    _readers: Mapping[int, Callable[["Codec", bytes], Said]] = {
        QUERY: _query,
        ANSWER: _answer,
        ALERT: _alert,
        REPLY: _reply,
        NEEDS: _needs,
        BULLETIN: _bulletin,
        SMS: _sms,
        VERSION_HERE: _version,
        WANTED: _wanted,
        PIECE: _piece,
        NOT_GIVEN: _not_given,
    }


def _lang_and(lang: str, two_bits: int) -> bytes:
    place = LANGUAGES.index(lang) if lang in LANGUAGES else _OTHER
    return bytes([two_bits << 6 | place])


def _head(octets: bytes) -> tuple[str, str, int, bytes]:
    """What a payload is called, its language, two bits, and the rest."""
    ref, packed = octets[:4], octets[4]
    place = packed & 0x3F
    return ref.hex(), LANGUAGES[place] if place < len(LANGUAGES) else LANGUAGES[0], packed >> 6, octets[5:]


def _degrees(degrees: float) -> bytes:
    return round(degrees * _DEGREE).to_bytes(3, "big", signed=True)


def _from_degrees(octets: bytes, most: int) -> float:
    degrees = int.from_bytes(octets, "big", signed=True) / _DEGREE
    if len(octets) != 3 or abs(degrees) > most:
        raise PayloadError("form", f"{degrees:.5f} degrees")
    return degrees
