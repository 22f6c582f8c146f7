"""A small HTTP server on a real socket that behaves as badly as a test wants."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Behave = Callable[["Peer", dict[str, Any], asyncio.StreamWriter], Awaitable[None]]
"""Writes the answer to one request, whose JSON body it is given."""


def completion(content: str, finish: str = "stop") -> bytes:
    """Body of a chat completion."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}).encode()


def written(answer: str, *passages: int, known: bool = True) -> bytes:
    """Body of a completion in the form that infer_large asks for."""
    return completion(json.dumps({"passages": passages, "known": known, "answer": answer}))


def http(body: bytes, status: str = "200 OK", *headers: str) -> Behave:
    """Answers with a whole body."""

    async def behave(peer: "Peer", request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return behave


def raw(octets: bytes) -> Behave:
    """Sends octets as they are and closes."""

    async def behave(peer: "Peer", request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(octets)
        await writer.drain()
        writer.close()

    return behave


async def slow(peer: "Peer", request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """A slow loris: one octet of the answer now and then, and never the end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


class Peer:
    """Answers request number n as the n-th of ``behaviours`` says; the last one repeats."""

    def __init__(self, *behaviours: Behave) -> None:
        self.behaviours = list(behaviours)
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    (
                        int(line[15:])
                        for line in head.splitlines()
                        if line.lower().startswith("content-length:")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    await self._answer(head, json.loads(body or b"{}"), writer)
                finally:
                    self.at_once -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: str, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        path = head.split()[1]
        self.paths.append(path)
        self.headers.append(head)
        if path != "/v1/chat/completions":
            page = {"data": [{"id": "first"}, {"id": "second"}]} if path == "/v1/models" else {"status": "ok"}
            await http(json.dumps(page).encode())(self, request, writer)
        else:
            self.requests.append(request)
            await self.behaviours[min(len(self.requests), len(self.behaviours)) - 1](self, request, writer)
        await writer.drain()

    @asynccontextmanager
    async def running(self, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator["Peer"]:
        """Listens on a loopback port."""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            await self._serve(reader, writer)
            tasks.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
