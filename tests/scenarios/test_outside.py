"""What leaves a centre for a provider: two machines in namespaces, every byte of the cable captured."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors._llm.ledger import FILE, Ledger
from actors.knowledge import redactor
from subjects.messages import Answer, Query, decode, encode
from tests.scenarios.capture import Capture, seen, streams
from tests.scenarios.hosts import Host, Hosts, why_not
from tests.unit.test_infer_large import BOIL, query

ROOT = Path(__file__).resolve().parents[2]
PORT, OWN_PORT = 9100, 9200
PRIVATE, URGENT, FOREIGN, UNREDACTED, ALLOWED = "quernstone", "hobnail", "gambeson", "samovar", "trivet"
NAME, PHONE = "Wanjiku Kamau", "0722 555 019"
PLAIN = f"My name is {NAME}, call {PHONE}. How do I boil water on a {{}}?"

CONFIGURATION = """\
[node]
profile = "bigevy"
data_dir = "{directory}"
[infer_large]
base_url = "http://127.0.0.1:{own}"
model = "v1-model"
[llm]
llm_strategy = "hybrid"
llm_monthly_budget = "1"
[providers.openai]
url = "http://{cloud}:{port}/openai"
plain_http = true      # so that the capture can see
model = "openai-model"
price_in = "0.15"
price_out = "0.60"
"""


def asked(word: str, *, masked: bool = True, **fields: Any) -> Query:
    text = PLAIN.format(word)
    [taken] = redactor().mask([text])
    return query(taken.text if masked else text, BOIL, **{"privacy": "enhanced", **fields})


class Centre:
    """The actor in its namespace, and the model server beside it."""

    def __init__(self, host: Host, config: Path) -> None:
        own = (sys.executable, "-m", "simulators.provider", "--port", str(OWN_PORT), "--name", "v1")
        host.popen(
            [*own, "--latency-ms", "0"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.process = host.popen(
            [sys.executable, "-m", "tests.scenarios.outside_centre", str(config)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._line() == b"ready\n"

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def answer(self, question: Query) -> Answer:
        assert self.process.stdin is not None
        self.process.stdin.write(encode(question) + b"\n")
        self.process.stdin.flush()
        return decode(self._line(), Answer)

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if reason := why_not():
        pytest.skip(reason)
    with Hosts(["centre", "cloud"]) as made:
        yield made


def listening(host: Host, address: str, ports: Sequence[int]) -> None:
    """Waits until somebody listens."""
    for port in ports:
        ready = (
            "import socket, time\n"
            "while True:\n"
            "    try:\n"
            f"        socket.create_connection(('{address}', {port}), 1).close()\n"
            "        break\n"
            "    except OSError:\n"
            "        time.sleep(0.05)\n"
        )
        assert host.run([sys.executable, "-c", ready], timeout_s=60).returncode == 0


def test_nothing_private_leaves_the_centre(hosts: Hosts, tmp_path: Path) -> None:
    centre, cloud = hosts["centre"], hosts["cloud"]
    config = tmp_path / "evy.toml"
    config.write_text(CONFIGURATION.format(directory=tmp_path, own=OWN_PORT, cloud=cloud.address, port=PORT))
    provider = (sys.executable, "-m", "simulators.provider", "--host", cloud.address, "--port", str(PORT))
    cloud.popen([*provider, "--name", "openai", "--latency-ms", "0"], cwd=ROOT, stdout=subprocess.DEVNULL)
    running = Centre(centre, config)
    listening(centre, "127.0.0.1", [OWN_PORT])
    listening(centre, cloud.address, [PORT])

    inside, outside = tmp_path / "inside.pcap", tmp_path / "outside.pcap"
    with Capture(centre, inside):
        kept = [
            running.answer(asked(PRIVATE, privacy="private")),
            running.answer(asked(PRIVATE, privacy="private", node_only=False, lane="priority")),
            running.answer(asked(URGENT, priority="urgent", lane="priority")),
            running.answer(asked(URGENT, lane="flash")),
            running.answer(asked(UNREDACTED, masked=False)),
            running.answer(
                query(f"wo ist meine Grossmutter, sie hat einen {FOREIGN}", BOIL, privacy="enhanced")
            ),
        ]
    with Capture(centre, outside):
        allowed = running.answer(asked(ALLOWED))
    running.stop()

    # The own model, or reviewed words, answered what stayed inside.
    assert [answer.text.removeprefix("[name1]: ") for answer in kept[:5]] == [BOIL.text] * 5
    assert not [flow for flow in streams(inside) if PORT in (flow.target_port, flow.source_port)]
    for word in (PRIVATE, URGENT, UNREDACTED, FOREIGN, *NAME.split(), PHONE):
        assert not seen(inside, word.encode()), word
        assert not seen(outside, word.encode()), word
    assert seen(outside, ALLOWED.encode()), "the capture is blind"
    assert seen(outside, b"[name1]")
    assert allowed.text == f"[name1]: {BOIL.text}"
    ledger = Ledger.read(tmp_path / FILE)
    assert [call.outcome for call in ledger.calls()] == ["answered"]
    assert ledger.verify().problems == ()
    assert sum(ledger.refusals().values()) == 2
    ledger.close()
    assert msgspec.structs.asdict(allowed)["by_centre"]
