"""`evy knowledge import`, `sources`, `search --global`, `withdraw`, as an operator types them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from actors._cli import evy
from subjects.errors import ConfigError

IMPORTS = Path(__file__).parents[1] / "vectors" / "imports"
TERMS = ("--source", "Valley Law", "--licence", "CC0-1.0", "--date", "2026-11-01")


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose data directory is the module's, with one source."""
    folder = tmp_path_factory.mktemp("centre")
    config = folder / "evy.toml"
    config.write_text(f'[node]\ndata_dir = "{folder / "data"}"\n', encoding="utf-8")
    result = evy_knowledge(config, "import", "legal", IMPORTS / "legal", *TERMS)
    assert result.exit_code == 0, result.output
    return config


def evy_knowledge(config: Path, *args: object) -> Result:
    return CliRunner().invoke(evy, ["--config", str(config), "knowledge", *map(str, args)])


def test_a_second_run_says_that_it_is_there(centre: Path) -> None:
    result = evy_knowledge(centre, "import", "legal", IMPORTS / "legal", *TERMS)
    assert "refused: act.xml, Article 2 Repealed: no text" in result.output
    assert "in the library already, nothing was done" in result.output
    assert "2 documents, 3 passages" in result.output
    again = json.loads(evy_knowledge(centre, "import", "legal", IMPORTS / "legal", *TERMS, "--json").stdout)
    assert (again["changed"], again["number"], again["state"]["refused"]) == (False, 1, 1)


def test_sources_say_how_much_of_when_and_under_what(centre: Path) -> None:
    shown = evy_knowledge(centre, "sources").output
    for part in ("Valley Law", "legal", "CC0-1.0", "2021-04-01", "2026-11-01", "3 passages, sources: 1"):
        assert part in shown
    [record] = map(json.loads, evy_knowledge(centre, "sources", "--json").stdout.splitlines())
    assert (record["name"], record["state"]["passages"]) == ("valley-law", 3)
    assert record["octets"] > 0


def test_a_search_shows_source_licence_and_date(centre: Path) -> None:
    result = evy_knowledge(centre, "search", "--global", "who", "owns", "the", "springs")
    assert "Springs and streams belong to the community" in result.output
    assert "Valley Law, 2026-11-01, CC0-1.0" in result.output
    found = evy_knowledge(centre, "search", "--global", "--json", "--since", "2026-01-01", "firewood").stdout
    assert {json.loads(line)["date"] for line in found.splitlines()} == {"2026-11-01"}
    nothing = evy_knowledge(centre, "search", "--global", "--category", "news", "firewood")
    assert "nothing: no letters, no source that fits" in nothing.output


def test_what_cannot_be_is_said_in_one_line(centre: Path, tmp_path: Path) -> None:
    archive = tmp_path / "laws.zip"
    archive.write_bytes(b"PK\x03\x04")
    for args, reason in (
        (("import", "legal", archive, *TERMS), "legal reads text with"),
        (("import", "legal", tmp_path, *TERMS), "no file of kind legal"),
        (("import", "legal", IMPORTS / "legal", *TERMS[:2], "--licence", "unknown"), "names none"),
        (
            ("import", "legal", IMPORTS / "legal" / "act.txt", "--source", "A", "--licence", "X"),
            "names no date",
        ),
        (("search", "--category", "news", "firewood"), "need --global"),
        (("withdraw", "Nobody"), "no source nobody; there are: valley-law"),
    ):
        result = evy_knowledge(centre, *args)
        assert result.exit_code != 0
        assert isinstance(result.exception, ConfigError)
        assert reason in str(result.exception)


def test_a_server_that_is_away_is_said_and_what_was_read_is_kept(centre: Path, tmp_path: Path) -> None:
    config = tmp_path / "evy.toml"
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[infer_large]\nqdrant_url = "http://127.0.0.1:9"\n'
    )
    result = evy_knowledge(config, "import", "legal", IMPORTS / "legal" / "act.txt", *TERMS)
    assert result.exit_code != 0
    assert "Qdrant at http://127.0.0.1:9" in str(result.exception)
    assert "3 passages" not in result.output
    assert (tmp_path / "data" / "library" / "valley-law.1" / "volume.json").exists()


def test_a_source_is_withdrawn(tmp_path: Path) -> None:
    config = tmp_path / "evy.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n', encoding="utf-8")
    assert "no sources yet" in evy_knowledge(config, "sources").output
    evy_knowledge(config, "import", "legal", IMPORTS / "legal" / "act.txt", *TERMS)
    assert "valley-law: withdrawn" in evy_knowledge(config, "withdraw", "Valley Law").output
    assert "no sources yet" in evy_knowledge(config, "sources").output
