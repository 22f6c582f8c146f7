# ruff: noqa: PYI021, PYI054  the docstrings of the core live here; PyO3 carries none
"""Typed face of the Rust core; the docstrings live here."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, final

__all__ = [
    "Compressor",
    "CoreError",
    "DataError",
    "Decision",
    "Deliver",
    "Fitted",
    "Landing",
    "Masked",
    "MeshAirtime",
    "MeshArrival",
    "MeshError",
    "MeshFullError",
    "MeshNeighbour",
    "MeshNode",
    "MeshOutcome",
    "MeshPoll",
    "MeshRoute",
    "PackError",
    "Packer",
    "PduError",
    "RadioChannel",
    "RadioScene",
    "Redacted",
    "Redactor",
    "Router",
    "Segmentation",
    "Situation",
    "StatusReport",
    "Submit",
    "Triage",
    "Triager",
    "Unsupported",
    "decode_received",
    "decode_submitted",
    "encode_pdus",
    "join_parts",
    "segment",
    "time_on_air_us",
]

class CoreError(ValueError):
    """Base of every error the core raises."""

class DataError(CoreError):
    """A data file is wrong; the text names file and entry."""

class MeshError(CoreError):
    """A setting, key, state or message that the mesh refuses; the text names the argument."""

class MeshFullError(MeshError):
    """As many messages wait as the mesh takes (32, and 8 more of flash): try again later."""

class PackError(CoreError):
    """A text that cannot be packed, or octets that are no packed text; the text says why."""

class PduError(CoreError):
    """Octets that are no PDU, or a message that does not fit into one; the text names the field."""

@final
class Segmentation:
    """How one text is divided into SMS (3GPP TS 23.040 §9.2.3.24.1, TS 23.038 §6.2).

    A text of up to 160 septets or 70 UTF-16 units is one segment, a longer one has 153 or 67 in each. No
    character is divided: neither an extension character (two septets) nor a surrogate pair. An empty text is
    one empty segment. More than 255 segments cannot be sent; the sender refuses or shortens.
    """

    @property
    def encoding(self) -> Literal["gsm7", "ucs2"]:
        """Alphabet; one character outside GSM 7-bit makes the whole text ``ucs2``."""
    @property
    def units(self) -> int:
        """Septets or UTF-16 units of the text, headers not counted."""
    @property
    def count(self) -> int:
        """Number of segments, known without making them."""
    @property
    def segments(self) -> list[str]:
        """The segments in order; joined they are the text. Made anew at each call."""

def segment(texts: Sequence[str]) -> list[Segmentation]:
    """Divides each text into SMS, in order, with the GIL released.

    Raises UnicodeEncodeError for a ``str`` with a lone surrogate, which is not text.
    """

@final
class Deliver:
    """SMS-DELIVER: a text from the network (3GPP TS 23.040 §9.2.2.1).

    Made from ``text`` (GSM 7-bit if it can, else UCS-2, unless ``coding`` says) or from raw ``data``. Numbers
    have ``+`` in front when they are international; anything but digits is a name. ``concat`` is reference,
    number of parts, this part from 1. Raises PduError when a field cannot be.
    """

    def __new__(
        cls,
        sender: str,
        text: str = "",
        *,
        data: bytes | None = None,
        smsc: str = "",
        smsc_at: float = 946_684_800.0,
        zone_quarters: int = 0,
        concat: tuple[int, int, int] | None = None,
        wide_reference: bool = False,
        header: Sequence[tuple[int, bytes]] = ...,
        coding: int | None = None,
        protocol: int = 0,
    ) -> Deliver: ...
    @property
    def smsc(self) -> str:
        """Service centre that sent it; empty if the PDU does not say."""
    @property
    def sender(self) -> str:
        """Number or name of who wrote it."""
    @property
    def sender_is_name(self) -> bool:
        """The sender is a name: nobody can be answered there."""
    @property
    def smsc_at(self) -> float | None:
        """When the service centre took it, Unix seconds; None when the stamp is nonsense."""
    @property
    def smsc_time(self) -> bytes:
        """The stamp's seven octets as they came."""
    @property
    def text(self) -> str | None:
        """What is written, national shift tables applied; None for 8-bit data. A lone surrogate is U+FFFD."""
    @property
    def data(self) -> bytes:
        """User data behind the header: septets one per octet, UTF-16 big-endian, or plain octets."""
    @property
    def alphabet(self) -> Literal["gsm7", "ucs2", "data"]:
        """How ``data`` is coded."""
    @property
    def concat(self) -> tuple[int, int, int] | None:
        """Reference, number of parts, this part from 1; None for a whole text and for impossible numbers."""
    @property
    def header(self) -> list[tuple[int, bytes]]:
        """Information elements, unknown ones too; empty when the header is broken (§9.2.3.24)."""
    @property
    def coding(self) -> int:
        """TP-DCS."""
    @property
    def message_class(self) -> int | None:
        """0 to 3 if the coding says so; 0 shows at once and is not stored."""
    @property
    def protocol(self) -> int:
        """TP-PID; 0x40 is «type 0», which must be acknowledged and not shown."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Submit:
    """SMS-SUBMIT: a text to the network (3GPP TS 23.040 §9.2.2.2); made like :class:`Deliver`.

    ``validity`` is TP-VP in relative format: 0 to 143 are steps of 5 minutes, 167 is one day.
    """

    def __new__(
        cls,
        recipient: str,
        text: str = "",
        *,
        data: bytes | None = None,
        smsc: str = "",
        reference: int = 0,
        report: bool = True,
        validity: int | None = None,
        concat: tuple[int, int, int] | None = None,
        wide_reference: bool = False,
        header: Sequence[tuple[int, bytes]] = ...,
        coding: int | None = None,
    ) -> Submit: ...
    @property
    def smsc(self) -> str:
        """Service centre it goes through; empty takes the one on the SIM."""
    @property
    def recipient(self) -> str:
        """Number it goes to."""
    @property
    def reference(self) -> int:
        """TP-MR, 0 to 255; the modem sets its own."""
    @property
    def report(self) -> bool:
        """A status report is wanted."""
    @property
    def validity(self) -> int | None:
        """TP-VP in relative format; None without one or in another format."""
    @property
    def text(self) -> str | None:
        """What is written, national shift tables applied; None for 8-bit data. A lone surrogate is U+FFFD."""
    @property
    def data(self) -> bytes:
        """User data behind the header: septets one per octet, UTF-16 big-endian, or plain octets."""
    @property
    def alphabet(self) -> Literal["gsm7", "ucs2", "data"]:
        """How ``data`` is coded."""
    @property
    def concat(self) -> tuple[int, int, int] | None:
        """Reference, number of parts, this part from 1; None for a whole text and for impossible numbers."""
    @property
    def header(self) -> list[tuple[int, bytes]]:
        """Information elements, unknown ones too; empty when the header is broken (§9.2.3.24)."""
    @property
    def coding(self) -> int:
        """TP-DCS."""
    @property
    def message_class(self) -> int | None:
        """0 to 3 if the coding says so; 0 shows at once and is not stored."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class StatusReport:
    """SMS-STATUS-REPORT: what became of a text (3GPP TS 23.040 §9.2.2.3)."""

    def __new__(
        cls,
        recipient: str,
        reference: int,
        status: int,
        *,
        smsc: str = "",
        smsc_at: float = 946_684_800.0,
        discharged_at: float = 946_684_800.0,
        zone_quarters: int = 0,
    ) -> StatusReport: ...
    @property
    def smsc(self) -> str:
        """Service centre that reports."""
    @property
    def recipient(self) -> str:
        """Number the text went to."""
    @property
    def reference(self) -> int:
        """TP-MR of the text."""
    @property
    def status(self) -> int:
        """TP-ST (§9.2.3.15)."""
    @property
    def outcome(self) -> Literal["delivered", "pending", "expired", "failed"]:
        """TP-ST in one word; ``pending``: the service centre still tries."""
    @property
    def smsc_at(self) -> float | None:
        """When the service centre took the text, Unix seconds."""
    @property
    def discharged_at(self) -> float | None:
        """When it was delivered, given up or last tried, Unix seconds."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

def decode_received(pdus: Sequence[bytes]) -> list[Deliver | StatusReport]:
    """Reads PDUs that came from the network, each with its SMSC prefix, as a modem in PDU mode shows them.

    Raises PduError at the first that is none. Octets behind a PDU are ignored.
    """

def decode_submitted(pdus: Sequence[bytes]) -> list[Submit]:
    """Reads PDUs that go to the network, each with its SMSC prefix. Raises PduError at a bad one."""

def encode_pdus(messages: Sequence[Deliver | Submit | StatusReport]) -> list[bytes]:
    """PDUs with their SMSC prefix. Raises PduError when an address or the text does not fit."""

def join_parts(texts: Sequence[Sequence[Deliver | Submit]]) -> list[str]:
    """Text of each list of parts, in order; a surrogate pair divided between parts is whole again."""

@final
class Unsupported:
    """One piece of an answer that its passages do not support."""

    @property
    def token(self) -> str:
        """The piece as written in the answer; empty when the answer as a whole is meant."""
    @property
    def reason(
        self,
    ) -> Literal[
        "number",
        "unit",
        "phone",
        "time",
        "substance",
        "negation",
        "polarity",
        "opposite",
        "condition",
        "action",
        "unrelated",
        "language",
        "length",
    ]:
        """Why.

        ``number``: no passage gives it, or gives it to something else. ``negation``: no passage denies it, or
        the clause is too intricate to follow. ``polarity``: stated where the passages deny. ``action``:
        something else is done with a substance. ``language``: no rules for it. ``length``: more than 16 KiB.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Fitted:
    """A text that fits its segments, and what became of the remainder."""

    @property
    def text(self) -> str:
        """What to send, the hint included when there is a rest."""
    @property
    def segments(self) -> int:
        """Segments of ``text``."""
    @property
    def encoding(self) -> Literal["gsm7", "ucs2"]:
        """Alphabet of ``text``."""
    @property
    def octets_in(self) -> int:
        """Octets of SMS user data that the given text would have taken, headers not counted."""
    @property
    def octets_out(self) -> int:
        """The same of ``text``."""
    @property
    def dropped(self) -> list[str]:
        """Sentences left out for good, as they were written; none carries a number, a negation or a dose."""
    @property
    def rest(self) -> str:
        """What is kept for MORE, empty when all fitted; fit it again, as verbatim, for the next piece."""

@final
class Compressor:
    """Checks answers against their passages and fits them into segments, by rules read from data.

    ``shared``, ``languages`` and ``folding`` are TOML, ``substances`` has one name a line; the files of
    ``actors/knowledge/compress/`` and ``folding.toml`` beside it explain every table. Raises
    :class:`CoreError` that names file and rule, also for a short form that would change a number, a unit, a
    negation or a substance.
    """

    def __new__(cls, shared: str, languages: Sequence[str], substances: str, folding: str) -> Compressor: ...
    @property
    def languages(self) -> list[str]:
        """Codes of the languages there are rules for."""
    def check(
        self, answers: Sequence[str], passages: Sequence[Sequence[str]], langs: Sequence[str]
    ) -> list[list[Unsupported]]:
        """What of each answer its passages (in the same language) do not support; empty means it may be sent.

        Numbers, doses, units, phone numbers, times, drug names, negations, conditions and opposites are
        compared; in doubt a piece counts as unsupported. A sentence that stands in a passage word for word is
        supported. Raises :class:`CoreError` when the lists differ in length.
        """
    def fit(
        self,
        texts: Sequence[str],
        langs: Sequence[str],
        verbatim: Sequence[bool],
        max_segments: Sequence[int],
        hints: Sequence[str],
        brief: Sequence[bool] | None = None,
    ) -> list[Fitted]:
        """Fits each text into its segments (1 to 255), in stages, each only as far as needed.

        Clean-up that loses nothing, courtesy, short forms, worthless sentences, small words of a headline;
        at last the sentences to send first are chosen, or the text is cut between steps or sentences, and the
        others are the rest. A verbatim text is cleaned up and cut only. ``hints`` stand at the end of a text
        that has a rest. ``brief`` asks for the fewest segments that hold all of a text, also of one that
        fits. The last 1,000 results are remembered, in 1 MiB at most. Raises :class:`CoreError` when the
        lists differ in length, a number of segments is out of range, a hint leaves no room, or a text is
        longer than 262,144 octets.
        """

_Neighbour: TypeAlias = Literal["link", "model"]
"""A connection to a centre; none, but a small model that may run."""

@final
class Situation:
    """Everything a routing decision depends on. None means unknown: the worst that is still useful.

    ``asks`` says that the text puts a question. ``link_up`` is None where there is no centre. ``neighbour``
    is the best that a node on the mesh has to answer with.
    ``confidence`` is retrieval confidence 0 to 1, None before retrieval. ``deadline_s`` seconds are left.
    ``within_budget`` says that the big model may cost what it costs. Raises ValueError for another priority.
    """

    def __new__(
        cls,
        priority: Literal["emergency", "urgent", "normal"],
        *,
        has_needs: bool = True,
        asks: bool = True,
        confidence: float | None = None,
        deadline_s: float = 0.0,
        node_only: bool = False,
        battery_percent: float | None = None,
        free_memory_mb: float | None = None,
        model_ready: bool | None = None,
        link_up: bool | None = None,
        neighbour: _Neighbour | None = None,
        within_budget: bool = True,
    ) -> Situation: ...

@final
class Decision:
    """Where a text goes, and why."""

    @property
    def next(
        self,
    ) -> Literal[
        "sms.out", "rag", "compress", "infer.small", "infer.large", "mesh.out", "unsure", "low_battery"
    ]:
        """Subject of the next hop: ``sms.out`` is a template, ``compress`` the best passage as written.
        ``unsure`` is no subject: say so honestly; ``low_battery``: and that the battery is why."""
    @property
    def reason(self) -> str:
        """A short code and the numbers that decided, for events and people."""
    @property
    def wait(self) -> bool:
        """The centre is asked too, and its answer may come late: the link is down, and nothing forbids."""

@final
class Router:
    """The ladder as a pure function, with its limits from ``actors/knowledge/route.toml``.

    Raises :class:`CoreError` that names the rule when the text is not a complete set of limits in order.
    """

    def __new__(cls, rules: str) -> Router: ...
    @property
    def sure(self) -> float:
        """Confidence from which a passage is sent as it was written."""
    @property
    def unsure(self) -> float:
        """Confidence below which no passage is good enough."""
    @property
    def battery_limits(self) -> tuple[list[float], float]:
        """Limits of the battery in per cent, rising, and the margin above one until it is left again."""
    @property
    def memory_limits(self) -> tuple[list[float], float]:
        """Limits of the free memory in megabytes, rising, and the margin above one until it is left again."""
    def brevity(
        self, priority: Literal["emergency", "urgent", "normal"], *, battery_percent: float | None = None
    ) -> str | None:
        """Why an answer should take one segment; None when it may take all. Only a routine one is ever
        shortened. Raises ValueError for another priority."""
    def model_obstacle(
        self, *, battery_percent: float | None = None, free_memory_mb: float | None = None
    ) -> str | None:
        """Why the small model may not run now, whatever the text; None when it may."""
    def decide(self, situations: Sequence[Situation]) -> list[Decision]:
        """One decision for each situation, in order; the GIL is released."""

@final
class Triage:
    """How urgent one text is, what is needed, and what answers it. Immutable."""

    @property
    def priority(self) -> Literal["emergency", "urgent", "normal"]:
        """emergency: life or limb within minutes to hours. urgent: help within hours to days."""
    @property
    def needs(self) -> list[str]:
        """At most three, the most pressing first; ``["none"]`` when there is none."""
    @property
    def template(self) -> str | None:
        """Topic of the reviewed text; ``general_danger`` where it is unknown or unclear; None when this is no
        emergency."""
    @property
    def lang(self) -> str:
        """ISO 639-1 code; the first language of the triager where the text gives no evidence."""
    @property
    def lang_confidence(self) -> float:
        """0 to 1; below 0.5 few words speak for the language and a known preference should win."""
    @property
    def confidence(self) -> float:
        """How sure the priority is, 0 to 1."""
    @property
    def why(self) -> list[tuple[str, int, int]]:
        """The cues that decided, in the order of the text: (name, start, end), so that ``text[start:end]`` is
        what was read."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Triager:
    """Deterministic triage with its data loaded. Immutable; one instance serves all threads.

    ``files`` are (name, text): one named ``rules.toml``, one per language, English first whatever the order,
    and ``model.tsv`` or none: then the rules decide alone. Raises :class:`DataError` naming file and entry.
    """

    def __new__(cls, files: Sequence[tuple[str, str]]) -> Triager: ...
    def classify(self, texts: Sequence[str]) -> list[Triage]:
        """Triage of each text, in order, with the GIL released: any text of any length, in linear time."""
    def detect_lang(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Language of each text with its confidence, as in :class:`Triage`."""
    def scores(self, texts: Sequence[str]) -> list[list[int]]:
        """What the model alone says of each text: a score per name of `outputs`, in 1/65536 of a logit."""
    @staticmethod
    def ngrams(texts: Sequence[str]) -> list[list[str]]:
        """What the model looks at, as its file writes it: words, pairs of words, ``~`` pieces of words."""
    @property
    def outputs(self) -> list[str]:
        """What the model scores: ``urgent`` and needs; empty without a model."""
    @property
    def langs(self) -> list[str]:
        """Languages known, the assumed one first."""
    @property
    def topics(self) -> list[str]:
        """Every topic the rules can choose, the most pressing first; ``general_danger`` comes on top."""

@final
class Redacted:
    """A text without what tells who or exactly where a person is. Its repr never shows the text."""

    @property
    def text(self) -> str:
        """The text with the kind in brackets for each finding. Redacting it again changes nothing."""
    @property
    def found(self) -> list[tuple[str, int, int]]:
        """Kind, first character and the one after the last, in code points of the original, in order.

        Kinds: phone, email, name, place-coordinates, id, url, handle, birth-date, and text for a whole text
        that could not be finished.
        """
    @property
    def doubtful(self) -> bool:
        """Something unread is left; whoever fails closed treats the text as private.

        A number of seven digits that is no phone number, an ``@``, a word of more than forty octets, letters
        of a script without data.
        """
    @property
    def foreign(self) -> bool:
        """It is in no language of the data: over a quarter of its words of three letters or more are unknown.

        Names in it may have been missed; whoever fails closed treats the text as private.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Masked:
    """A text with numbered placeholders, and what each stands for. Its repr shows neither."""

    @property
    def text(self) -> str:
        """The text with a placeholder such as ``[name1]`` for each finding; redacting finds nothing in it."""
    @property
    def stands(self) -> list[tuple[str, str]]:
        """Placeholder and what stood there, in the order of the text.

        What was written alike, capitals aside, shares a placeholder. One that stood in the text already is
        among them, so that none of the result means two things.
        """
    @property
    def doubtful(self) -> bool:
        """See :attr:`Redacted.doubtful`."""
    @property
    def foreign(self) -> bool:
        """See :attr:`Redacted.foreign`."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Redactor:
    """Takes phone numbers, addresses, names, coordinates, documents and accounts out of texts.

    ``files`` are TOML as name and text; ``shared.toml`` of ``actors/knowledge/pii/`` explains every table.
    All words of ``ordinary`` are no names. In doubt privacy wins for numbers of seven digits or more, unless
    they are dates, years, round amounts, decimals or lists of small numbers, and for what follows a clear cue
    such as «my name is». What an answer needs stays: doses, ages, measures, times, counts, short codes such
    as 112, names of places and streets. Raises :class:`DataError` that names file and entry.
    """

    def __new__(cls, files: Sequence[tuple[str, str]], ordinary: Sequence[str]) -> Redactor: ...
    def redact(self, texts: Sequence[str]) -> list[Redacted]:
        """Redacts each text, in order, with the GIL released: any text of any length, in linear time.

        The result has at most six times the octets. A lone surrogate reads as U+FFFD.
        """
    def mask(self, texts: Sequence[str]) -> list[Masked]:
        """Redacts each text reversibly, in order, with the GIL released. A lone surrogate reads as U+FFFD."""

@final
class Packer:
    """Lossless packing of short texts for links where every octet is airtime (``docs/pack.md``).

    ``model`` is the content of ``actors/knowledge/pack.model``; both ends need the same file. ``known`` are
    texts that may be sent by name, each in as many octets as five. Reads and writes the same octets on every
    machine. Raises :class:`DataError` for another file than a model's, and for two known texts that would
    share a name.
    """

    def __new__(cls, model: bytes, known: Sequence[str] = ...) -> Packer: ...
    @property
    def known_id(self) -> int:
        """Identifies the known texts, 64 bits: equal on two nodes that know the same ones."""
    @property
    def memory_octets(self) -> int:
        """What the model takes in memory."""
    def pack(self, texts: Sequence[str], *, to_same: bool = False) -> list[bytes]:
        """One frame per text, never more than one octet longer than its UTF-8.

        ``to_same``: the receiver has told the same ``known_id``; only then a known text goes by name. Raises
        :class:`PackError` for a text of more than 65,535 octets, UnicodeEncodeError for a lone surrogate.
        """
    def unpack(self, frames: Sequence[bytes]) -> list[str]:
        """The text of each frame; raises :class:`PackError` at the first that is none.

        Octets that were changed on the way may give another text: who carries frames must check them.
        """

def time_on_air_us(
    octets: int,
    *,
    spreading_factor: int,
    bandwidth_hz: int = 125_000,
    coding_rate: int = 5,
    preamble_symbols: int = 8,
) -> int:
    """Time on air of a LoRa frame with explicit header and CRC, in microseconds (Semtech AN1200.13 §4).

    ``coding_rate`` is the denominator of 4/5 to 4/8. The low data rate optimisation is on from 16 ms symbols.
    Raises :class:`CoreError` for what no SX1276 can send.
    """

_MeshLane: TypeAlias = Literal["flash", "priority", "routine"]
_MeshState: TypeAlias = Literal["queued", "sent", "relayed", "delivered", "expired", "refused"]

@final
class MeshArrival:
    """A message that arrived at this node, once."""

    @property
    def source(self) -> int:
        """Address of who sent it."""
    @property
    def id(self) -> int:
        """Its number there; with the source it is unique in the network."""
    @property
    def lane(self) -> _MeshLane: ...
    @property
    def payload(self) -> bytes:
        """What was given to :meth:`MeshNode.send`, 1 to 2,048 octets."""
    @property
    def broadcast(self) -> bool:
        """Whether it went to everybody."""

@final
class MeshPoll:
    """What a node's driver does now, in this order: ``keep``, ``arrived`` and ``states``, ``transmit``."""

    @property
    def transmit(self) -> bytes | None:
        """A frame to send now; then :meth:`MeshNode.sent`, when it left or failed to."""
    @property
    def wake_at_us(self) -> int | None:
        """When to poll again unless something happens before; ``None`` while a frame is on the air."""
    @property
    def arrived(self) -> list[MeshArrival]: ...
    @property
    def states(self) -> list[tuple[int, _MeshState]]:
        """News of own messages.

        ``sent``: left our antenna; ``relayed``: a neighbour has it; ``delivered``: its destination says so;
        ``expired``: a day (flash), half a day (priority) or four hours (routine) are over. Of a broadcast
        nobody confirms the arrival: it ends as ``relayed`` when somebody was heard repeating it, else as
        ``expired``.
        """
    @property
    def keep(self) -> bytes | None:
        """What must be durable before anything else of this poll is acted on; ``state`` of the next start."""

@final
class MeshNeighbour:
    """A node that is heard directly."""

    @property
    def address(self) -> int: ...
    @property
    def rssi_dbm(self) -> float:
        """Strength, smoothed over some frames."""
    @property
    def snr_db(self) -> float:
        """The same above the noise."""
    @property
    def delivery_out(self) -> float:
        """Share of our frames that arrive there, as well as it is known: its report and its answers."""
    @property
    def delivery_in(self) -> float:
        """Share of its frames that arrive here, from the gaps in its count."""
    @property
    def heard_us(self) -> int:
        """When it was heard last, on the clock of ``now_us``."""
    @property
    def flash_only(self) -> bool:
        """It is nearly empty and relays flash only."""

@final
class MeshRoute:
    """How a node is reached, and what it says of itself."""

    @property
    def destination(self) -> int: ...
    @property
    def next_hop(self) -> int: ...
    @property
    def hops(self) -> int:
        """How many, as the cost tells: bad links count for more."""
    @property
    def cost(self) -> int:
        """Eight a hop that never fails, at most 254."""
    @property
    def uplink(self) -> bool:
        """It has a link to the centre."""
    @property
    def modem(self) -> bool:
        """Its modem works."""
    @property
    def model(self) -> bool:
        """It has a small model that may run."""
    @property
    def battery_percent(self) -> int:
        """At least so much: 0, 30, 50 or 75, which is what a beacon tells."""

@final
class MeshAirtime:
    """What the law leaves of the time on air."""

    @property
    def used_us(self) -> int:
        """Spent in the window that ends now."""
    @property
    def limit_us(self) -> int:
        """Allowed in a window; flash may use all of it."""
    @property
    def window_us(self) -> int: ...
    @property
    def busy(self) -> float:
        """Share of time, 0 to 1, in which the channel was occupied, by us too; what is older than about two
        minutes is forgotten."""
    @property
    def waits_until_us(self) -> dict[str, int]:
        """For each lane, when the longest frame may be sent; not later than now when it may be at once."""

@final
class MeshNode:
    """A node of the LoRa mesh: frames in, frames out; no clock, no radio, no disk of its own.

    Times are microseconds of one monotonic clock. ``address`` 1 to 254, ``network`` 1 to 255, ``network_key``
    16 octets, ``private_key`` and each public key of ``roster`` 32 (X25519). ``hidden_octets``: what the
    module adds to each frame unseen, counted as airtime; ``longest_frame``: octets of the longest it takes;
    ``senses``: it can tell whether the channel is busy, see :meth:`poll`. ``state``: what the last ``keep``
    was. Without it counters begin at ``first_counter`` and numbers of messages at a sixteenth of that, so
    that a node whose state is lost uses none twice: give what grows faster, below 268,435,456. Raises
    :class:`MeshError` that names the argument.
    """

    def __new__(
        cls,
        *,
        address: int,
        network: int,
        network_key: bytes,
        private_key: bytes,
        roster: Mapping[int, bytes],
        region: str = "EU868",
        frequency_hz: int = 869_525_000,
        spreading_factor: int = 9,
        bandwidth_hz: int = 125_000,
        coding_rate: int = 5,
        preamble_symbols: int = 8,
        hidden_octets: int = 0,
        longest_frame: int = 255,
        senses: bool = False,
        seed: int,
        now_us: int,
        state: bytes = ...,
        first_counter: int = 0,
    ) -> MeshNode: ...
    def send(self, destination: int | None, payload: bytes, lane: _MeshLane, now_us: int) -> int:
        """Take a message of 1 to 2,048 octets for one node, or for everybody; its number.

        Without a route it waits half a minute for one and is then flooded; flash is flooded at once. Raises
        :class:`MeshFullError` when too many wait, :class:`MeshError` for an impossible length or destination.
        """
    def receive(self, frame: bytes, rssi_dbm: float, snr_db: float, now_us: int) -> None:
        """Take what the radio heard; what the network's key did not make changes nothing but a count."""
    def sent(self, now_us: int) -> None:
        """Say that the frame of the last poll is off the air."""
    def poll(self, now_us: int, busy: bool = False) -> MeshPoll:
        """Say what is to be done now; call it after every other call, and at ``wake_at_us``.

        ``busy``: the channel is, as a radio knows that ``senses``.
        """
    def set_status(
        self,
        *,
        battery_percent: int | None,
        uplink: bool,
        modem: bool,
        flash_only: bool,
        model: bool = False,
    ) -> None:
        """Say what this node has, for others to hear of; unknown battery counts as full.

        ``flash_only`` is told with the lowest battery only, and then no ``model`` is.
        """
    def tune(self, spreading_factor: int, now_us: int, listen: bool = False) -> None:
        """Go on with another spreading factor, as the radio is set now; not while a frame is on the air.

        Spent airtime stays spent, and what is under way goes on: parts that are too long now are cut again,
        and a message of which some arrived arrives once. With ``listen`` nothing is sent until somebody of
        the network is heard. Raises :class:`MeshError` when the law has no room for a message so; nothing
        has changed then.
        """
    def forget(self, message: int) -> None:
        """Stop sending an own message; nothing happens when there is none."""
    def neighbours(self, now_us: int) -> list[MeshNeighbour]: ...
    def routes(self, now_us: int) -> list[MeshRoute]: ...
    def airtime(self, now_us: int) -> MeshAirtime: ...
    def counters(self) -> dict[str, int]:
        """Frames heard, forged, replayed …, letters relayed, held, sent again; airtime by kind of frame."""

@final
class MeshOutcome:
    """What became of the messages of a run; ``wanted`` and ``reached`` count receivers, not messages."""

    @property
    def messages(self) -> int:
        """Messages that nodes began."""
    @property
    def wanted(self) -> int:
        """Receivers that should have got one, summed over the messages."""
    @property
    def reached(self) -> int:
        """Receivers that did."""
    @property
    def delays_us(self) -> list[int]:
        """Microseconds from beginning to arrival, one for each reached receiver."""
    @property
    def airtime_us(self) -> int:
        """Microseconds on air of all radios."""
    @property
    def airtime_by_kind_us(self) -> dict[str, int]:
        """The same by what the frames were."""
    @property
    def alive_us(self) -> int:
        """Microseconds that the radios lived, summed."""
    @property
    def frames(self) -> int:
        """Frames sent."""
    @property
    def violations(self) -> int:
        """Frames that the law at 869.525 MHz in Europe has something against: a tenth of an hour, 27 dBm."""

@final
class RadioScene:
    """Radios on a simulated LoRa channel: suburban path loss, 6 dB capture, collisions, half duplex.

    ``places_m`` are metres east and north; ``shadow_db`` what stands in the way besides distance, for
    each ordered pair, row by row from the sender. Raises :class:`CoreError` for fewer than two radios.
    """

    def __new__(
        cls,
        places_m: Sequence[tuple[float, float]],
        shadow_db: Sequence[float],
        *,
        power_dbm: float,
        frequency_hz: float,
        sensitivity_dbm: float,
        noise_dbm: float,
        spreading_factor: int,
        bandwidth_hz: int = 125_000,
        coding_rate: int = 5,
        preamble_symbols: int = 8,
        height_m: float = 1.0,
    ) -> RadioScene: ...
    def run(
        self,
        strategy: Literal["flood", "evy", "spread"],
        *,
        octets: int,
        period_s: float,
        seconds: float,
        seed: int,
        unicast: bool = False,
        interference: float = 0.0,
        waits_s: Sequence[Sequence[float]] | None = None,
        duty_per_mille: int | None = None,
        changes: Sequence[tuple[float, int, tuple[float, float] | None]] = ...,
        senses: bool = True,
    ) -> MeshOutcome:
        """A message a node every ``period_s`` on average, for ``seconds``, with the GIL released.

        ``flood`` is Meshtastic's managed flooding, ``evy`` our node with its keys, ``spread`` its way of
        broadcasting without the rest. ``changes``: when, which radio, and where it stands from then on; None
        is its death, and once more its return with what it had on its disk.
        Without ``senses`` radios begin to send whatever is on the channel.

        For the baseline alone: ``interference``, how often something outside the network occupies the
        channel when it is sensed; ``duty_per_mille``, the share of an hour it keeps to. ``waits_s``: each
        node's first waits between messages, instead of drawn ones, each counted from when the last message
        was settled; with drawn ones the times depend on the seed alone. The same arguments give the same
        outcome.
        Raises :class:`CoreError` for a number out of its range.
        """

@final
class RadioChannel:
    """A LoRa channel on which radios outside the core send, in simulated microseconds the caller counts.

    Suburban path loss (3GPP TR 25.996 §5.2) with antennas at ``height_m``, a shadow for each ordered pair,
    6 dB capture within a spreading factor, none between two, half duplex, and a law that only looks on. What
    is heard depends on the spreading factor: noise is -174 dBm/Hz and 6 dB. Frames of another carrier are not
    told apart: who is tuned elsewhere is the caller's to leave out.

    ``places_m`` are metres east and north, one power in dBm for each; ``shadow_db`` row by row from the
    sender. At most 1,000 radios. ``region``: "EU868", "US915" or "none". Raises :class:`CoreError` for
    anything else, here and below, with the limit in its text.
    """

    def __new__(
        cls,
        places_m: Sequence[tuple[float, float]],
        power_dbm: Sequence[float],
        shadow_db: Sequence[float],
        *,
        frequency_hz: float,
        bandwidth_hz: int = 125_000,
        height_m: float = 5.0,
        region: str = "EU868",
    ) -> RadioChannel: ...
    def begin(
        self,
        radio: int,
        frame: bytes,
        now_us: int,
        *,
        frequency_hz: int,
        spreading_factor: int,
        bandwidth_hz: int = 125_000,
        coding_rate: int = 5,
        preamble_symbols: int = 8,
    ) -> tuple[int, int]:
        """A radio begins a frame of 1 to 255 octets; gives the frame's number and the time of its end.

        What the radio was receiving is lost. Raises when it is dead or still sending.
        """
    def advance(self, now_us: int) -> list[Landing]:
        """The frames that ended up to now, in the order of their ends, each once."""
    @property
    def next_end_us(self) -> int | None:
        """When the next frame ends; None while the air is free."""
    @property
    def airtime_us(self) -> list[int]:
        """Microseconds on air of each radio so far, frames that were cut off counted whole."""
    def move_to(self, radio: int, x_m: float, y_m: float) -> None:
        """A radio stands elsewhere from the next frame on."""
    def set_alive(self, radio: int, alive: bool) -> None:
        """A radio dies, in the middle of what it sends and receives, or works again."""
    def set_power(self, radio: int, power_dbm: float) -> None:
        """A radio radiates so much from the next frame on."""
    def set_shadow(self, sender: int, receiver: int, shadow_db: float) -> None:
        """What stands in the way from one radio to another besides distance, this way only."""
    def rssi_dbm(self, sender: int, receiver: int) -> float:
        """Strength at which one hears the other."""
    def sensitivity_dbm(self, spreading_factor: int, bandwidth_hz: int = 125_000) -> float:
        """Weakest signal that is demodulated (SX1276 datasheet, table 13)."""

@final
class Landing:
    """One frame that has left a radio of a :class:`RadioChannel`."""

    @property
    def id(self) -> int:
        """The number :meth:`RadioChannel.begin` gave."""
    @property
    def sender(self) -> int:
        """The radio."""
    @property
    def frame(self) -> bytes:
        """Its octets."""
    @property
    def frequency_hz(self) -> int:
        """The carrier."""
    @property
    def spreading_factor(self) -> int:
        """7 to 12."""
    @property
    def bandwidth_hz(self) -> int:
        """In Hz."""
    @property
    def began_us(self) -> int:
        """When it began."""
    @property
    def ends_us(self) -> int:
        """When it ended."""
    @property
    def receptions(self) -> list[tuple[int, float, float, bool]]:
        """Who was in reach: radio, RSSI in dBm, SNR in dB, and whether it came whole."""
    @property
    def violation(self) -> str | None:
        """What the law has against it, in words with the numbers."""
