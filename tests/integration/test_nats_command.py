"""`evy nats`, in the order in which people use it, and out of it."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from actors._cli import evy
from actors._cli.node import server_child
from actors._runtime.claims import read_claims
from actors._runtime.config import load_config
from actors._runtime.server_files import load_bundle, settings
from subjects.errors import ConfigError
from tests.conftest import free_port
from tests.linked import Machine


class Desk:
    """One machine: its `evy.toml`, its data, and the command line on it."""

    def __init__(self, directory: Path, profile: str = "lilevy", name: str = "") -> None:
        directory.mkdir()
        self.directory = directory
        self.port = free_port()
        self.toml = directory / "evy.toml"
        named = f'name = "{name}"' if name else ""
        self.toml.write_text(
            f'[node]\nprofile = "{profile}"\n{named}\ndata_dir = "{directory}/data"\n'
            f"nats_port = {self.port}\n"
        )

    def evy(self, *arguments: str | Path) -> Result:
        """Runs a command; an error of ours is raised."""
        done = CliRunner().invoke(evy, ["--config", str(self.toml), "nats", *map(str, arguments)])
        if isinstance(done.exception, Exception):
            raise done.exception
        return done

    @property
    def server(self) -> Path:
        return self.directory / "data" / "server"

    def files(self) -> dict[str, bytes]:
        data = self.directory / "data"
        return {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}

    @contextmanager
    def running(self) -> Iterator[Machine]:
        """Its server, as `evy up` starts it."""
        child = server_child(load_config(self.toml))
        assert child
        machine = Machine(Path(child.command[2]), self.port)
        machine.environment = child.environment
        machine.start()
        try:
            yield machine
        finally:
            machine.stop()


@pytest.fixture
def centre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A centre with keys; the current directory is where bundles go."""
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path / "centre", "bigevy")
    desk.evy("init", "--hosts", "127.0.0.1", "--leaf-port", str(free_port()), "--listen", "127.0.0.1")
    return desk


def test_init_again_changes_nothing_and_force_keeps_every_key(centre: Desk) -> None:
    before = centre.files()
    port = str(settings(centre.server).bundle.hub.server.leaf_port)  # type: ignore[union-attr]
    same = ("init", "--hosts", "127.0.0.1", "--leaf-port", port, "--listen", "127.0.0.1")
    assert "nothing changed" in centre.evy(*same).output
    assert "nothing changed" in centre.evy("init").output
    assert centre.files() == before
    with pytest.raises(ConfigError, match="--force gives it these addresses"):
        centre.evy("init", "--hosts", "centre.example.org")
    assert centre.files() == before
    centre.evy("init", "--hosts", "centre.example.org", "--force")
    after = centre.files()
    assert [
        name for name in before if name.endswith((".nk", "ca.key", "ca.pem")) and before[name] != after[name]
    ] == []
    assert before["server/server.pem"] != after["server/server.pem"]


def test_secrets_are_for_their_owner_only(centre: Desk) -> None:
    centre.evy("enrol", "e1")
    files = [path for path in (centre.directory / "data").rglob("*") if path.is_file()]
    for path in [*files, Path("e1.bundle")]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    keys = centre.directory / "data" / "keys"
    handed_out = b"".join(
        path.read_bytes() for path in [*centre.server.iterdir(), Path("e1.bundle")] if path.is_file()
    )
    for name in ("operator.nk", "account.nk", "system.nk", "tools.nk", "ca.key"):
        assert (keys / name).read_bytes().strip() not in handed_out  # servers and edges run without them


@pytest.mark.nats
def test_enrol_join_revoke(centre: Desk, tmp_path: Path) -> None:
    assert centre.evy("enrol", "e1").exit_code == 3  # the bundle is there, the streams are not
    edge = Desk(tmp_path / "edge", name="e1")
    edge.evy("join", "e1.bundle")
    assert load_config(edge.toml).node.centre
    with centre.running(), edge.running() as machine:
        done = centre.evy("enrol", "e1")
        assert done.exit_code == 0
        assert "the streams of e1 are there" in done.output
        assert "nothing changed" in edge.evy("join", "e1.bundle").output
        with pytest.raises(ConfigError, match=r"e1\.bundle exists and is kept"):
            centre.evy("enrol", "e1", "--again")
        assert "told hub1" in centre.evy("enrol", "e1", "--again", "-o", "new.bundle").output
        assert load_bundle(Path("new.bundle")).edge != load_bundle(Path("e1.bundle")).edge
        with pytest.raises(ConfigError, match="is enrolled as e1; --force"):
            edge.evy("join", "new.bundle")
        edge.evy("join", "new.bundle", "--force")
        assert list(edge.server.glob("bundle.json.until-*"))
        assert "told hub1" in centre.evy("revoke", "e1", "--purge").output
        assert "revoked before" in centre.evy("revoke", "e1").output
        assert centre.evy("list").output.count("revoked e1") == 2
        hub = settings(centre.server).bundle.hub  # type: ignore[union-attr]
        tokens = hub.accounts.values()  # type: ignore[union-attr]
        revoked = [read_claims(token)["nats"].get("revocations") for token in tokens]
        assert len(next(filter(None, revoked))) == 2  # also for a server that starts with nothing else
        assert machine.process
        assert machine.process.poll() is None  # the edge goes on alone


def test_a_centre_of_three_is_three_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path / "first", "bigevy")
    names = [f"--server=hub{n}=10.0.0.{n}" for n in (1, 2, 3)]
    desk.evy("init", *names, "--port", str(desk.port))
    desk.evy("join", "hub2.bundle")
    installed = settings(desk.server)
    assert installed
    assert installed.bundle.hub
    assert installed.bundle.hub.routes == tuple(f"tls://10.0.0.{n}:6222" for n in (1, 2, 3))
    assert load_config(desk.toml).node.replicas == 3
    assert "hub1.bundle is there and stays" in desk.evy("init").output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("enrol", "hub"), "is the centre's, and the centre's only"),
        (("enrol", "E 1"), "use lower case letters"),
        (("revoke", "e9"), "e9 is not enrolled; enrolled: none"),
        (("join", "nowhere.bundle"), "`evy nats enrol` at the centre makes it"),
        (("join", "evy.bundle"), "is no bundle"),
    ],
)
def test_what_is_wrong_is_said(centre: Desk, arguments: tuple[str, ...], reason: str) -> None:
    Path("evy.bundle").write_text('{"version": 7}')
    with pytest.raises((ConfigError, ValueError), match=reason):
        centre.evy(*arguments)


def test_without_keys_the_error_says_where_they_come_from(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "bare", "bigevy")
    with pytest.raises(ConfigError, match="evy nats init --profile bigevy"):
        desk.evy("enrol", "e1")
    with pytest.raises(ConfigError, match="--hosts ADDRESS"):
        desk.evy("init")
    with pytest.raises(ConfigError, match="evy nats init --profile bigevy"):
        server_child(load_config(desk.toml))
    assert "one server or three" in desk.evy("init", "--server=a=1.1.1.1", "--server=b=1.1.1.2").output


def test_evy_up_refuses_what_was_made_for_another_node(centre: Desk) -> None:
    centre.toml.write_text(centre.toml.read_text().replace(f"= {centre.port}", f"= {free_port()}"))
    with pytest.raises(ConfigError, match=f"was made for {centre.port}"):
        server_child(load_config(centre.toml))


def test_the_store_key_is_made_once_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "edge", name="e1")
    key = tmp_path / "stick" / "evy.key"
    desk.evy("init", "--store-key", key)
    right = key.read_text()
    assert "nothing changed" in desk.evy("init").output  # without naming the key again
    assert right.split("=")[1].strip() not in "".join(
        path.read_text() for path in desk.server.iterdir() if path.is_file()
    )
    key.write_text(right.replace("=k", "=k0")[:-2] + "\n")
    with pytest.raises(ConfigError, match=r"is not the one that .* is encrypted with"):
        server_child(load_config(desk.toml))
    key.unlink()
    with pytest.raises(ConfigError, match="plug in or mount what holds it"):
        server_child(load_config(desk.toml))
    with pytest.raises(ConfigError, match="bring that one"):
        desk.evy("init", "--store-key", tmp_path / "other.key")
