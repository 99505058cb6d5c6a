"""How the routes reach the scheduler half."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from polly_mesos.scheduler.half import SchedulerHalf


def half_of(request: Request) -> SchedulerHalf:
    """The scheduler half of the application that a request came to."""
    half: SchedulerHalf = request.app.state.half
    return half


Half = Annotated[SchedulerHalf, Depends(half_of)]
