"""``python -m actors.rag`` writes ``vectors.npz`` anew; run it when articles or phrases have changed."""

from actors.knowledge import Texts
from actors.rag import shipped, store


def main() -> None:
    """Vectors of every article and phrase that EVY ships."""
    articles, phrases = Texts.load().articles(), store.read_phrases()
    asked = [*store.asked_of(articles, phrases), *phrases.decoys()]
    shipped.write(asked, [store.answering(article) for article in articles])
    print(f"{shipped.FILE}: {len(asked)} questions, {len(articles)} articles")


if __name__ == "__main__":
    main()
