"""The two ways in which the executor half runs: started by a Mesos agent, or by hand beside one."""

from __future__ import annotations

import logging
import signal
import stat
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from polly_mesos import faults
from polly_mesos.agent_api import Summons, Welcome
from polly_mesos.errors import ConfigurationError, PollyError
from polly_mesos.executor import logs
from polly_mesos.executor.agent_view import MesosAgent
from polly_mesos.executor.half import ExecutorHalf, Provider
from polly_mesos.executor.holdings import records_below
from polly_mesos.executor.linux import LinuxHost
from polly_mesos.executor.mesos_executor import PollyExecutor
from polly_mesos.executor.provider_handler import ProviderHandler
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.mesos.agent_client import AgentClient
from polly_mesos.mesos.executor_driver import ExecutorDriver
from polly_mesos.mesos.provider import ProviderIdentity, ResourceProvider

log = logging.getLogger(__name__)

_TOKEN_CHECK_SECONDS = 2.0


def executor_half(client: SchedulerClient, endpoint: str, *, process: str = "", build: str = "") -> ExecutorHalf:
    """The executor half for the agent at ``endpoint`` (``host:port``), on this host.

    :param process: the agent's libprocess id, where it is not the usual one
    :param build: name of the artifact that runs
    """
    agent = AgentClient(endpoint, process=process or "slave(1)")

    def make_provider(handler: ProviderHandler, welcome: Welcome) -> Provider:
        identity = ProviderIdentity(
            welcome.provider_type, welcome.provider_name, id=welcome.provider_id, agent_id=handler.agent_id
        )
        # Named by the agent: several agents on one host, as tests have them, may share a volume root.
        lock_path = records_below(welcome.volume_root) / f"provider-{endpoint.replace(':', '-')}.lock"
        return ResourceProvider(agent, handler, identity, lock_path=lock_path, settle=welcome.settle)

    return ExecutorHalf(client, MesosAgent(agent), LinuxHost(), make_provider, node=endpoint, build=build)


def run_under_mesos(environment: Mapping[str, str]) -> int:
    """Serve the agent that started this process until it, or SIGTERM, ends the task; returns the exit status.

    :param environment: what the agent set (MESOS_SLAVE_PID, MESOS_AGENT_ENDPOINT, ...)
    """
    logs.log_to()
    try:
        faults.check_environment(environment)
    except ConfigurationError as error:
        log.error("%s", error)
        return error.exit_code
    client = SchedulerClient()

    def make_half() -> ExecutorHalf:
        return executor_half(
            client, driver.endpoint, process=driver.agent_path.strip("/"), build=Path(sys.argv[0]).name
        )

    executor = PollyExecutor(client, make_half)
    try:
        driver = ExecutorDriver(executor, environment)
    except ConfigurationError as error:
        log.error("%s", error)
        return error.exit_code
    executor.bind(driver)
    signal.signal(signal.SIGTERM, lambda number, frame: executor.end_soon("the executor was sent SIGTERM"))
    driver.start()
    driver.join()
    return 0


def run_standalone(agent: str, scheduler: str, token_file: Path, *, verbose: bool = False) -> None:
    """Serve the agent at ``agent`` (``host:port``) until SIGTERM or SIGINT; what is mounted then stays mounted.

    :param scheduler: URL of the scheduler half
    :param token_file: holds the token, readable by its owner only; read again whenever the token is refused
    :raises ConfigurationError: the token's file or an address is not usable
    """
    logs.log_to(verbose=verbose)
    faults.check_environment()
    client = SchedulerClient()
    client.summon(Summons(scheduler, read_token(token_file)))
    half = executor_half(client, agent)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopping.set())
    half.start()
    while not stopping.wait(_TOKEN_CHECK_SECONDS):
        if not client.summoned:
            try:
                client.summon(Summons(scheduler, read_token(token_file)))
            except PollyError as error:
                log.error("%s", error)
    log.info("stopping; what is mounted stays mounted")
    half.stop()


def read_token(path: Path) -> str:
    """The token in a file that nobody but its owner can read.

    :raises ConfigurationError: it cannot be read, is empty, or others can read it
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        token = path.read_text().strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the token's file {path} cannot be read: {error}",
            field="token_file",
            value=path,
            remedy="write the token that the scheduler half gave for this agent into it",
        ) from error
    if mode & 0o077:
        raise ConfigurationError(
            f"the token's file {path} can be read or written by others (mode {mode:04o})",
            field="token_file",
            value=path,
            remedy=f"chmod 0600 {path}",
        )
    if not token:
        raise ConfigurationError(f"the token's file {path} is empty", field="token_file", value=path)
    return token
