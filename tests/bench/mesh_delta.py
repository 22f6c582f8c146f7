"""What new texts cost on the air: `python -m tests.bench.mesh_delta` prints the table of docs/mesh.md, M58.

The texts are those that EVY ships, some of them held back: what changes is taken from these, so that nothing
of it is in what a node already has.
"""

import random
import re
from collections.abc import Callable
from statistics import fmean

from evy_core import time_on_air_us

from actors._bundles.delta import Standing, write
from actors._bundles.manifest import Manifest, Part, bare
from actors._bundles.pack import read_tree, tree_hash
from actors.knowledge import SHIPPED

RUNS = 5
FRAME, HIDDEN = 217, 11
PIECE = 3 * FRAME - 4 - 9
_ARTICLE = re.compile(rb"\n(?=\[\[article\]\])")
_TEXT = re.compile(rb'(?m)^text = "(.*)"$')

Tree = dict[str, bytes]


def shipped() -> Tree:
    """All articles, as a centre would bundle them."""
    return {name: content for name, content in read_tree(SHIPPED).items() if name.startswith("articles/")}


def without(tree: Tree, chance: random.Random, count: int) -> tuple[Tree, list[tuple[str, bytes]]]:
    """The tree without some articles, and those."""
    every = [(name, article) for name in tree for article in _ARTICLE.split(tree[name])[1:]]
    held = chance.sample(every, count)
    less = dict(tree)
    for name, article in held:
        less[name] = less[name].replace(b"\n" + article, b"", 1)
    return less, held


def added(chance: random.Random, tree: Tree, count: int) -> tuple[Tree, Tree]:
    """Before and after so many articles are new."""
    base, held = without(tree, chance, count)
    new = dict(base)
    for name, article in held:
        new[name] += b"\n" + article
    return base, new


def changed(chance: random.Random, tree: Tree, count: int) -> tuple[Tree, Tree]:
    """Before and after the words of so many articles are others: those of an article in the same language."""
    base, held = without(tree, chance, count)
    new = dict(base)
    for name, article in held:
        words = _TEXT.search(article)
        places = [match.span(1) for match in _TEXT.finditer(new[name])]
        if words and places:
            begin, end = chance.choice(places)
            new[name] = new[name][:begin] + words[1] + new[name][end:]
    return base, new


def sentence(chance: random.Random, tree: Tree, count: int) -> tuple[Tree, Tree]:
    """Before and after one sentence of so many articles is another one."""
    base, held = without(tree, chance, count)
    new = dict(base)
    for name, article in held:
        words = _TEXT.search(article)
        places = [match.span(1) for match in _TEXT.finditer(new[name])]
        if words and places:
            begin, end = chance.choice(places)
            last = new[name].rfind(b". ", begin, end) + 2
            new[name] = new[name][: max(last, begin)] + words[1].split(b". ")[-1] + new[name][end:]
    return base, new


def octets(base: Tree, new: Tree) -> int:
    """Of the delta."""

    def standing(number: int, tree: Tree) -> Standing:
        part = Part("", tree_hash(tree), len(tree), sum(map(len, tree.values())), ())
        manifest = Manifest(number, 0, 1.795e9 + number * 86_400.25, "", (part,))
        return Standing(bare(manifest), {"": tree})

    return len(write(standing(6, base), standing(7, new), random.Random(0).randbytes(64)))


def airtime_s(delta: int, spreading_factor: int) -> float:
    """One hop: who has it tells, the other asks, pieces come and are confirmed."""

    def frame_s(body: int) -> float:
        return time_on_air_us(body + 18 + HIDDEN, spreading_factor=spreading_factor) / 1e6

    total_s = frame_s(13) + frame_s(16 + 4) + frame_s(4)
    for at in range(0, delta, PIECE):
        left = min(PIECE, delta - at) + 9 + 4
        parts = -(-left // FRAME)
        total_s += parts * frame_s(-(-left // parts) + 2 * (parts > 1)) + frame_s(4)
    return total_s


def main() -> None:
    """Prints the table."""
    tree = shipped()
    print(f"of {len(tree)} files with {sum(map(len, tree.values()))} octets; means of {RUNS}")
    kinds: dict[str, Callable[[random.Random, Tree, int], tuple[Tree, Tree]]] = {
        "a sentence of": sentence,
        "all words of": changed,
        "new": added,
    }
    print("| articles | octets | air at SF9 | at SF11 |\n|---|---|---|---|")
    for kind, make in kinds.items():
        for count in (1, 5, 20):
            sizes = [octets(*make(random.Random(run), tree, count)) for run in range(RUNS)]
            air = [fmean(airtime_s(size, factor) for size in sizes) for factor in (9, 11)]
            print(f"| {kind} {count} | {fmean(sizes):,.0f} | {air[0]:.1f} s | {air[1]:.1f} s |")


if __name__ == "__main__":
    main()
