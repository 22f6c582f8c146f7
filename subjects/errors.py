"""Errors that decide what happens to a message: retry later, or dead-letter with a reason."""


class EvyError(Exception):
    """Base of every error EVY raises on purpose; its text names the cause and the fix."""


class ConfigError(EvyError):
    """A setting, file or part is missing or wrong; the text says which and how to mend it."""


class RetryLaterError(EvyError):
    """A transient failure: the message goes back to the stream.

    ``delay_s`` is the wait before the next delivery; None takes the registry's backoff.
    """

    def __init__(self, reason: str, delay_s: float | None = None) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


class RefusedError(EvyError):
    """The message can never be handled: it is dead-lettered at once with this reason."""


class MessageError(RefusedError):
    """The bytes on a subject are not the message the registry promises."""

    def __init__(self, expected: str, reason: str, octets: int) -> None:
        super().__init__(f"not a {expected} ({octets} octets): {reason}")
        self.expected = expected
        self.octets = octets


class SchemaVersionError(MessageError):
    """The message was written by a newer EVY than this one."""

    def __init__(self, expected: str, version: int, known: int, octets: int) -> None:
        super().__init__(expected, f"schema version {version}, this node reads up to {known}", octets)
        self.version = version
        self.known = known
