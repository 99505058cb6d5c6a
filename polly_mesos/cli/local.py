"""``polly local``: a real Mesos on this machine, to try things and to test against."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from polly_mesos.cli.output import format_option, show
from polly_mesos.mesos.local.cluster import LocalCluster, NetworkKind
from polly_mesos.mesos.local.isolation import Wanted
from polly_mesos.mesos.local.nodes import LocalNode
from polly_mesos.mesos.local.progress import Progress, Step
from polly_mesos.mesos.local.status import ClusterStatus

_AGENTS = {
    "name": "AGENT",
    "endpoint": "ENDPOINT",
    "process": "PROCESS",
    "registered": "REGISTERED",
    "agent_id": "AGENT ID",
    "log": "LOG",
}


def default_directory() -> Path:
    """Where the cluster is kept unless ``--dir`` says: below ``XDG_STATE_HOME`` or ``~/.local/state``."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "polly-mesos" / "local"


def _directory_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_directory,
        envvar="POLLY_LOCAL_DIR",
        show_default="~/.local/state/polly-mesos/local",
        help="Where the cluster keeps everything. [env: POLLY_LOCAL_DIR]",
    )(command)


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Steps on stderr: bars for downloads on a terminal, else a plain line for each new step."""
    if not sys.stderr.isatty():
        last = ""

        def line(step: Step) -> None:
            nonlocal last
            if step.text != last:
                last = step.text
                click.echo(step.text, err=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        downloads: dict[str, TaskID] = {}

        def draw(step: Step) -> None:
            if step.total is None and not step.done:
                bars.console.print(step.text, style="dim")
                return
            if step.text not in downloads:
                downloads[step.text] = bars.add_task(step.text, total=step.total)
            bars.update(downloads[step.text], completed=step.done)

        yield draw


@click.group()
def local() -> None:
    """A real Mesos on this machine: a master and agents as ordinary processes."""


@local.command(
    epilog="Examples:  polly local up  ·  polly local up --agents 3 --port 5050 --dir /tmp/mesos --isolation posix  ·  "
    "polly local up --zookeeper --network namespaces"
)
@click.option("--agents", type=click.IntRange(0, 1000), default=2, show_default=True, help="How many agents.")
@_directory_option
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5050, show_default=True, help="The master's port; 0: a free one."
)
@click.option(
    "--isolation",
    type=click.Choice(get_args(Wanted)),
    default="auto",
    show_default=True,
    help="linux: mount namespaces and control groups, as root; posix: plain processes; auto: linux where it can be.",
)
@click.option("--zookeeper", is_flag=True, help="Start a ZooKeeper too (Debian's), which elects the master.")
@click.option(
    "--network",
    type=click.Choice(get_args(NetworkKind)),
    default="host",
    show_default=True,
    help="namespaces: an address for each node, and links that can be cut, as root.",
)
@format_option
def up(
    *, agents: int, directory: Path, port: int, isolation: Wanted, zookeeper: bool, network: NetworkKind, output: str
) -> None:
    """Start the cluster. The first time, Mesos is downloaded from the configured Python index."""
    cluster = LocalCluster(
        directory, agents=agents, port=port, isolation=isolation, zookeeper=zookeeper, network=network
    )
    with show_progress() as progress:
        cluster.up(progress)
    _show(cluster.status(), output)


@local.command(epilog="Example:  polly local status --format json")
@_directory_option
@format_option
def status(directory: Path, output: str) -> None:
    """Show the cluster."""
    _show(LocalCluster(directory).status(), output)


@local.command(epilog="Example:  polly local down")
@_directory_option
def down(directory: Path) -> None:
    """End the cluster with all its tasks. Logs and sandboxes stay until it is started again."""
    cluster = LocalCluster(directory)
    was_up = cluster.status().up
    cluster.down()
    click.echo(f"The local Mesos in {cluster.directory} is {'down' if was_up else 'not up'}.")


_PROCESS = ("start", "stop", "kill", "pause", "resume")
_HOST = ("power-off", "wipe", "cleanup")


@local.command(epilog="Examples:  polly local agent agent-1 kill  ·  polly local agent agent-1 start")
@click.argument("name")
@click.argument("action", type=click.Choice([*_PROCESS, *_HOST]))
@_directory_option
@format_option
def agent(name: str, action: str, directory: Path, output: str) -> None:
    """Control one agent's process, or its host.

    start, stop (SIGTERM), kill (SIGKILL), pause (SIGSTOP) and resume are about the process alone: its state and its
    tasks stay. power-off ends all that runs on its host. wipe removes the work directory of an agent that does not run.
    cleanup starts one that does not run as a new agent, after --recover=cleanup.
    """
    cluster = LocalCluster(directory)
    chosen = cluster.agent(name)
    if action == "cleanup":
        chosen.start(cleanup=True)
    elif action in _HOST:
        {"power-off": chosen.power_off, "wipe": chosen.wipe}[action]()
    else:
        _control(chosen, action)
    _show(cluster.status(), output)


@local.command(epilog="Examples:  polly local master kill  ·  polly local master start")
@click.argument("action", type=click.Choice(_PROCESS))
@_directory_option
@format_option
def master(action: str, directory: Path, output: str) -> None:
    """Control the master's process. With --zookeeper its registry survives it."""
    cluster = LocalCluster(directory)
    _control(cluster.master_node, action)
    _show(cluster.status(), output)


@local.command(epilog="Example:  polly local zookeeper pause")
@click.argument("action", type=click.Choice(_PROCESS))
@_directory_option
@format_option
def zookeeper(action: str, directory: Path, output: str) -> None:
    """Control ZooKeeper's process. A master that misses it for longer than its session ends itself."""
    cluster = LocalCluster(directory)
    _control(cluster.zookeeper_node, action)
    _show(cluster.status(), output)


def _control(node: LocalNode, action: str) -> None:
    actions: dict[str, Callable[[], None]] = {
        "start": node.start,
        "stop": node.stop,
        "kill": node.kill,
        "pause": node.pause,
        "resume": node.resume,
    }
    actions[action]()


@local.command(epilog="Examples:  polly local cut master agent-1  ·  polly local cut scheduler agent-2")
@click.argument("one")
@click.argument("other")
@_directory_option
def cut(one: str, other: str, directory: Path) -> None:
    """Lose all that two of master, zookeeper, the agents and scheduler (this machine) send to each other.

    Needs a cluster with --network namespaces.
    """
    cluster = LocalCluster(directory)
    cluster.cut(one, other)
    _show_cuts(cluster)


@local.command(epilog="Examples:  polly local heal master agent-1  ·  polly local heal")
@click.argument("links", nargs=-1, metavar="[ONE OTHER]")
@_directory_option
def heal(links: tuple[str, ...], directory: Path) -> None:
    """Mend one link, or all."""
    cluster = LocalCluster(directory)
    if len(links) not in (0, 2):
        raise click.UsageError("Name both ends of the link, or none to heal all.")
    if links:
        cluster.heal(*links)
    else:
        cluster.heal_all()
    _show_cuts(cluster)


def _show_cuts(cluster: LocalCluster) -> None:
    cuts = [f"{one} - {other}" for one, other in cluster.cuts()]
    click.echo(f"Cut: {', '.join(cuts)}" if cuts else "All links are whole.")


def _show(found: ClusterStatus, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(asdict(found), indent=2, default=str))
        return
    if not found.up:
        click.echo(f"No local Mesos is up in {found.directory}. Start one: polly local up --dir {found.directory}")
        return
    click.echo(f"Master     http://{found.master}  ({_process(found.pid, found.alive)})")
    if found.master_url != found.master:
        click.echo(f"ZooKeeper  {found.master_url}")
    click.echo(f"Isolation  {found.isolation_reason}")
    click.echo(f"Directory  {found.directory}\n")
    rows = [
        {
            **asdict(one),
            "process": _process(one.pid, one.alive, one.paused),
            "registered": "yes" if one.registered else "no",
        }
        for one in found.agents
    ]
    show(rows, _AGENTS, output, empty="No agents.")


def _process(pid: int, alive: bool, paused: bool = False) -> str:
    if not alive:
        return "not running"
    return f"pid {pid}, paused" if paused else f"pid {pid}"
