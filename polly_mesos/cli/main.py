"""The ``polly`` command: its subcommands, and how errors are told."""

from __future__ import annotations

import importlib
import json
import sys

import click

from polly_mesos import __version__
from polly_mesos.errors import PollyError

# name -> (module:attribute, one line of help); loaded when used, so that `polly --help` is quick.
_COMMANDS = {
    "agent": ("polly_mesos.cli.agent:agent", "The executor half: run it by hand, list agents."),
    "check": ("polly_mesos.cli.check:check", "Compare ledger, platforms, master and hosts; repair what is safe."),
    "config": ("polly_mesos.cli.configuration:config", "Check a polly.yml."),
    "demo": ("polly_mesos.cli.demo:demo", "See a task find its data again, on a real Mesos on this machine."),
    "events": ("polly_mesos.cli.events:events", "What happened, and what happens now."),
    "faults": ("polly_mesos.cli.faults:faults", "The places at which Polly can be made to fail, for tests."),
    "ledger": ("polly_mesos.cli.ledger:ledger", "Show, check, copy, restore and rebuild the ledger."),
    "local": ("polly_mesos.cli.local:local", "A real Mesos on this machine."),
    "operation": ("polly_mesos.cli.records:operation", "The journal of every change."),
    "pool": ("polly_mesos.cli.records:pool", "The capacity behind each profile."),
    "service": ("polly_mesos.cli.service:service", "The storage platforms: prove a configuration without harm."),
    "serve": ("polly_mesos.cli.serve:serve", "Run the scheduler half."),
    "volume": ("polly_mesos.cli.volume:volume", "List, create, adopt and delete volumes."),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(_COMMANDS.items())])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples:  polly demo  ·  polly serve --config polly.yml  ·  polly volume list",
)
@click.version_option(__version__, prog_name="polly")
def polly() -> None:
    """Polly gives Mesos frameworks storage the way they get CPU and memory: as offers."""


def main() -> None:
    """Run the command line; an expected error is told in one or two lines and sets the exit status."""
    try:
        polly(standalone_mode=False)
    except PollyError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(130)


def _tell(error: PollyError) -> None:
    if "json" in sys.argv[1:] or "--json" in sys.argv[1:] or "--format=json" in sys.argv[1:]:
        click.echo(json.dumps({"error": error.as_json()}), err=True)
        return
    click.echo(f"Error: {error.message}", err=True)
    if error.remedy:
        click.echo(f"  {error.remedy}", err=True)
