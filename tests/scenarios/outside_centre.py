"""The big model's actor as a program: a query a line on stdin, its answer a line on stdout.

The centre's knowledge is what comes with the query, so that it starts at once; all else is as in a centre.
"""

import asyncio
import sys
import time
from pathlib import Path

from actors._llm import llm_config
from actors._retrieval.phrases import read_phrases
from actors._runtime.config import load_config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors.infer_large import InferLargeConfig, Large, Retrieval, outside_of, own_client
from actors.knowledge import Texts
from subjects.messages import Query, decode, encode


async def serve(path: Path) -> None:
    config = load_config(path)
    context = MemoryContext(config, Identity("hub", b"x", "0"))
    table = config.section("infer_large", InferLargeConfig)
    settings = llm_config(config)
    large = Large(
        node="hub",
        client=own_client(table, settings),
        retrieval=Retrieval([], read_phrases()),
        texts=Texts.load(),
        emit=context.emit,
        config=table,
        settings=settings,
        outside=outside_of(context, table, settings),
        now=time.time,
    )
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        [output] = await large.handle(decode(line, Query))
        print(encode(output.message).decode(), flush=True)
    await large.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
