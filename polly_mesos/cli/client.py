"""The admin API as the command line uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx

from polly_mesos.agent_api import error_from_json
from polly_mesos.errors import SchedulerUnreachable

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_URL = "http://127.0.0.1:7979"


def scheduler_option(command: Command) -> Command:
    """``--scheduler URL``."""
    return click.option(
        "--scheduler",
        default=DEFAULT_URL,
        show_default=True,
        envvar="POLLY_SCHEDULER",
        help="URL of the scheduler half. [env: POLLY_SCHEDULER]",
    )(command)


def token_option(command: Command) -> Command:
    """``--token-file FILE``, for commands that change something."""
    return click.option(
        "--token-file",
        required=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="POLLY_TOKEN_FILE",
        help="The operator's token: the file operator-token beside the ledger. [env: POLLY_TOKEN_FILE]",
    )(command)


def request(
    scheduler: str,
    method: str,
    path: str,
    *,
    token_file: Path | None = None,
    body: Any = None,
    query: Any = None,
    timeout: float = 30.0,
) -> Any:
    """Call the admin API and return the decoded answer.

    :param timeout: seconds to wait for the answer
    :raises SchedulerUnreachable: nothing answers
    :raises PollyError: what the scheduler half answered, as the error it was
    """
    headers = {}
    if token_file is not None:
        headers["Authorization"] = f"Bearer {token_file.read_text().strip()}"
    try:
        answer = httpx.request(
            method, scheduler.rstrip("/") + path, json=body, params=query, headers=headers, timeout=timeout
        )
    except httpx.HTTPError as error:
        raise SchedulerUnreachable(
            f"no scheduler half answers at {scheduler}: {error}",
            remedy="start `polly serve`, or name it by --scheduler",
        ) from error
    if answer.status_code >= 400:
        raise error_from_json(answer.json())
    return answer.json() if answer.content else None
