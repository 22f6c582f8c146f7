"""Who is in a mesh: files carried by stick or sync, and what they refuse."""

import asyncio
import json
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from actors._bundles.check import of_mesh
from actors._bundles.pack import read_tree
from actors._bundles.renew import stamp, until_renewed
from actors._cli import evy as command
from actors._cli.backup import files_of
from actors._roster.installed import NotJoinedError, join, open_network
from actors._roster.network import MAX_FILE_OCTETS, MeshFile, Network, public_of, read_file
from actors._roster.operator import HIDDEN_OCTETS, Operator
from actors._roster.operator import LONGEST_FRAME as OPERATORS_LONGEST
from actors.mesh.masking import masked_octets
from actors.mesh.radio import LONGEST_FRAME
from subjects.errors import ConfigError


def operator(path: Path, name: str = "valley") -> Operator:
    return Operator.create(path, name, region="EU868", frequency_hz=869_525_000, spreading_factor=9)


def test_members_open_the_same_network_and_their_own_keys(tmp_path: Path) -> None:
    made = operator(tmp_path / "keys")
    files = {name: made.enrol(name) for name in ("n1", "n2", "n3")}
    for name, file in files.items():
        join(tmp_path / name, name, file)
    for name in ("n1", "n2"):  # they joined with files that are older than n3
        join(tmp_path / name, name, made.file)
    found = {name: open_network(tmp_path / name) for name in files}
    assert [each.address for each in found.values()] == [1, 2, 3]
    assert len({each.network_key for each in found.values()}) == 1
    assert len({each.private_key for each in found.values()}) == 3
    for each in found.values():
        assert each.members[each.address].public_key == public_of(each.private_key)
        assert sorted(each.roster) == [address for address in (1, 2, 3) if address != each.address]
        assert each.names == {1: "n1", 2: "n2", 3: "n3"}
        assert (each.region, each.frequency_hz, each.spreading_factor) == ("EU868", 869_525_000, 9)
        assert each.address_of("n3") == 3
        assert each.address_of("elsewhere") is None


def test_private_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    made = operator(tmp_path / "keys")
    file = made.enrol("n1")
    join(tmp_path / "n1", "n1", file)
    for path in (tmp_path / "keys" / "operator.json", tmp_path / "n1" / "mesh" / "joined.mesh"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    kept = (tmp_path / "keys" / "operator.json").read_text()
    roster = made.file.text()
    own = json.loads(file.text())["private_key"]
    network_key = json.loads(kept)["network_key"]
    assert own not in kept
    assert own not in roster
    assert network_key in kept
    assert network_key not in roster


def test_the_same_file_again_keeps_the_counters(tmp_path: Path) -> None:
    made = operator(tmp_path / "keys")
    file = made.enrol("n1")
    folder = join(tmp_path, "n1", file).folder
    assert (folder / "fresh").exists()
    (folder / "fresh").unlink()
    (folder / "state").write_bytes(b"counted")
    made.enrol("n2")
    for again in (file, made.file, made.file):
        join(tmp_path, "n1", again)
        assert (folder / "state").read_bytes() == b"counted"
        assert not (folder / "fresh").exists()
    assert open_network(tmp_path).names == {1: "n1", 2: "n2"}

    renewed = made.enrol("n1", again=True)
    assert join(tmp_path, "n1", renewed).address == 3  # never the former one: its counter begins anew
    assert not (folder / "state").exists()
    assert (folder / "fresh").exists()


def test_a_backup_takes_the_keys_and_never_the_counters(tmp_path: Path) -> None:
    folder = join(tmp_path, "n1", operator(tmp_path / "elsewhere").enrol("n1")).folder
    (folder / "state").write_bytes(b"counted")
    taken = {path.relative_to(tmp_path).as_posix() for path in files_of(tmp_path)}
    assert "mesh/joined.mesh" in taken
    assert not taken & {"mesh/state", "mesh/fresh"}


def test_a_revoked_node_cannot_open_what_comes_after(tmp_path: Path) -> None:
    made = operator(tmp_path / "keys")
    for name in ("n1", "lost"):
        join(tmp_path / name, name, made.enrol(name))
    join(tmp_path / "n1", "n1", made.file)
    before = open_network(tmp_path / "n1").network_key
    made.revoke("lost")
    after = join(tmp_path / "n1", "n1", made.file)
    assert after.network_key != before
    assert list(after.members) == [1]
    with pytest.raises(ConfigError, match=r"no member of valley any more.*enrol lost --again"):
        join(tmp_path / "lost", "lost", made.file)
    assert open_network(tmp_path / "lost").network_key == before  # what it had stays readable, and is void
    assert made.enrol("n9").read().members[1].address == 2  # free again: the key is another


def test_renewing_keeps_addresses_and_changes_the_key(tmp_path: Path) -> None:
    made = operator(tmp_path / "keys")
    before = join(tmp_path, "n1", made.enrol("n1"))
    made.renew()
    after = join(tmp_path, "n1", made.file)
    assert (after.address, after.private_key) == (before.address, before.private_key)
    assert after.network_key != before.network_key
    assert after.number > before.number


def test_addresses_are_given_once(tmp_path: Path) -> None:
    made = operator(tmp_path)
    made.enrol("n1", address=7)
    with pytest.raises(ConfigError, match="address 7 is n1's"):
        made.enrol("n2", address=7)
    made.enrol("n1", again=True)
    with pytest.raises(ConfigError, match="address 7 was a node's under this network key"):
        made.enrol("n2", address=7)
    with pytest.raises(ConfigError, match="n1 is a member of valley with address 1; --again"):
        made.enrol("n1")
    for wrong in (0, 255):
        with pytest.raises(ConfigError, match="use 1 to 254"):
            made.enrol("n2", address=wrong)
    with pytest.raises(ConfigError, match="matching regex"):
        made.enrol("No Name")
    assert [member.name for member in made.network.members] == ["n1"]


def test_a_mesh_has_at_most_a_hundred_nodes(tmp_path: Path) -> None:
    made = operator(tmp_path)
    for number in range(100):
        made.enrol(f"n{number}")
    with pytest.raises(ConfigError, match="no mesh may have more"):
        made.enrol("one-more")
    assert len(made.enrol("n5", again=True).text()) < MAX_FILE_OCTETS / 3
    made._kept = msgspec.structs.replace(made._kept, used=frozenset(range(1, 255)))
    with pytest.raises(ConfigError, match="evy mesh renew"):
        made.enrol("n5", again=True)
    made.renew()
    made.enrol("n5", again=True)


@pytest.mark.parametrize(
    ("region", "frequency_hz", "spreading_factor", "says"),
    [
        ("EU868", 915_000_000, 9, "in no sub-band of EU868: use"),
        ("EU868", 869_650_000, 9, "in no sub-band of EU868"),
        ("US915", 906_875_000, 12, "use a smaller spreading factor"),
        ("XX000", 869_525_000, 9, "Invalid enum value"),
        ("EU868", 869_525_000, 13, "<= 12"),
    ],
)
def test_what_the_law_or_the_radio_cannot_is_refused(
    tmp_path: Path, region: str, frequency_hz: int, spreading_factor: int, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        Operator.create(
            tmp_path, "valley", region=region, frequency_hz=frequency_hz, spreading_factor=spreading_factor
        )
    assert not (tmp_path / "operator.json").exists()


def test_two_members_are_never_one(tmp_path: Path) -> None:
    made = operator(tmp_path)
    made.enrol("n1")
    network = made.network
    [member] = network.members
    for fields in ({"name": "n2"}, {"address": 2}, {"address": 2, "name": "n2"}):
        other = msgspec.structs.replace(member, **fields)
        with pytest.raises(ValueError, match="two members have the same"):
            msgspec.json.decode(
                msgspec.json.encode({**msgspec.to_builtins(network), "members": [member, other]}),
                type=Network,
            )


def test_wrong_and_old_files_say_what_to_do(tmp_path: Path) -> None:
    made, other = operator(tmp_path / "keys"), operator(tmp_path / "other", "hills")
    first = made.enrol("n1")
    with pytest.raises(NotJoinedError, match="evy mesh enrol NODE"):
        open_network(tmp_path / "n1")
    with pytest.raises(NotJoinedError, match="evy mesh enrol n1"):
        join(tmp_path / "n1", "n1", made.file)
    with pytest.raises(ConfigError, match="for the node n1, and this one is called n2"):
        join(tmp_path / "n2", "n2", first)
    old = made.file
    join(tmp_path / "n1", "n1", made.enrol("n1", again=True))
    with pytest.raises(ConfigError, match=r"older \(number 2\) than what is here \(3\)"):
        join(tmp_path / "n1", "n1", old)
    with pytest.raises(ConfigError, match="evy mesh enrol n1 --again"):
        join(tmp_path / "n1", "n1", first)
    with pytest.raises(ConfigError, match="another mesh"):
        join(tmp_path / "n1", "n1", other.file)
    theirs = other.enrol("n1")
    with pytest.raises(ConfigError, match="--force leaves that one"):
        join(tmp_path / "n1", "n1", theirs)
    assert open_network(tmp_path / "n1").name == "valley"
    assert join(tmp_path / "n1", "n1", theirs, force=True).name == "hills"


def test_nobody_else_can_change_a_roster(tmp_path: Path) -> None:
    made, stranger = operator(tmp_path / "keys"), operator(tmp_path / "stranger")
    join(tmp_path / "n1", "n1", made.enrol("n1"))
    for _ in range(3):
        stranger.enrol(f"s{stranger.network.number}")
    forged = stranger.network
    forged = msgspec.structs.replace(forged, operator=made.network.operator, network=made.network.network)
    signed_by_stranger = msgspec.structs.replace(stranger.file, network=msgspec.json.encode(forged))
    for file in (signed_by_stranger, msgspec.structs.replace(made.file, signature=bytes(64))):
        with pytest.raises(ConfigError, match="signature is wrong"):
            join(tmp_path / "n1", "n1", file)
    assert list(open_network(tmp_path / "n1").names.values()) == ["n1"]


@pytest.mark.parametrize("octets", [b"", b"{}", b"\xff" * 100, b"[1]", b" " * (MAX_FILE_OCTETS + 1)])
def test_garbage_is_no_file_of_a_mesh(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "x.mesh").write_bytes(octets)
    with pytest.raises(ConfigError, match="is no file of `evy mesh`"):
        read_file(tmp_path / "x.mesh")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file.*evy mesh enrol"):
        read_file(tmp_path / "missing.mesh")
    with pytest.raises(ConfigError, match="evy mesh new"):
        Operator(tmp_path)
    (tmp_path / "operator.json").write_text("{")
    with pytest.raises(ConfigError, match="bring your copy"):
        Operator(tmp_path)


@given(cut=st.integers(0, 5000), value=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_means_the_same(
    tmp_path_factory: pytest.TempPathFactory, cut: int, value: int
) -> None:
    """One octet is another one: never a crash, never another network than the one that was signed."""
    path = DAMAGED.get("path")
    if path is None:
        path = DAMAGED["path"] = tmp_path_factory.mktemp("damaged")
        made = operator(path / "keys")
        made.enrol("n0")
        DAMAGED["file"] = made.enrol("n1")
    whole = bytearray(DAMAGED["file"].text().encode())
    whole[cut % len(whole)] = value
    (path / "n1.mesh").write_bytes(whole)
    data = path / "data"
    shutil.rmtree(data, ignore_errors=True)
    try:
        found = join(data, "n1", read_file(path / "n1.mesh"))
    except ConfigError:
        assert not (data / "mesh" / "joined.mesh").exists()
    else:
        assert found.known == DAMAGED["file"].read()


NOW = 1_800_000_000.0


def test_a_change_is_planned_replaced_and_cancelled(tmp_path: Path) -> None:
    made = operator(tmp_path / "keys")
    number = made.network.number
    made.plan(10, 1_800_100_000, NOW)
    assert Operator(tmp_path / "keys").file.read() == made.network
    assert made.network.number == number + 1
    holds = [made.network.holds_at(at) for at in (NOW, 1_800_099_999.9, 1_800_100_000)]
    assert holds == [9, 9, 10]
    made.plan(7, 1_800_200_000, NOW)  # the former is void
    assert [made.network.holds_at(at) for at in (NOW, 1_800_100_000, 1_800_200_000)] == [9, 9, 7]
    made.cancel(NOW)
    assert (made.network.spreading_factor, made.network.planned) == (9, None)
    made.plan(10, 1_800_100_000, NOW)
    made.enrol("n1")  # any edition keeps it
    assert made.network.holds_at(1_800_100_000) == 10
    made.plan(11, 1_800_300_000, 1_800_200_000)  # once it holds, it is what is before the next
    assert [made.network.holds_at(at) for at in (1_800_200_000, 1_800_300_000)] == [10, 11]
    made.cancel(1_800_300_000)  # and stays when nothing is planned any more
    assert (made.network.spreading_factor, made.network.planned) == (11, None)
    with pytest.raises(ConfigError, match="nothing is planned"):
        made.cancel(NOW)


@pytest.mark.parametrize(
    ("spreading_factor", "at", "says"),
    [
        (10, NOW - 1, "2027-01-15 07:59 UTC has passed"),
        (8, NOW + 1, "SF8 holds already"),
        (
            10,
            NOW + 1,
            "leaves 0 octets for a message, 33 are needed.* instead of SF8 you may use SF7 or SF9",
        ),
        (13, NOW + 1, "<= 12.* you may use SF7 or SF9"),
    ],
)
def test_a_change_that_cannot_be_is_refused_when_it_is_made(
    tmp_path: Path, spreading_factor: int, at: float, says: str
) -> None:
    made = Operator.create(tmp_path, "valley", region="US915", frequency_hz=915_000_000, spreading_factor=8)
    before = made.network
    with pytest.raises(ConfigError, match=says):
        made.plan(spreading_factor, int(at), NOW)
    assert made.network == before


def test_a_file_without_a_plan_is_the_one_that_older_releases_read(tmp_path: Path) -> None:
    made = operator(tmp_path / "keys")
    made.enrol("n1")
    fields = msgspec.json.decode(made.file.network)
    assert sorted(fields) == [
        *("frequency_hz", "members", "name", "network", "number", "operator", "region", "spreading_factor")
    ]


def test_the_law_is_asked_for_the_module_that_hides_most(tmp_path: Path) -> None:
    assert 8 + masked_octets(LONGEST_FRAME) - LONGEST_FRAME == HIDDEN_OCTETS
    assert OPERATORS_LONGEST == LONGEST_FRAME
    with pytest.raises(ConfigError, match="smaller spreading factor"):  # which a bare modem could
        Operator.create(tmp_path, "v", region="EU868", frequency_hz=868_800_000, spreading_factor=12)


async def test_a_roster_by_stick_reaches_a_running_node(tmp_path: Path) -> None:
    made = operator(tmp_path / "keys")
    data = tmp_path / "n1"
    join(data, "n1", made.enrol("n1"))
    running = {
        name: asyncio.create_task(until_renewed(data, [name], every_s=0.01)) for name in ("mesh", "sms")
    }
    await asyncio.sleep(0.1)
    join(data, "n1", made.file)  # the same again
    await asyncio.sleep(0.1)
    assert not running["mesh"].done()
    made.plan(10, round(time.time()) + 86_400, time.time())
    join(data, "n1", made.file)
    await asyncio.wait_for(running["mesh"], 60)
    assert not running["sms"].done()
    running["sms"].cancel()


DAMAGED: dict[str, object] = {}


def test_a_roster_that_the_centre_sends_is_taken_over_once(tmp_path: Path) -> None:
    made = operator(tmp_path / "keys")
    data = tmp_path / "n1"
    join(data, "n1", made.enrol("n1"))
    made.enrol("n2")
    sent = data / "sync" / "1" / "all"
    sent.mkdir(parents=True)
    (data / "sync" / "current").symlink_to(data / "sync" / "1")
    before = stamp(data, ["mesh"])
    (sent / "mesh.roster").write_text(made.file.text())
    assert "mesh.roster" in read_tree(sent)
    assert stamp(data, ["mesh"]) != before
    assert stamp(data, ["mesh", "intake"]) != stamp(data, ["intake"])
    assert sorted(open_network(data).names.values()) == ["n1", "n2"]
    (sent / "mesh.roster").unlink()  # what was taken over stays
    assert sorted(open_network(data).names.values()) == ["n1", "n2"]
    (sent / "mesh.roster").write_text(operator(tmp_path / "other", "hills").file.text())
    assert open_network(data).name == "valley"  # another mesh's, meant for other nodes of this centre


def test_what_a_centre_sends_wrong_stops_no_node(tmp_path: Path) -> None:
    made = operator(tmp_path / "keys")
    data, sent = tmp_path / "n1", tmp_path / "n1" / "sync" / "current" / "all"
    sent.mkdir(parents=True)
    join(data, "n1", made.enrol("n1"))
    roster = sent / "mesh.roster"
    assert list(of_mesh([sent])) == []
    for text, says in (
        ("garbage", "no file of `evy mesh`"),
        (msgspec.structs.replace(made.file, signature=bytes(64)).text(), "signature is wrong"),
        (made.enrol("n2").text(), "private key"),
    ):
        roster.write_text(text)
        [problem] = of_mesh([sent])
        assert says in problem
        assert "n1" in open_network(data).names.values()
    made.revoke("n1")
    roster.write_text(made.file.text())
    assert list(of_mesh([sent])) == []
    assert open_network(data).names == {1: "n1", 2: "n2"}  # what it had; the others hear it no more


def evy(config: Path, *arguments: object) -> Result:
    return CliRunner().invoke(command, ["--config", str(config), "mesh", *map(str, arguments)])


def well(result: Result) -> str:
    assert result.exit_code == 0, result.output or result.exception
    return result.output


@pytest.fixture
def node(tmp_path: Path) -> Callable[[str], Path]:
    def made(name: str) -> Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(f'[node]\nname = "{name}"\ndata_dir = "{tmp_path / name}"\n')
        return path

    return made


def test_the_commands_from_a_new_mesh_to_two_nodes(
    tmp_path: Path, node: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    monkeypatch.chdir(stick)
    home = node("home")
    assert "Keep a copy" in well(evy(home, "new", "valley", "--region", "EU868"))
    assert "address 1" in well(evy(home, "enrol", "n1"))
    assert "valley.roster: for the nodes that are members already" in well(evy(home, "enrol", "n2"))
    joined = well(evy(node("n1"), "join", "n1.mesh"))
    assert "n1 is address 1 of valley, with 0 other nodes" in joined
    assert "shred -u n1.mesh" in joined
    assert "[mesh]\n  device" in joined
    assert "with 1 other nodes" in well(evy(node("n1"), "join", "valley.roster"))
    assert "n2 is address 2" in well(evy(node("n2"), "join", "n2.mesh"))
    told = json.loads(well(evy(node("n2"), "show", "--json")))
    assert told["members"] == {"1": "n1", "2": "n2"}
    assert (told["address"], told["frequency_hz"]) == (2, 869_525_000)
    shown = well(evy(node("n2"), "show"))
    assert "n2 (here)" in shown
    assert "869.525 MHz" in shown
    assert (
        json.loads(well(evy(home, "show", "--keys", tmp_path / "home" / "mesh-keys", "--json")))["address"]
        is None
    )

    assert "valley.roster" in well(evy(home, "revoke", "n2"))
    assert "with 0 other nodes" in well(evy(node("n1"), "join", "valley.roster"))
    well(evy(home, "renew", "--output", tmp_path / "by-hand.roster"))
    assert isinstance(read_file(tmp_path / "by-hand.roster"), MeshFile)
    well(evy(home, "roster"))


def test_the_commands_of_a_planned_change(
    tmp_path: Path, node: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = node("home")
    well(evy(home, "new", "valley", "--region", "EU868"))
    well(evy(home, "enrol", "n1"))
    well(evy(node("n1"), "join", "n1.mesh"))
    told = well(evy(home, "plan", "--spreading-factor", "10", "--at", "2099-12-01T06:00+03:00"))
    assert "SF9 now; SF10 from 2099-12-01 03:00 UTC, in " in told
    assert "valley.roster: for the nodes" in told
    assert "SF10 from 2099-12-01 03:00 UTC" in well(evy(node("n1"), "join", "valley.roster"))
    assert "SF9; SF10 from 2099-12-01 03:00 UTC" in well(evy(node("n1"), "show"))
    shown = json.loads(well(evy(node("n1"), "show", "--json")))
    assert (shown["spreading_factor"], shown["planned"]["spreading_factor"]) == (9, 10)
    for arguments, says in (
        (("--spreading-factor", "10"), "belong together"),
        (("--spreading-factor", "10", "--at", "tomorrow"), "write it like 2026-12-01T03:00Z"),
        (("--spreading-factor", "10", "--at", "2099-12-01T03:00"), "of which zone"),
        (("--spreading-factor", "10", "--at", "2020-12-01T03:00Z"), "has passed"),
        (("--cancel", "--spreading-factor", "10"), "--cancel goes alone"),
    ):
        refused = evy(home, "plan", *arguments).exception
        assert isinstance(refused, ConfigError)
        assert says in str(refused)
    assert "SF9 stays" in well(evy(home, "plan", "--cancel"))
    well(evy(node("n1"), "join", "valley.roster"))
    assert json.loads(well(evy(node("n1"), "show", "--json")))["planned"] is None


def test_the_commands_refuse_in_one_line(
    tmp_path: Path, node: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = node("home")
    assert isinstance(evy(home, "enrol", "n1").exception, ConfigError)
    well(evy(home, "new", "valley", "--region", "EU868"))
    again = evy(home, "new", "valley", "--region", "EU868").exception
    assert isinstance(again, ConfigError)
    assert "exists and is kept" in str(again)
    well(evy(home, "enrol", "n1"))
    kept = evy(home, "enrol", "n1", "--again").exception  # would overwrite what may not be carried there yet
    assert isinstance(kept, ConfigError)
    assert "exists and is kept" in str(kept)
    assert evy(home, "new", "hills", "--region", "XX000").exit_code == 2
