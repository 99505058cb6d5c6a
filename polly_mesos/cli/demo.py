"""``polly demo``: a task finds its data again, shown step by step on a real Mesos on this machine."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import click

from polly_mesos.cli.local import show_progress
from polly_mesos.demo.console import Narrator
from polly_mesos.demo.directory import DemoDirectory
from polly_mesos.demo.errors import DemoFailed
from polly_mesos.demo.run import Demo, end
from polly_mesos.errors import PollyError
from polly_mesos.mesos.local.isolation import Wanted


@click.command(
    epilog="""\b
Examples:
  polly demo
  polly demo --keep --dir /tmp/demo
  polly demo --stop --dir /tmp/demo"""
)
@click.option(
    "--dir",
    "path",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept; by default a temporary directory, removed when all went well.",
)
@click.option("--agents", type=click.IntRange(1, 20), default=2, show_default=True, help="How many Mesos agents.")
@click.option(
    "--isolation",
    type=click.Choice(get_args(Wanted)),
    default="auto",
    show_default=True,
    help="Mesos' isolation; linux needs root.",
)
@click.option("--keep", is_flag=True, help="Leave everything running at the end, and say where.")
@click.option("--stop", is_flag=True, help="End what --keep left running in --dir.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end; the steps go to stderr.")
def demo(path: Path | None, agents: int, isolation: Wanted, keep: bool, stop: bool, as_json: bool) -> None:
    """Start Mesos and Polly, and see a framework's task find its data again.

    Everything listens on 127.0.0.1 only. Nothing is left behind, except the logs where something failed.
    """
    if stop:
        _stop(path)
        return
    directory = DemoDirectory.prepare(path)
    with Narrator(sys.stderr if as_json else sys.stdout) as narrator, show_progress() as progress:
        running = Demo(directory, agents=agents, isolation=isolation, narrator=narrator, progress=progress)
        try:
            _run(running, keep=keep)
        except PollyError as error:
            logs = [str(log) for log in running.logs()]
            if as_json:
                click.echo(json.dumps({"ok": False, "error": error.as_json(), "logs": logs}, indent=2))
            _keep_logs(directory, logs, narrator)
            raise
        except KeyboardInterrupt:
            directory.remove()
            raise
        addresses = running.addresses() if keep else {}
        if as_json:
            click.echo(json.dumps({"ok": True, **running.report.as_json(), "addresses": addresses}, indent=2))
        else:
            narrator.finish(running.report, addresses)
        if not keep:
            directory.remove()


def _run(running: Demo, *, keep: bool) -> None:
    """Run it, and end it unless it went well and is to be kept."""
    kept = False
    with _interrupted_by_sigterm():
        try:
            running.run()
            running.check_ledger()
            kept = keep
        finally:
            if not kept:
                with _uninterrupted():
                    running.end()
    if not kept:
        running.check_nothing_left()


def _keep_logs(directory: DemoDirectory, logs: list[str], narrator: Narrator) -> None:
    if logs:
        narrator.say("\n".join(["The logs are kept:", *(f"  {log}" for log in logs)]))
    else:
        directory.remove()


def _stop(path: Path | None) -> None:
    if path is None:
        raise click.UsageError("--stop needs --dir, the directory that --keep named")
    directory = DemoDirectory(path.expanduser().resolve())
    if directory.load() is None:
        raise DemoFailed(f"no demo is in {directory.path}")
    end(directory)
    directory.remove()
    click.echo("The demo is ended, and nothing is left of it.")


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM clean up as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Finish the cleaning up, however impatient the user is."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
