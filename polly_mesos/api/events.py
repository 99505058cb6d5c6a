"""The admin API's route for events: read, or followed."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import BaseModel

from polly_mesos.api.context import Half
from polly_mesos.model import Event, Json, Severity

router = APIRouter(tags=["operators"])

_LONGEST_WAIT = 60.0
_LOOK_EVERY = 0.25


class EventView(BaseModel):
    """Something that happened. ``number`` grows with every event: the next request asks for what comes after it."""

    number: int
    time: float
    severity: Severity
    kind: str
    subject: str
    message: str
    detail: Json

    @classmethod
    def of(cls, event: Event) -> EventView:
        """From the ledger's record."""
        return cls(**{name: getattr(event, name) for name in cls.model_fields})


@router.get("/v1/events")
async def events(
    half: Half,
    after: Annotated[int | None, Query(ge=0, description="only later ones; without it, the newest")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    kind: Annotated[list[str] | None, Query(description="only these kinds; may be given more than once")] = None,
    subject: str | None = None,
    wait: Annotated[float, Query(ge=0, description="seconds to wait for one, where there is none yet")] = 0.0,
) -> list[EventView]:
    """Events in the order in which they happened."""
    deadline = time.monotonic() + min(wait, _LONGEST_WAIT)
    while True:
        found = await to_thread.run_sync(
            lambda: half.ledger.events(after=after, limit=limit, kinds=kind, subject=subject)
        )
        left = deadline - time.monotonic()
        if found or left <= 0 or half.board.closed:
            return [EventView.of(event) for event in found]
        await asyncio.sleep(min(_LOOK_EVERY, left))
