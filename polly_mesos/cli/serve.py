"""``polly serve``: runs the scheduler half."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path

import click
import structlog

from polly_mesos import faults
from polly_mesos.config import load

log = logging.getLogger(__name__)

_LEVELS = ["debug", "info", "warning", "error"]


def start_logging(level: str, output: str) -> None:
    """One line per event on standard error: readable, or JSON."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if output == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            # rich's tracebacks show local variables, tokens among them
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("alembic", "asyncio", "httpx", "httpcore", "kazoo", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@click.command(
    epilog="""\b
Examples:
  polly serve --config /etc/polly/polly.yml
  polly serve --config polly.yml --log-level debug --log-format json
"""
)
@click.option(
    "--config",
    "config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("/etc/polly/polly.yml"),
    show_default=True,
    help="The configuration.",
)
@click.option(
    "--new-framework",
    is_flag=True,
    help="Register as a new framework: for when Mesos has removed the old one. Volumes and data stay.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def serve(config: Path, new_framework: bool, log_level: str, log_format: str) -> None:
    """Run the scheduler half: register with Mesos, keep the ledger, serve agents and operators.

    Runs until SIGTERM or SIGINT. Stopping it leaves executors, mounts and running tasks alone.
    """
    configuration = load(config)
    start_logging(log_level, log_format)
    for note in configuration.notes:
        log.warning("%s", note)
    faults.check_environment()
    # Late, so that `polly --help` and the other commands do not load the servers.
    from polly_mesos.api.server import ApiServer
    from polly_mesos.scheduler.half import SchedulerHalf

    half = SchedulerHalf(configuration, new_framework=new_framework)
    server = ApiServer(half)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: half.ask_to_stop())
    try:
        half.start()
        server.start()
        half.connect()
        half.run()
    finally:
        server.stop()
        half.stop()
