"""evy.toml and the node's identity: wrong files are named with the key and the mend."""

from pathlib import Path

import msgspec
import pytest

from actors._runtime.config import load_config
from actors._runtime.identity import load_identity
from subjects.errors import ConfigError


def written(directory: Path, text: str) -> Path:
    path = directory / "evy.toml"
    path.write_text(text)
    return path


def test_no_file_means_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVY_CONFIG", raising=False)
    assert load_config().node.url == "nats://127.0.0.1:4222"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[node]\nnam = "x"', "unknown field `nam`"),
        ('[node]\nname = "Ümläut"', "lower case letters"),
        ("[node]\nnats_port = 'x'", "Expected `int`"),
        ("[node", "evy.toml"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(written(tmp_path, text))


def test_a_table_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "[modem]\ndevice = 'x'"))
    with pytest.raises(ConfigError, match=r"nothing reads table \[modem\]; known tables: node, sms"):
        config.check_sections(frozenset({"node", "sms"}))


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.toml")


def test_identity_is_made_once_kept_private_and_never_replaced(tmp_path: Path) -> None:
    first = load_identity("n1", tmp_path)
    path = tmp_path / "identity.json"
    assert load_identity("n1", tmp_path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(first.sender_ref("+50912345678")) == 20
    other = msgspec.structs.replace(first, secret=b"another")
    assert first.sender_ref("+50912345678") != other.sender_ref("+50912345678")
    path.write_text("{broken")
    with pytest.raises(ConfigError, match="restore it from a backup"):
        load_identity("n1", tmp_path)
