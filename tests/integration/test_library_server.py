"""The library in Qdrant: its client against qdrant-client's own engine in this process, and against a server.

The server needs `EVY_QDRANT_URL`, or a program `qdrant`; without one of them its half is skipped.
"""

import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from qdrant_client import AsyncQdrantClient

from actors._library.importing import files_of, import_files, plan_of
from actors._library.library import Library
from actors._library.server import COLLECTION, Server
from actors._library.shelf import Wanted
from actors._library.volumes import FOLDER, Edition, Terms
from tests.conftest import free_port

IMPORTS = Path(__file__).parents[1] / "vectors" / "imports"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server."""
    if named := os.environ.get("EVY_QDRANT_URL"):
        yield named
        return
    program = shutil.which("qdrant")
    if program is None:
        pytest.skip("no Qdrant server: set EVY_QDRANT_URL, or put the program `qdrant` into PATH")
    port, folder = free_port(), tmp_path_factory.mktemp("qdrant")
    settings = {
        "QDRANT__SERVICE__HTTP_PORT": str(port),
        "QDRANT__SERVICE__GRPC_PORT": str(free_port()),
        "QDRANT__SERVICE__HOST": "127.0.0.1",
        "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
        "QDRANT__TELEMETRY_DISABLED": "true",
    }
    process = subprocess.Popen(
        [program], cwd=folder, env={**os.environ, **settings}, stdout=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(params=["in-process", "server"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    if request.param == "in-process":
        made = Server("in-process", client=AsyncQdrantClient(location=":memory:"))
    else:
        address: str = request.getfixturevalue("url")
        made = Server(address)
        await ready(address)
    await made.withdraw("law")
    yield made
    await made.close()


async def ready(address: str) -> None:
    """Waits for a server that has just been started."""
    until = time.monotonic() + 60
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{address}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                if time.monotonic() > until:
                    raise


def edition(folder: Path, file: Path) -> Edition:
    terms = Terms("legal", "Law", "CC0-1.0", "2026-11-01")
    return import_files(folder, plan_of(terms, files_of("legal", [file])), lambda *_: None, index=False)[0]


async def upload(to: Server, one: Edition) -> bool:
    volume = one.volume()
    assert volume is not None
    return await to.upload(one, volume, lambda _: None)


@pytest.mark.filterwarnings(  # what the engine in this process cannot do, a server can
    "ignore:Payload indexes have no effect in the local Qdrant",
    "ignore:Local mode performs exact",
)
async def test_an_edition_is_uploaded_once_found_replaced_and_withdrawn(
    server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "act.txt"
    file.write_text((IMPORTS / "legal" / "act.txt").read_text())
    first = edition(tmp_path / FOLDER, file)
    assert await upload(server, first)
    assert not await upload(server, first)
    library = Library(tmp_path, server)
    best = (await library.search("who owns the springs", "en", 2))[0]
    assert best.passage == first.passages([0])[0]
    assert (best.source, best.id.partition("/")[0]) == ("Law", "law")
    assert best.score > 0.2
    assert await library.search("who owns the springs", "en", 2, Wanted(lang="fr")) == []
    assert await library.search("who owns the springs", "en", 2, Wanted(categories=("news",))) == []
    assert await library.search("who owns the springs", "en", 2, Wanted(sources=("law",)))
    file.write_text(file.read_text().replace("the community", "everybody"))
    assert await upload(server, edition(tmp_path / FOLDER, file))
    found = await library.search("who owns the springs", "en", 5)
    assert any("everybody" in one.passage.text for one in found)
    assert not any("community" in one.passage.text for one in found)
    await server.withdraw("law")
    assert await library.search("who owns the springs", "en", 2) == []


async def test_the_collection_is_quantised_to_eight_bits(url: str, tmp_path: Path) -> None:
    await ready(url)
    server = Server(url)
    await upload(server, edition(tmp_path / FOLDER, IMPORTS / "legal" / "act.txt"))
    made = (await server._client.get_collection(COLLECTION)).config
    assert made.quantization_config is not None
    assert "int8" in made.quantization_config.model_dump_json()
    await server.withdraw("law")
    await server.close()
