"""evy_core.MeshNode as Python sees it: two nodes and a cable of bytes, and what it refuses."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import pytest
from evy_core import MeshArrival, MeshError, MeshFullError, MeshNode, MeshPoll

Lane: TypeAlias = Literal["flash", "priority", "routine"]
NETWORK_KEY = bytes(range(16))
PRIVATE = {address: bytes([address, 77]) * 16 for address in (1, 2, 3)}

# X25519 public keys of the private ones above, as OpenSSL gives them.
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: E402

ROSTER = {
    address: X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    for address, key in PRIVATE.items()
}


def node(address: int = 1, /, **changed: object) -> MeshNode:
    """A node of the network, with what a test changes."""
    arguments: dict[str, object] = {
        "address": address,
        "network": 9,
        "network_key": NETWORK_KEY,
        "private_key": PRIVATE[address],
        "roster": ROSTER,
        "seed": address,
        "now_us": 0,
    }
    return MeshNode(**(arguments | changed))  # type: ignore[arg-type]  # tests pass wrong ones too


class Ether:
    """Nodes that all hear each other, one frame at a time; what ``drops`` says is lost."""

    def __init__(self, nodes: dict[int, MeshNode], drops: Callable[[int, bytes], bool] | None = None) -> None:
        self.nodes = nodes
        self.drops = drops or (lambda _number, _frame: False)
        self.now_us = 0
        self.frames: list[tuple[int, bytes]] = []
        self.arrived: dict[int, list[MeshArrival]] = {address: [] for address in nodes}
        self.states: dict[int, list[tuple[int, str]]] = {address: [] for address in nodes}
        self.kept: dict[int, bytes] = {}

    def run(self, seconds: float) -> None:
        """Let the nodes speak for so long."""
        end_us = self.now_us + int(seconds * 1e6)
        while self.now_us < end_us:
            wakes = [end_us]
            for address, one in self.nodes.items():
                poll = one.poll(self.now_us)
                self.note(address, poll)
                if poll.transmit is not None:
                    self.carry(address, poll.transmit)
                    wakes.append(self.now_us + 1)
                elif poll.wake_at_us is not None:
                    wakes.append(poll.wake_at_us)
            self.now_us = max(self.now_us + 1, min(wakes))

    def note(self, address: int, poll: MeshPoll) -> None:
        self.arrived[address] += poll.arrived
        self.states[address] += poll.states
        if poll.keep is not None:
            self.kept[address] = poll.keep

    def carry(self, sender: int, frame: bytes) -> None:
        self.frames.append((sender, frame))
        self.now_us += 300_000
        self.nodes[sender].sent(self.now_us)
        if not self.drops(sender, frame):
            for address, one in self.nodes.items():
                if address != sender:
                    one.receive(frame, -80.0, 9.0, self.now_us)


def test_a_message_arrives_once_and_its_sender_knows() -> None:
    ether = Ether({1: node(1), 2: node(2)})
    number = ether.nodes[1].send(2, b"water at the school", "priority", 0)
    ether.run(120)
    (arrival,) = ether.arrived[2]
    assert (arrival.source, arrival.id, arrival.lane) == (1, number, "priority")
    assert (arrival.payload, arrival.broadcast) == (b"water at the school", False)
    names = [state for message, state in ether.states[1] if message == number]
    assert names[0] == "queued"
    assert names[-1] == "delivered"


def test_the_longest_message_goes_in_parts_and_arrives_whole() -> None:
    ether = Ether({1: node(1), 2: node(2)})
    payload = bytes(number % 251 for number in range(2048))
    ether.nodes[1].send(2, payload, "flash", 0)
    ether.run(240)
    assert [arrival.payload for arrival in ether.arrived[2]] == [payload]


def test_a_lost_receipt_delivers_nothing_twice() -> None:
    receipts = 0

    def drops(sender: int, frame: bytes) -> bool:
        nonlocal receipts
        # Node 2 has nothing to send but beacons, which go to everybody, and receipts.
        lost = sender == 2 and frame[3] == 1 and receipts < 2
        receipts += lost
        return lost

    ether = Ether({1: node(1), 2: node(2)}, drops)
    number = ether.nodes[1].send(2, b"once", "flash", 0)
    ether.run(400)
    assert receipts == 2
    assert [arrival.payload for arrival in ether.arrived[2]] == [b"once"]
    assert (number, "delivered") in ether.states[1]


def test_a_broadcast_reaches_everybody() -> None:
    ether = Ether({1: node(1), 2: node(2), 3: node(3)})
    ether.nodes[1].send(None, b"all clear", "routine", 0)
    ether.run(60)
    for address in (2, 3):
        (arrival,) = ether.arrived[address]
        assert (arrival.source, arrival.payload, arrival.broadcast) == (1, b"all clear", True)


def test_neighbours_routes_and_gateways_are_learned() -> None:
    ether = Ether({1: node(1), 2: node(2)})
    ether.nodes[2].set_status(battery_percent=55, uplink=True, modem=False, flash_only=False, model=True)
    ether.run(300)
    (neighbour,) = ether.nodes[1].neighbours(ether.now_us)
    assert (neighbour.address, round(neighbour.snr_db)) == (2, 9)
    (route,) = ether.nodes[1].routes(ether.now_us)
    assert (route.destination, route.next_hop, route.hops) == (2, 2, 1)
    assert (route.uplink, route.modem, route.model, route.battery_percent) == (True, False, True, 50)
    ether.nodes[2].set_status(battery_percent=15, uplink=False, modem=True, flash_only=True, model=True)
    ether.run(600)
    (route,) = ether.nodes[1].routes(ether.now_us)
    assert (route.uplink, route.modem, route.model, route.battery_percent) == (False, True, False, 0)
    assert ether.nodes[1].neighbours(ether.now_us)[0].flash_only
    airtime = ether.nodes[1].airtime(ether.now_us)
    assert 0 < airtime.used_us < airtime.limit_us == 360_000_000
    assert set(airtime.waits_until_us) == {"flash", "priority", "routine"}


def test_octets_of_others_change_only_a_count() -> None:
    one = node(1)
    kept = one.poll(0).keep
    stranger = node(2, network_key=bytes(range(1, 17)))
    frame = stranger.poll(10**9).transmit
    assert frame is not None
    for octets in (b"", b"\x00" * 300, bytes(range(40)), frame):
        one.receive(octets, -80.0, 5.0, 1)
    assert one.neighbours(1) == []
    assert one.counters()["forged"] == 1
    assert kept is not None


def test_a_node_goes_on_from_what_it_kept() -> None:
    ether = Ether({1: node(1), 2: node(2)})
    first = ether.nodes[1].send(2, b"before", "flash", 0)
    ether.run(100)
    ether.nodes[1] = node(1, state=ether.kept[1], now_us=ether.now_us)
    second = ether.nodes[1].send(2, b"after", "flash", ether.now_us)
    ether.run(200)
    assert second > first
    assert [arrival.payload for arrival in ether.arrived[2]] == [b"before", b"after"]
    counters = [frame[4:8] for sender, frame in ether.frames if sender == 1]
    assert len(counters) == len(set(counters)), "a counter was used twice"


def test_without_a_state_numbers_begin_where_the_caller_says() -> None:
    assert node(first_counter=1_600).send(2, b"x", "routine", 0) == 100


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"region": "MARS"}, "region"),
        ({"frequency_hz": 433_000_000}, "radio"),
        ({"network_key": b"short"}, "network_key"),
        ({"private_key": bytes(32)}, "private_key"),
        ({"network": 0}, "network"),
        ({"roster": {2: b"x"}}, "roster"),
        ({"state": b"torn"}, "state"),
        ({"first_counter": 1 << 28}, "first_counter: .* Set it right, or enrol this node again"),
    ],
)
def test_a_wrong_setting_is_named(changed: dict[str, object], named: str) -> None:
    with pytest.raises(MeshError, match=named):
        node(**changed)


def test_what_cannot_be_sent_is_refused() -> None:
    one = node(1)
    for payload in (b"", bytes(2049)):
        with pytest.raises(MeshError, match="octets"):
            one.send(2, payload, "routine", 0)
    with pytest.raises(MeshError, match="77"):
        one.send(77, b"x", "routine", 0)
    with pytest.raises(MeshError, match="lane"):
        one.send(2, b"x", "urgent", 0)  # type: ignore[arg-type]  # the refusal is what is tested


def test_a_full_node_says_so_and_flash_has_room_left() -> None:
    one = node(1)
    for _ in range(32):
        one.send(2, b"x", "routine", 0)
    with pytest.raises(MeshFullError, match="32"):
        one.send(2, b"x", "routine", 0)
    number = one.send(2, b"x", "flash", 0)
    one.forget(number)
    assert one.send(2, b"x", "flash", 0) > number


@pytest.mark.parametrize("lane", ["flash", "priority"])
@pytest.mark.parametrize("after", [1, 2])
def test_what_is_urgent_waits_for_one_frame_of_a_delta_at_most(lane: Lane, after: int) -> None:
    """A delta's longest message is on its way from node 1 to node 2 when node 1 has to say more to node 3."""
    urgent = 0

    def then(sender: int, frame: bytes) -> bool:
        nonlocal urgent
        if (sender, frame[3]) == (1, 2) and len(frame) > 200 and not urgent:
            parts.append(len(ether.frames))
            if len(parts) == after:  # while this part is on air
                urgent = ether.nodes[1].send(3, b"he is not breathing", lane, ether.now_us)
        return False

    parts: list[int] = []
    ether = Ether({address: node(address, longest_frame=237) for address in (1, 2, 3)}, then)
    ether.run(600)  # they know each other
    delta = bytes(number % 251 for number in range(3 * 217 - 4))
    ether.nodes[1].send(2, delta, "routine", ether.now_us)
    ether.run(60)
    mine = [frame for sender, frame in ether.frames[parts[after - 1] :] if sender == 1]
    before = mine[: next(at for at, frame in enumerate(mine) if frame[3] == 3 and len(frame) < 60)]
    assert not [frame for frame in before if frame[3] == 2 and len(frame) > 200]
    assert [arrival.payload for arrival in ether.arrived[3]] == [b"he is not breathing"]
    assert [arrival.payload for arrival in ether.arrived[2]] == [delta]


def test_the_channel_is_busy_while_somebody_sends_and_idle_again_later() -> None:
    ether = Ether({1: node(1), 2: node(2)})
    ether.nodes[1].send(2, bytes(2000), "routine", 0)
    ether.run(30)
    assert 0.05 < ether.nodes[1].airtime(ether.now_us).busy <= 1.0
    assert 0.05 < ether.nodes[2].airtime(ether.now_us).busy <= 1.0
    ether.run(900)
    assert ether.nodes[1].airtime(ether.now_us).busy < 0.05
