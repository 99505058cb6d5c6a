"""The scheduler half, assembled: ledger, services, volume controller, planner and framework.

Parts start in the order in which they need each other and stop in the reverse. Nothing is lost where it is stopped
hard: whatever was begun is in the ledger, and the next start finishes it. HTTP stands on top, in
:mod:`polly_mesos.api.server`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pwd
import threading
import time

from polly_mesos import __version__, faults
from polly_mesos.agent_api import Welcome
from polly_mesos.config import Configuration, Isolation, Policy
from polly_mesos.errors import ConfigurationError, FrameworkRefused, UnknownAgent
from polly_mesos.ledger import Ledger
from polly_mesos.mesos.agent_client import AgentClient
from polly_mesos.mesos.master_client import MasterClient
from polly_mesos.mesos.scheduler_driver import SchedulerDriver
from polly_mesos.model import Agent, AgentState, Json, VolumeState
from polly_mesos.scheduler import artifact
from polly_mesos.scheduler.admission import Admission
from polly_mesos.scheduler.arrivals import Arrivals
from polly_mesos.scheduler.board import Board
from polly_mesos.scheduler.controller import VolumeController
from polly_mesos.scheduler.evacuation import Evacuation
from polly_mesos.scheduler.failover import Failover
from polly_mesos.scheduler.fencing import Fencing
from polly_mesos.scheduler.framework import Framework
from polly_mesos.scheduler.hosts import HostViews
from polly_mesos.scheduler.placement import AgentFacts, ExecutorSettings
from polly_mesos.scheduler.planning import Planning
from polly_mesos.scheduler.presence import Presence
from polly_mesos.scheduler.publications import Publications
from polly_mesos.scheduler.renewal import Renewal
from polly_mesos.scheduler.roster import Roster
from polly_mesos.scheduler.secrets import Secrets
from polly_mesos.scheduler.services import Services
from polly_mesos.scheduler.tokens import Tokens
from polly_mesos.scheduler.watch import AgentWatch

log = logging.getLogger(__name__)

PROVIDER_TYPE = "org.polly.mesos"
"""ResourceProviderInfo.type of our providers."""

_TICK = 0.5
_COMPLAIN_EVERY = 10.0
_CAPABILITIES = ("MULTI_ROLE", "PARTITION_AWARE", "REGION_AWARE", "RESERVATION_REFINEMENT")


class SchedulerHalf:
    """One scheduler half over one ledger.

    :param new_framework: forget the stored framework id and register as a new framework
    """

    def __init__(self, configuration: Configuration, *, new_framework: bool = False) -> None:
        self.configuration = configuration
        self.ledger = Ledger.open(configuration.ledger.path, configuration.cluster)
        try:
            self._build(new_framework)
        except BaseException:
            self.ledger.close()
            raise

    def _build(self, new_framework: bool) -> None:
        configuration = self.configuration
        if new_framework:
            self.ledger.set_framework_id("")
        self.profiles = configuration.profiles
        self._check_profiles()
        self.services = Services(configuration)
        self.board = Board()
        self.hosts = HostViews()
        self.roster = Roster()
        self.tokens = Tokens(self.ledger)
        self.controller = VolumeController(self.ledger, self.services, cluster=configuration.cluster)
        self.planning = Planning(
            self.ledger,
            configuration.planner,
            self.profiles,
            self.services.pools,
            self.board.changed,
            draining=self.roster.draining,
        )
        self.admission = Admission(
            self.ledger,
            self.profiles,
            shared=configuration.planner.policy is Policy.SHARED,
            on_volume=self.controller.look_at,
        )
        self._secrets = Secrets(self.services.secrets, lambda agent: self.board.changed([agent]))
        self.publications = Publications(self.ledger, self.profiles, self.controller.look_at, self._secrets.of)
        self.artifact = artifact.build(frozenset(service.driver for service in self.services.host_services()))
        presence = Presence(self.ledger, self.roster, patience=configuration.agents.fence_after)
        self.arrivals = Arrivals(
            self.ledger,
            self.roster,
            self.hosts,
            changed=self.board.changed,
            plan=self.planning.look,
            known_host=self.services.known_host,
        )
        self.framework = Framework(
            self.ledger,
            self.tokens,
            role=configuration.mesos.role,
            agents=configuration.agents,
            settings=self._executor_settings(),
            scheduler_url=configuration.http.url,
            isolates=self._isolates,
            presence=presence,
        )
        self.fencing = Fencing(
            self.ledger, self.services, self.controller.look_at, patience=configuration.agents.fence_after
        )
        evacuation = Evacuation(self.ledger, self.profiles, self.roster.draining, self.fencing.fenced_services)
        self.failover = Failover(
            self._master_client, self.roster, self.framework, self.fencing, evacuation, self.planning.look
        )
        self.renewal = Renewal(self.artifact.name, self.framework.end_executor)
        self._watch = AgentWatch(self._master_client, self.framework.agent_seen)
        self._driver: SchedulerDriver | None = None
        self._stopping = threading.Event()
        self.ledger.on_change(self.board.changed)

    def _check_profiles(self) -> None:
        """Refuse a configuration that has forgotten a profile in which data lives."""
        used = {balance.pool for balance in self.ledger.balance().values() if balance.volumes}
        if used <= self.profiles.keys():
            return
        for volume in self.ledger.volumes(states=set(VolumeState) - {VolumeState.DELETED}):
            if volume.pool not in self.profiles:
                zone = volume.pool.removeprefix(f"{volume.profile}.")
                where = "" if volume.pool == volume.profile else f" for zone {zone}"
                raise ConfigurationError(
                    f"profile {volume.profile!r} is not configured{where},"
                    f" and volume {volume.id} is in pool {volume.pool!r}",
                    field="profiles",
                    value=volume.profile,
                    remedy="put the profile back into polly.yml as it was, or delete its volumes first",
                )

    def _executor_settings(self) -> ExecutorSettings:
        agents = self.configuration.agents
        return ExecutorSettings(
            name=self.configuration.mesos.name,
            cpus=agents.cpus,
            memory=agents.mem,
            python=agents.python,
            user=self._user(),
            artifact=f"{self.configuration.http.url}/agent/v1/artifact/{self.artifact.name}",
            # Faults of the executor half are armed here, where an operator can reach the environment.
            environment={name: os.environ[name] for name in (faults.VARIABLE,) if name in os.environ},
        )

    def _user(self) -> str:
        return self.configuration.mesos.user or pwd.getpwuid(os.geteuid()).pw_name

    # Life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to plan and to work off what the ledger has left to do. Mesos is not called yet."""
        self.planning.start()
        self.controller.start()

    def connect(self) -> None:
        """Register with Mesos. Returns at once; the driver goes on trying while no master answers."""
        mesos = self.configuration.mesos
        secret = mesos.secret.get_secret_value() if mesos.secret is not None else None
        self._driver = SchedulerDriver(
            self.framework,
            self._framework_info(),
            mesos.master,
            principal=mesos.principal or None,
            secret=secret,
        )
        self.framework.bind(self._driver)
        self._driver.start()
        self._watch.start()
        self.failover.start()

    def run(self) -> None:
        """Work until :meth:`ask_to_stop`.

        :raises FrameworkRefused: the master will not have us
        """
        complain_at = time.monotonic() + _COMPLAIN_EVERY
        while not self._stopping.wait(_TICK):
            self.framework.tick()
            self.renewal.tick()
            self._check_refusal()
            if self.framework.connected.is_set():
                complain_at = time.monotonic() + _COMPLAIN_EVERY
            elif time.monotonic() >= complain_at:
                complain_at += _COMPLAIN_EVERY
                log.error(
                    "no Mesos master answers at %s; check mesos.master in polly.yml and the master's log; still trying",
                    self.configuration.mesos.master,
                )

    def _check_refusal(self) -> None:
        reason = self.framework.refused_with
        if not reason:
            return
        stored = self.ledger.framework_id()
        removed = "removed" in reason or "complete" in reason.lower()
        raise FrameworkRefused(
            f"master {self.configuration.mesos.master} refuses framework {stored or '(new)'}: {reason}",
            remedy="the stored framework id is used up; start once with --new-framework, volumes and data stay"
            if stored and removed
            else "check mesos.role, mesos.principal and its secret in polly.yml, and the master's ACLs",
        )

    def ask_to_stop(self) -> None:
        """End :meth:`run`; safe to call from a signal handler."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop all parts. Executors, volumes and the framework's registration stay."""
        self._stopping.set()
        self._watch.stop()
        self.failover.stop()
        if self._driver is not None:
            self._driver.stop()
            self._driver.join()
        self.planning.stop()
        self.services.close()
        self._secrets.close()
        self.controller.stop()
        self.ledger.close()

    # What the HTTP routes ask -----------------------------------------------------------------------------------

    def welcome(self, agent: Agent) -> Welcome:
        """The answer to an executor's hello."""
        agents = self.configuration.agents
        provider = self.ledger.provider(agent.id)
        return Welcome(
            provider_type=PROVIDER_TYPE,
            provider_name=self.configuration.cluster,
            provider_id=provider.id if provider is not None else "",
            services=self.services.host_services(),
            volume_root=agent.volume_root,
            unpublish_grace=agents.unpublish_grace,
            settle=agents.settle,
            allow_scratch=agents.allow_scratch,
        )

    def health(self) -> Json:
        """The state of the half: ``ok`` when Mesos has us, ``degraded`` while it has not."""
        connected = self.framework.connected.is_set()
        return {
            "status": "ok" if connected else "degraded",
            "version": __version__,
            "cluster": self.configuration.cluster,
            "master": self.configuration.mesos.master,
            "registered": connected,
            "framework_id": self.ledger.framework_id(),
        }

    def register(self, endpoint: str) -> Agent:
        """Make an agent known whose executor half is started by hand, and say where its volumes go.

        :raises AgentUnreachable: nothing answers at ``endpoint``
        """
        client = AgentClient(endpoint)
        agent_id = client.agent_id()
        hostname, _, port = endpoint.rpartition(":")
        facts = AgentFacts(agent_id, client.flags().get("hostname", hostname), endpoint, {})
        try:
            known = self.ledger.agent(agent_id)
        except UnknownAgent:
            known = Agent(agent_id, facts.hostname, endpoint, AgentState.CHOSEN)
        root = self.configuration.agents.root_on(facts.hostname, int(port))
        agent = dataclasses.replace(known, endpoint=endpoint, volume_root=root, standalone=True)
        self.ledger.put_agent(agent)
        return agent

    # ------------------------------------------------------------------------------------------------------------

    def _framework_info(self) -> Json:
        mesos = self.configuration.mesos
        info: Json = {
            "name": mesos.name,
            "user": self._user(),
            "roles": [mesos.role],
            "capabilities": [{"type": capability} for capability in _CAPABILITIES],
            "checkpoint": True,
            "failover_timeout": mesos.failover_timeout,
            "webui_url": mesos.webui_url or self.configuration.http.url,
        }
        if mesos.principal:
            info["principal"] = mesos.principal
        if stored := self.ledger.framework_id():
            info["id"] = {"value": stored}
        return info

    def _master_client(self) -> MasterClient:
        return MasterClient(self.configuration.mesos.master)

    def _isolates(self, endpoint: str) -> bool:
        """Whether an agent gives containers a mount namespace of their own."""
        wanted = self.configuration.agents.isolation
        if wanted is not Isolation.AUTO:
            return wanted is Isolation.LINUX
        return "filesystem/linux" in AgentClient(endpoint).flags().get("isolation", "")
