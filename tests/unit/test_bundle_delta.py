"""A version as what is new in it: small, right or refused, and the same version whichever way it came."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors._bundles.arrive import Came, apply, is_held, no_packs
from actors._bundles.delta import MAX_OCTETS, NOWHERE, Standing, read, standing, write
from actors._bundles.manifest import (
    BundleRefusedError,
    Manifest,
    Part,
    bare,
    bare_seal,
    bare_signature,
    name_of,
    seal,
    unseal,
)
from actors._bundles.pack import Tree, tree_hash
from actors._bundles.versions import Entry
from actors._runtime.claims import Key
from tests.unit.test_bundles import KEY, TERMS, Bench, article, well

REGIONS = frozenset({"valley"})
WORDS = st.text("abcdefghij \n", max_size=60).map(str.encode)
NAMES = st.sampled_from(["articles/a.toml", "articles/b.toml", "triage/x.tsv", "contacts.toml"])
TREES = st.dictionaries(NAMES, WORDS)


def version(number: int, key: Key = KEY, **trees: Tree) -> tuple[Standing, bytes]:
    """What a node of the valley has of a version, and the centre's signature."""
    by_region = {("" if region == "all" else region): tree for region, tree in trees.items()}
    parts = tuple(
        Part(region, tree_hash(tree), len(tree), sum(map(len, tree.values())), ())
        for region, tree in by_region.items()
    )
    manifest = Manifest(number, 0, 1.8e9, "", parts)
    signature = bare_signature(seal(manifest, key.sign_octets), key.public)
    mine = {region: tree for region, tree in by_region.items() if region in {"", "valley"}}
    return Standing(bare(manifest), mine), signature


@settings(max_examples=100, deadline=None)
@given(TREES, TREES, TREES, TREES, st.booleans())
def test_a_delta_leads_to_what_was_signed(
    old: Tree, new: Tree, was: Tree, now: Tree, from_nothing: bool
) -> None:
    base = NOWHERE if from_nothing else version(1, all=old, valley=was, coast={"contacts.toml": b"x"})[0]
    target, signature = version(2, all=new, valley=now, coast={"contacts.toml": b"y"})
    sealed, manifest, trees = read(write(base, target, signature), base, REGIONS, KEY.public)
    assert trees == {"": new, "valley": now}
    assert (manifest.version, unseal(sealed, KEY.public)) == (2, manifest)
    assert bare(manifest) == target.bare


OLD = {"articles/a.toml": b"Boil it. " * 50, "articles/b.toml": b"Do not run. " * 50}
NEW = {"articles/a.toml": b"Boil it. " * 49 + b"Let it cool.", "articles/c.toml": b"Stay in."}


def test_an_octet_changed_anywhere_leads_to_nothing_else() -> None:
    base, _ = version(1, all=OLD)
    target, signature = version(2, all=NEW)
    delta = write(base, target, signature)
    refused = 0
    for at in range(len(delta)):
        changed = delta[:at] + bytes([delta[at] ^ 1]) + delta[at + 1 :]
        try:
            assert read(changed, base, REGIONS, KEY.public)[2] == {"": NEW}  # a bit that says nothing
        except BundleRefusedError:
            refused += 1
    assert refused > 0.95 * len(delta)
    for octets in (delta[:-1], delta[:64], b"", bytes(MAX_OCTETS + 1)):
        with pytest.raises(BundleRefusedError):
            read(octets, base, REGIONS, KEY.public)


@settings(max_examples=300, deadline=None)
@example(bytes(65) + b"\xf2" + bytes(11) + b"\x01")  # says that there are terabytes inside
@given(st.binary(min_size=64, max_size=200))
def test_any_octets_are_refused(octets: bytes) -> None:
    base, _ = version(1, all=OLD)
    with pytest.raises(BundleRefusedError):
        read(octets, base, REGIONS, KEY.public)


def test_what_another_centre_signed_or_another_base_is_refused() -> None:
    base, _ = version(1, all=OLD)
    stranger = Key.create("account")
    target, forged = version(2, stranger, all=NEW)
    with pytest.raises(BundleRefusedError, match="bad signature"):
        read(write(base, target, forged), base, REGIONS, KEY.public)
    target, signature = version(2, all=NEW)
    elsewhere, _ = version(1, all={**OLD, "articles/a.toml": b"x" * 450})
    with pytest.raises(BundleRefusedError):
        read(write(base, target, signature), elsewhere, REGIONS, KEY.public)
    escape, signature = version(2, all={"../../etc/passwd": b"x"})
    with pytest.raises(BundleRefusedError, match="no file of a bundle"):
        read(write(base, escape, signature), base, REGIONS, KEY.public)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    target, signature = version(2, all={"articles/a.toml": bytes(30_000_000)})
    delta = write(NOWHERE, target, signature)
    assert len(delta) < MAX_OCTETS
    with pytest.raises(BundleRefusedError, match="more than 4194304 octets"):
        read(delta, NOWHERE, REGIONS, KEY.public)


# ── the same version, whichever way it came ───────────────────────────────────────────────────────────────


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def by_mesh(bench: Bench, number: int) -> Entry | None:
    """What a giver with this version would lead this node to."""
    sealed = bench.workshop.sealed(number)
    other = Bench(bench.directory / f"giver{number}")
    asyncio.run(apply(other.versions, sealed, TERMS, bench.get, by="link", now=1.8e9, check=well))
    target = standing(other.versions, other.versions.current(), TERMS.regions)
    base = standing(bench.versions, bench.versions.current(), TERMS.regions) or NOWHERE
    assert target
    delta = write(base, target, bare_signature(sealed, KEY.public))
    without, _, trees = read(delta, base, TERMS.regions, KEY.public)
    came = Came(trees, len(delta))
    return asyncio.run(
        apply(bench.versions, without, TERMS, no_packs, by="mesh", now=1.8e9, check=well, came=came)
    )


def test_what_came_by_mesh_is_what_comes_over_the_link(bench: Bench) -> None:
    bench.build()
    bench.apply(1)
    bench.write("articles/river.toml", article("Do not drink it. Ask the warden for water."))
    bench.build()
    entry = by_mesh(bench, 2)
    assert entry
    assert (entry.what, entry.version, entry.was, entry.by) == ("applied", 2, 1, "mesh")
    assert entry.octets < 400
    assert "Do not drink" in bench.said()
    assert bench.apply(2) is None  # the link brings the same
    bench.write("articles/river.toml", article("The river is clean again."))
    bench.build()
    assert bench.apply(3).what == "applied"  # type: ignore[attr-defined]  # packs begin at what the mesh brought
    refused = by_mesh(bench, 2)
    assert refused
    assert "downgrade" in refused.reason


def test_what_was_refused_one_way_is_not_tried_the_other(bench: Bench) -> None:
    bench.build()

    async def wrong(*_: object) -> list[str]:
        return ["too long"]

    bench.apply(1, check=wrong)
    sealed = bench.workshop.sealed(1)
    manifest = bench.workshop.manifest(1)
    without = bare_seal(bare(manifest), bare_signature(sealed, KEY.public))
    state = bench.versions.state()
    assert state.held == name_of(manifest)
    assert is_held(state, sealed, KEY.public)
    assert is_held(state, without, KEY.public)
    assert not is_held(state, seal(msgspec.structs.replace(manifest, version=2), KEY.sign_octets), KEY.public)
    assert not is_held(state, b"junk", KEY.public)


def test_without_packs_and_files_nothing_is_applied(bench: Bench) -> None:
    bench.build()
    manifest = bench.workshop.manifest(1)
    without = bare_seal(bare(manifest), bare_signature(bench.workshop.sealed(1), KEY.public))
    wrong = Came({"": {"articles/river.toml": b"other"}}, 5)
    for came in (Came({}, 0), wrong):
        entry = asyncio.run(
            apply(bench.versions, without, TERMS, no_packs, by="mesh", now=0.0, check=well, came=came)
        )
        assert entry
        assert "no pack for region 'all'" in entry.reason
    assert bench.versions.current() is None


def test_a_bundle_of_an_earlier_release_is_read_and_not_given_on(bench: Bench) -> None:
    bench.build()
    sealed = msgspec.json.decode(bench.workshop.sealed(1))
    del sealed["bare"]
    former = msgspec.json.encode(sealed)
    assert unseal(former, KEY.public).version == 1
    with pytest.raises(BundleRefusedError, match="bad signature"):
        bare_signature(former, KEY.public)
