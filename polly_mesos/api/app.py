"""The scheduler half's HTTP server: admin API, agent API, OpenAPI, and one shape for every error."""

from __future__ import annotations

import logging

from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from polly_mesos import __version__
from polly_mesos.api import admin, agent, agents, check, events, metrics
from polly_mesos.audit.service import AuditService
from polly_mesos.errors import InvalidRequest, PollyError
from polly_mesos.scheduler.half import SchedulerHalf

log = logging.getLogger(__name__)


def create_app(half: SchedulerHalf, operator_token: str) -> FastAPI:
    """The application over a scheduler half.

    :param operator_token: what callers must show to change anything through the admin API
    """
    app = FastAPI(
        title="Polly",
        version=__version__,
        summary="Storage as Mesos offers.",
        description="Sizes are bytes. Errors are JSON with `code`, `message`, `remedy` and `retryable`.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.half = half
    app.state.operator_token = operator_token
    app.state.audit = AuditService(half)
    app.state.audit_turn = CapacityLimiter(1)
    app.state.metrics = metrics.Metrics(half, app.state.audit.drift)
    # Before the volumes' own routes, one of which takes any name.
    app.include_router(check.router)
    app.include_router(admin.router)
    app.include_router(agents.router)
    app.include_router(events.router)
    app.include_router(metrics.router)
    app.include_router(agent.router)
    app.add_exception_handler(PollyError, _polly_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    return app


async def _polly_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PollyError)
    if error.http_status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse(error.as_json(), status_code=error.http_status)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    mistake = InvalidRequest(f"{field}: {first['msg']}", field=field, value=first.get("input"), remedy="see /docs")
    return JSONResponse(mistake.as_json(), status_code=mistake.http_status)
