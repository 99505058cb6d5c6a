"""``polly agent``: the executor half run by hand, and what the scheduler half knows of agents."""

from __future__ import annotations

from pathlib import Path

import click

from polly_mesos.cli.client import scheduler_option
from polly_mesos.cli.records import agent_fence, agent_list, agent_register


def _endpoint(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise click.BadParameter(f"{value!r} is not HOST:PORT, as 10.0.0.7:5051")
    return value


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  polly agent register 10.0.0.7:5051 --token-file operator-token > executor-token
  polly agent --agent 10.0.0.7:5051 --scheduler http://10.0.0.2:7979 --token-file executor-token
  polly agent list
  polly agent fence 10.0.0.7:5051
""",
)
@click.option(
    "--agent", "endpoint", metavar="HOST:PORT", callback=_endpoint, help="The Mesos agent on this host that is served."
)
@scheduler_option
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="This agent's token, as `polly agent register` prints it; mode 0600.",
)
@click.option("--verbose", is_flag=True, help="Log every step.")
@click.pass_context
def agent(context: click.Context, endpoint: str | None, scheduler: str, token_file: Path | None, verbose: bool) -> None:
    """Run the executor half beside a Mesos agent that does not launch it, until SIGTERM.

    What is mounted stays mounted when it ends: tasks may be using it.
    """
    if context.invoked_subcommand is not None:
        if endpoint or token_file or verbose:
            raise click.UsageError(
                f"--agent, --token-file and --verbose belong to the running half, not before "
                f"{context.invoked_subcommand!r}; give that command's own options after it"
            )
        return
    if endpoint is None or token_file is None:
        raise click.UsageError("running the executor half needs --agent HOST:PORT and --token-file FILE")
    # Imported here, as listing agents has no use for it.
    from polly_mesos.executor.run import run_standalone

    run_standalone(endpoint, scheduler, token_file, verbose=verbose)


agent.add_command(agent_fence)
agent.add_command(agent_list)
agent.add_command(agent_register)
