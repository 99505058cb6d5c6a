"""Serves the application over a scheduler half, in a thread of its own."""

from __future__ import annotations

import os
import secrets
import threading
import time
from pathlib import Path

import uvicorn

from polly_mesos.api.app import create_app
from polly_mesos.audit.service import AuditService
from polly_mesos.errors import ConfigurationError
from polly_mesos.scheduler.half import SchedulerHalf

_START_SECONDS = 15.0


def operator_token_file(ledger: Path) -> Path:
    """Where the operator's token lies: beside the ledger, readable by its owner only."""
    return ledger.parent / "operator-token"


def operator_token(ledger: Path) -> str:
    """The operator's token, made at the first start."""
    path = operator_token_file(ledger)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


class ApiServer:
    """uvicorn over :func:`create_app`."""

    def __init__(self, half: SchedulerHalf) -> None:
        configuration = half.configuration
        self._host, self._port = configuration.http.address
        self._board = half.board
        app = create_app(half, operator_token(configuration.ledger.path))
        self._audit: AuditService = app.state.audit
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=self._host,
                port=self._port,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:
            # uvicorn exits the process where it cannot listen; start() says so instead.
            return

    def start(self) -> None:
        """Listen.

        :raises ConfigurationError: the address cannot be listened on
        """
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConfigurationError(
                    f"cannot listen on {self._host}:{self._port}",
                    field="http.listen",
                    value=f"{self._host}:{self._port}",
                    remedy="is another scheduler running? else choose a free address",
                )
            time.sleep(0.01)
        self._audit.start()

    def stop(self) -> None:
        """Finish the running requests and stop listening."""
        self._server.should_exit = True
        self._audit.stop()
        # executors wait for changes in long requests
        self._board.close()
        if self._thread.ident is not None:
            self._thread.join(timeout=10.0)
