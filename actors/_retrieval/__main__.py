"""``python -m actors._retrieval`` renews ``vectors.npz``; run it when articles or phrases have changed.

Only what is missing is computed (``--all``: everything), and what nobody needs any more goes.
"""

import sys
from collections.abc import Sequence

from actors._retrieval.phrases import answering, asked_of, read_phrases
from actors._retrieval.shipped import FILE, Known
from actors.knowledge import Texts


def main(arguments: Sequence[str]) -> None:
    """Vectors of every article and phrase that EVY ships."""
    articles, phrases = Texts.load().articles(), read_phrases()
    asked = [*asked_of(articles, phrases), *phrases.decoys()]
    answers = [answering(article) for article in articles]
    known = Known() if "--all" in arguments else Known(FILE)
    computed = known.learn(asked, asked=True) + known.learn(answers, asked=False)
    kept = known.write(FILE, asked, answers)
    print(f"{FILE}: {kept} vectors, {computed} of them new, {FILE.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
