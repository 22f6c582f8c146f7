"""Services of actors on the bus, by the NATS micro protocol (NATS ADR-32), and asking them.

Several processes of one actor share the questions (queue group: the node). An error goes back in the
protocol's headers: 400 the question is wrong, 409 it is refused with a reason, 503 try again, 500 a bug.
"""

import importlib.metadata
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import nats.errors
import nats.micro
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER, Request, ServiceError
from nats.micro.service import Service as MicroService

from actors._runtime.actor import Actor, ServiceHandler
from actors._runtime.bus import BusError, NatsBus, bus_errors
from subjects import services
from subjects.errors import EvyError, MessageError, RefusedError, RetryLaterError
from subjects.messages import Message, decode, encode

log = logging.getLogger("evy.services")

ANSWER_WITHIN_S: Final = 10.0


class NobodyAnswersError(BusError):
    """No actor serves this question now."""


class Services:
    """The services of the actors of one process."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self._running: list[MicroService] = []

    async def start(self, actors: Iterable[Actor]) -> None:
        """Announces the services of ``actors`` and answers from now on."""
        for actor in actors:
            if not actor.services:
                continue
            with bus_errors(f"announce the services of {actor.name}"):
                running = await nats.micro.add_service(
                    self._bus.client,
                    name=actor.name,
                    version=importlib.metadata.version("evy"),
                    description=f"EVY actor {actor.name}",
                    metadata={"node": self._bus.node},
                    queue_group=self._bus.node,
                )
                self._running.append(running)
                for name, handler in actor.services.items():
                    row = services.service(name)
                    await running.add_endpoint(
                        name=name.replace(".", "-"),
                        subject=row.subject(self._bus.node),
                        handler=_Endpoint(self._bus, row, handler),
                        metadata={
                            "says": row.says,
                            "request": row.request.__name__,
                            "reply": row.reply.__name__,
                        },
                    )

    async def stop(self) -> None:
        """Answers no more."""
        for running in self._running:
            with suppress(nats.errors.Error, OSError):
                await running.stop()
        self._running.clear()


class _Endpoint:
    """One service's messages in and out."""

    def __init__(self, bus: NatsBus, row: services.Service, handler: ServiceHandler) -> None:
        self._bus = bus
        self._row = row
        self._handler = handler

    async def __call__(self, request: Request) -> None:
        hop = self._bus.spans.begin(request.headers, "routine", "")
        try:
            reply = await answered(self._row, self._handler, request.data)
        finally:
            self._bus.spans.end(hop, f"service {self._row.name}")
        with suppress(ValueError):  # a question that names no place for its answer
            await request.respond(reply)


async def answered(row: services.Service, handler: ServiceHandler, octets: bytes) -> bytes:
    """The reply to a question as it came. Raises ServiceError with the protocol's code."""
    try:
        return encode(await handler(decode(octets, row.request)))
    except MessageError as error:
        raise ServiceError("400", _line(error)) from error
    except RefusedError as error:
        raise ServiceError("409", _line(error)) from error
    except (BusError, RetryLaterError) as error:
        raise ServiceError("503", _line(error)) from error
    except Exception as error:  # policy boundary: a handler's bug must not stop the service
        log.exception("service %s failed", row.name)
        raise ServiceError("500", type(error).__name__) from error


def _line(error: Exception) -> str:
    """An error as a header may carry it."""
    return " ".join(str(error).split())[:500]


def nobody(row: services.Service, node: str) -> NobodyAnswersError:
    """The error when no actor serves a question."""
    return NobodyAnswersError(
        f"nobody answers {row.subject(node)}: is the actor {row.actor} running? `evy up` starts it"
    )


def refusal(name: str, code: str, reason: str) -> EvyError:
    """The error that an asker gets for a code of the protocol."""
    kinds: dict[str, type[EvyError]] = {"400": RefusedError, "409": RefusedError, "503": RetryLaterError}
    return kinds.get(code, BusError)(f"{name}: {reason}")


async def ask(bus: NatsBus, name: str, question: Message, *, within_s: float = ANSWER_WITHIN_S) -> Any:
    """The reply of a service of this node.

    Raises :class:`NobodyAnswersError`, :class:`RefusedError` with the service's reason,
    :class:`RetryLaterError` when it may answer later, and :class:`MessageError` for a reply that is none.
    """
    row = services.service(name)
    subject = row.subject(bus.node)
    try:
        with bus_errors(f"ask {subject}"):
            found = await bus.client.request(subject, encode(question), timeout=within_s)
    except BusError as error:
        if isinstance(error.__cause__, nats.errors.NoRespondersError):
            raise nobody(row, bus.node) from error
        raise
    headers = found.headers or {}
    if code := headers.get(ERROR_CODE_HEADER):
        raise refusal(name, code, headers.get(ERROR_HEADER, ""))
    return decode(found.data, row.reply)
