"""``python -m actors._retrieval`` renews ``vectors.npz``; run it when articles or phrases have changed."""

from actors._retrieval import shipped
from actors._retrieval.phrases import answering, asked_of, read_phrases
from actors.knowledge import Texts


def main() -> None:
    """Vectors of every article and phrase that EVY ships."""
    articles, phrases = Texts.load().articles(), read_phrases()
    asked = [*asked_of(articles, phrases), *phrases.decoys()]
    shipped.write(asked, [answering(article) for article in articles])
    print(f"{shipped.FILE}: {len(asked)} questions, {len(articles)} articles")


if __name__ == "__main__":
    main()
