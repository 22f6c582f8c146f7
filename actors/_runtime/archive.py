"""The file of a backup: a compressed tar with a header first and the checksums of everything last, in an
age envelope (https://age-encryption.org/v1) unless it was asked for in the clear.

Entries: ``header.json``, ``files/PATH`` below the data directory, ``named/PATH`` of files that `evy.toml`
names elsewhere, ``config/evy.toml``, ``streams/NAME.json`` and ``streams/NAME/NUMBER``, ``manifest.json``.
Written beside its name and renamed when all of it is on the disk and was read back.
"""

import contextlib
import gzip
import hashlib
import io
import os
import re
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO, Final, Literal, NoReturn, Protocol, Self

import msgspec
import pyrage

from subjects.errors import EvyError
from subjects.registry import Profile

FORMAT: Final = 1
AGE: Final = b"age-encryption.org/v1"
_GZIP: Final = b"\x1f\x8b"
_READ_OCTETS: Final = 1024 * 1024
MAX_ENTRY_OCTETS: Final = 4 * 1024 * 1024 * 1024
"""A larger entry is not ours: the event store stays under 2 GB."""
_TOP: Final = frozenset({"files", "named", "config", "streams"})


class ArchiveError(EvyError):
    """This file is no backup that can be restored here; the text says what is wrong with it."""


class Header(msgspec.Struct, frozen=True):
    """What a backup says of itself first."""

    format: int
    evy: str
    node: str
    profile: Profile
    made_at: float
    data_dir: str
    config_path: str = ""
    running: bool = True
    """The node went on working afterwards: what waited then may have been answered since."""


class Checked(msgspec.Struct, frozen=True):
    """Size and SHA-256 of an entry."""

    octets: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says last: everything that is in it."""

    entries: dict[str, Checked]
    streams: dict[str, int] = {}
    """Messages of each stream."""
    queues: dict[str, int] = {}
    """Of those, the streams of work that waited."""
    left_out: tuple[str, ...] = ()
    """Files that were too large, or could not be read."""


def recipient(text: str) -> Any:
    """Whom a backup is for, from an age or SSH public key. Raises :class:`ArchiveError`."""
    kind: Any = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise ArchiveError(
            f"{text[:40]!r} is no age or SSH public key ({error}); --new-key makes one"
        ) from error


def identity(text: str) -> Any:
    """Who may open it, from the secret part. Raises :class:`ArchiveError`."""
    try:
        if "PRIVATE KEY" in text:
            return pyrage.ssh.Identity.from_buffer(text.encode())
        [line] = [line for line in text.split("\n") if line.startswith("AGE-SECRET-KEY-")]
        return pyrage.x25519.Identity.from_str(line.strip())
    except (pyrage.IdentityError, ValueError) as error:
        raise ArchiveError(f"the key file holds no age or SSH secret key ({error})") from error


class _Through:
    """A pipe to a thread that encrypts, or from one that decrypts, so that nothing lies in between."""

    def __init__(self, work: Callable[[BinaryIO], None], mode: Literal["rb", "wb"]) -> None:
        reading, writing = os.pipe()
        ours, theirs = (reading, writing) if mode == "rb" else (writing, reading)
        self.file: BinaryIO = os.fdopen(ours, mode)
        self._far: BinaryIO = os.fdopen(theirs, "wb" if mode == "rb" else "rb")
        self._error: Exception | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work(self._far)
        except Exception as error:  # noqa: BLE001  # handed to who waits in close()
            self._error = error
        finally:
            with contextlib.suppress(OSError):
                self._far.close()

    def close(self) -> None:
        """Ends it; raises what went wrong on the other side."""
        with contextlib.suppress(BrokenPipeError):
            self.file.close()
        self._thread.join()
        if self._error and not isinstance(self._error, BrokenPipeError):
            raise self._error


class Writer:
    """Writes a backup; a context that leaves either a whole file or none."""

    def __init__(self, path: Path, header: Header, recipients: Sequence[Any]) -> None:
        """Raises FileExistsError when the file is there: a backup never replaces another."""
        if path.exists():
            raise FileExistsError(f"{path} exists")
        self._path = path
        self._draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._entries: dict[str, Checked] = {}
        self.streams: dict[str, int] = {}
        self.queues: dict[str, int] = {}
        self.left_out: list[str] = []
        self._file = os.fdopen(os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")
        self._written = _Written(self._file)
        self._envelope: _Through | None = None
        if recipients:
            self._envelope = _Through(lambda near: pyrage.encrypt_io(near, self._written, recipients), "wb")
        target: Any = self._envelope.file if self._envelope else self._written
        self._gzip = gzip.GzipFile(fileobj=target, mode="wb", compresslevel=3, mtime=0)
        self._tar = tarfile.TarFile(fileobj=self._gzip, mode="w", format=tarfile.PAX_FORMAT)
        self.add_octets("header.json", msgspec.json.encode(header))

    def add_octets(self, name: str, octets: bytes) -> None:
        """Adds an entry that is in memory."""
        self.add(name, io.BytesIO(octets), len(octets))

    def add(self, name: str, source: BinaryIO, size: int) -> None:
        """Adds an entry of ``size`` octets."""
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, 0o600
        hashed = _Hashed(source)
        self._tar.addfile(entry, hashed)
        self._entries[name] = Checked(size, hashed.sha256.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            elif isinstance(error, OSError):
                self._explain(error)
        except OSError as failed:
            self._explain(failed)
        finally:
            self._gzip.fileobj = None  # type: ignore[assignment]  # or it would try to write its end some time later
            with contextlib.suppress(Exception):
                if self._envelope:
                    self._envelope.close()
            with contextlib.suppress(OSError):
                self._file.close()
            self._draft.unlink(missing_ok=True)

    def _explain(self, error: OSError) -> NoReturn:
        """Says why nothing was written; through an envelope only its far side knows."""
        reason: Exception = error
        if self._envelope and isinstance(error, BrokenPipeError):
            try:
                self._envelope.close()
            except Exception as far:  # noqa: BLE001  # whatever it was, it is the reason
                reason = far
        said = getattr(reason, "strerror", None) or str(reason).removeprefix("OSError: ")
        raise ArchiveError(f"{self._path} cannot be written: {said}; nothing is left of it") from error

    def _finish(self) -> None:
        manifest = Manifest(self._entries, self.streams, self.queues, tuple(self.left_out))
        self.add_octets("manifest.json", msgspec.json.encode(manifest))
        self._tar.close()
        self._gzip.close()
        if self._envelope:
            try:
                self._envelope.close()
            except (pyrage.EncryptError, ValueError) as error:
                raise OSError(str(error)) from error
        self._file.flush()
        os.fsync(self._file.fileno())
        os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # off the disk, not out of memory
        self._file.seek(0)
        if hashlib.file_digest(self._file, "sha256").digest() != self._written.sha256.digest():
            raise OSError("what is on the disk is not what was written: the medium is failing")
        self._draft.rename(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


class _Written:
    """A file and the checksum of what went into it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, octets: bytes) -> int:
        written = self._file.write(octets)
        self.sha256.update(octets)
        return written

    def flush(self) -> None:
        self._file.flush()


class Octets(Protocol):
    """What an entry is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """The next octets, none at the end."""


class _Hashed:
    def __init__(self, source: Octets) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        octets = self._source.read(size)
        self.sha256.update(octets)
        return octets


Visit = Callable[[str, Octets], None]
"""Takes the name of an entry and its octets."""


def read(path: Path, visit: Visit, identities: Sequence[Any] = ()) -> tuple[Header, Manifest]:
    """Goes through a backup and checks all of it. What ``visit`` does not read is read over.

    Raises :class:`ArchiveError` that names the fault: not a backup, truncated, damaged, encrypted for another
    key, written by a newer EVY. ``visit`` sees entries before the end was checked.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(AGE))
            file.seek(0)
            if start.startswith(_GZIP):
                return _read_tar(path, file, visit)
            if start != AGE:
                raise ArchiveError(f"{path} is no backup of `evy backup`")
            return _read_envelope(path, file, visit, identities)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise ArchiveError(f"{path} is damaged: {error}") from error
        raise ArchiveError(f"{path}: {error.strerror or error}") from error


def _read_envelope(
    path: Path, file: BinaryIO, visit: Visit, identities: Sequence[Any]
) -> tuple[Header, Manifest]:
    if not identities:
        raise ArchiveError(f"{path} is encrypted: name the file with its secret key, --key FILE")

    def decrypt(target: BinaryIO) -> None:
        pyrage.decrypt_io(file, target, identities)

    envelope = _Through(decrypt, "rb")
    failed: ArchiveError | None = None
    try:
        found = _read_tar(path, envelope.file, visit)
        while envelope.file.read(_READ_OCTETS):  # up to the end that the envelope vouches for
            pass
    except ArchiveError as error:
        failed = error
    try:
        envelope.close()
    except Exception as error:
        raise ArchiveError(
            f"{path} cannot be decrypted: another key, damaged or truncated ({error})"
        ) from error
    if failed:
        raise failed
    return found


def _read_tar(path: Path, file: BinaryIO, visit: Visit) -> tuple[Header, Manifest]:
    walk = _Walk(path, visit)
    try:
        forward: Any = _Forward(gzip.GzipFile(fileobj=file))
        with tarfile.TarFile(fileobj=forward) as tar:
            for entry in tar:
                walk.take(tar, entry)
            while forward.read(_READ_OCTETS):  # up to the checksum at its end
                pass
    except (EOFError, tarfile.ReadError) as error:
        raise ArchiveError(f"{path} is truncated: {error}") from error
    except (zlib.error, gzip.BadGzipFile, tarfile.TarError, msgspec.DecodeError) as error:
        raise ArchiveError(f"{path} is damaged: {error}") from error
    return walk.result()


class _Walk:
    """What was met so far on the way through a tar."""

    def __init__(self, path: Path, visit: Visit) -> None:
        self._path = path
        self._visit = visit
        self._header: Header | None = None
        self._manifest: Manifest | None = None
        self._found: dict[str, Checked] = {}

    def take(self, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        """The next entry."""
        source = tar.extractfile(entry) if entry.isreg() and entry.size <= MAX_ENTRY_OCTETS else None
        if source is None or self._manifest is not None or entry.name in self._found:
            raise ArchiveError(f"{self._path} has an entry that does not belong there: {entry.name!r}")
        hashed = _Hashed(source)
        if self._header is None:
            self._header = _header(self._path, entry.name, hashed.read())
        elif entry.name == "manifest.json":
            self._manifest = msgspec.json.decode(hashed.read(), type=Manifest)
            return
        else:
            _checked_name(self._path, entry.name)
            self._visit(entry.name, hashed)
        while hashed.read(_READ_OCTETS):
            pass
        self._found[entry.name] = Checked(entry.size, hashed.sha256.hexdigest())

    def result(self) -> tuple[Header, Manifest]:
        """Header and manifest, after everything was held against the latter."""
        if self._header is None or self._manifest is None:
            raise ArchiveError(f"{self._path} is truncated: its end, the list of its entries, is missing")
        for name, checked in self._manifest.entries.items():
            if self._found.pop(name, None) != checked:
                raise ArchiveError(f"{self._path} is damaged: {name} is not what was written")
        if self._found:
            listed = ", ".join(sorted(self._found))
            raise ArchiveError(f"{self._path} has entries that were not written by EVY: {listed}")
        return self._header, self._manifest


class _Forward:
    """A file that is only read on, for `tarfile`: it would look back for what it knows."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        return self._source.read(size)

    def tell(self) -> int:
        return self._source.tell()

    def seek(self, place: int) -> int:
        return self._source.seek(place)


def _header(path: Path, name: str, octets: bytes) -> Header:
    if name != "header.json":
        raise ArchiveError(f"{path} is no backup of `evy backup`")
    found = msgspec.json.decode(octets, type=_Version)
    if found.format > FORMAT:
        raise ArchiveError(
            f"{path} was written by a newer EVY ({found.evy}, format {found.format}; this one reads up to "
            f"{FORMAT}): restore it with that one"
        )
    return msgspec.json.decode(octets, type=Header)


class _Version(msgspec.Struct):
    format: int
    evy: str = ""


def _checked_name(path: Path, name: str) -> None:
    """Refuses a name that would leave the place where its kind belongs."""
    parts = PurePosixPath(name).parts
    plain = not re.search(r"[\x00-\x1f\\]", name) and ".." not in parts and "//" not in name
    if not plain or len(parts) < 2 or parts[0] not in _TOP:
        raise ArchiveError(f"{path} has an entry that does not belong there: {name!r}")


def _over(_name: str, _source: Octets) -> None:
    """Reads over an entry."""


def verify(path: Path, identities: Sequence[Any] = ()) -> tuple[Header, Manifest]:
    """Reads all of a backup without doing anything with it. Raises :class:`ArchiveError`."""
    return read(path, _over, identities)


def entries(names: Sequence[str], top: str) -> Iterator[str]:
    """Names below one of the places, without it."""
    return (name.removeprefix(f"{top}/") for name in names if name.startswith(f"{top}/"))
