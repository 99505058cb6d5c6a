"""A framework that outlives masters, with a task that keeps writing into its volume: what faults must not disturb."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import httpx

from polly_mesos.mesos.local.agent import LocalAgent
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.recordio import RecordDecoder

from .framework import Framework, wait_until
from .test_scheduler_half import persistent, task_on

Json = dict[str, Any]

RESERVATION = {"type": "DYNAMIC", "role": "test", "principal": "test"}
CAPABILITIES = [{"type": "PARTITION_AWARE"}, {"type": "RESERVATION_REFINEMENT"}]
PROVIDER = "org.polly.mesos"
BEAT = "while true; do date +%s%N > data/new; mv data/new data/beat; sleep 0.1; done"
BEGIN = f"echo precious > data/new; mv data/new data/file; {BEAT}"
RESUME = f"grep -qx precious data/file && {BEAT}"


class LastingFramework(Framework):
    """Subscribes again, under its id, whenever its connection ends, and holds no offer longer than it is used."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._over = threading.Event()
        self._holds = False
        self._latest: dict[str, Json] = {}
        super().__init__(cluster.master, principal="test", failover_timeout=3600.0, capabilities=CAPABILITIES)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        super().__exit__(kind, error, trace)

    @contextmanager
    def holding(self, agent_id: str) -> Iterator[Callable[[], list[Json]]]:
        """Hold the offers of an agent from now on; gives a function that shows them. They are declined at the end."""
        with self._news:
            self._holds = True
        try:
            yield lambda: [offer for offer in list(self._offers.values()) if offer["agent_id"]["value"] == agent_id]
        finally:
            with self._news:
                self._holds = False
                left = list(self._offers.values())
                self._offers.clear()
            for offer in left:
                self._decline(offer)

    def use(self, offer: Json, *operations: Json) -> None:
        """Accept a held offer."""
        with self._news:
            del self._offers[offer["id"]["value"]]
        self.accept(offer, *operations)

    def forget(self) -> None:
        """Forget what was offered until now."""
        with self._news:
            self._latest.clear()

    def latest(self, agent_id: str) -> list[Json]:
        """The resources in the last offer of an agent since :meth:`forget`; empty before one has come."""
        with self._news:
            return list(self._latest.get(agent_id, {}).get("resources", []))

    def _take(self, event: Mapping[str, Any], stream_id: str) -> None:
        super()._take(event, stream_id)
        if event["type"] != "OFFERS":
            return
        with self._news:
            self._latest |= {offer["agent_id"]["value"]: offer for offer in event["offers"]["offers"]}
            unused = [] if self._holds else list(self._offers.values())
            if unused:
                self._offers.clear()
        for offer in unused:
            self._decline(offer)

    def _decline(self, offer: Json) -> None:
        # long enough that others, whose turn it is then, are offered the same
        self._call("DECLINE", {"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 1.0}})

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                self._subscribe()
            except httpx.HTTPError:
                self._over.wait(0.1)
            with self._news:
                self._offers.clear()

    def _subscribe(self) -> None:
        call: Json = {"type": "SUBSCRIBE", "subscribe": {"framework_info": self._info}}
        if self._ids:
            known = {"value": self._ids["framework"]}
            call = {
                "type": "SUBSCRIBE",
                "framework_id": known,
                "subscribe": {"framework_info": {**self._info, "id": known}},
            }
        with self._client.stream("POST", self._url, json=call, headers={"Accept": "application/json"}) as stream:
            if stream.status_code != 200:  # the master does not lead yet
                raise httpx.HTTPError(str(stream.status_code))
            decoder = RecordDecoder()
            for data in stream.iter_raw():
                for event in decoder.feed(data):
                    self._take(event, stream.headers["Mesos-Stream-Id"])


def canonical(disks: list[Json], *, provider: bool = True) -> list[str]:
    """Disks as text that can be compared: byte for byte but for the offer's own words.

    :param provider: also the provider's id, which a new agent makes anew
    """
    own = {"allocation_info"} | (set() if provider else {"provider_id"})
    return sorted(
        json.dumps({key: value for key, value in disk.items() if key not in own}, sort_keys=True) for disk in disks
    )


def ask_agent(agent: LocalAgent, call: str) -> Json:
    """The answer of an agent's API to a call without arguments."""
    answer = httpx.post(
        f"http://{agent.endpoint}/api/v1",
        json={"type": call},
        headers={"Accept": "application/json"},
        timeout=10,
        trust_env=False,
    )
    answer.raise_for_status()
    shown: Json = answer.json()
    return shown


def totals(agent: LocalAgent) -> list[Json]:
    """The ``total_resources`` of Polly's provider on an agent (agent call ``GET_RESOURCE_PROVIDERS``)."""
    answer = ask_agent(agent, "GET_RESOURCE_PROVIDERS")
    found: list[Json] = []
    for provider in answer["get_resource_providers"].get("resource_providers", []):
        if provider["resource_provider_info"]["type"] == PROVIDER:
            found += provider.get("total_resources", [])
    return found


class Story:
    """A volume with a task that writes into it, and an idle volume, on one agent."""

    def __init__(self, cluster: LocalCluster, framework: LastingFramework, agent: LocalAgent) -> None:
        self.cluster = cluster
        self.framework = framework
        self.agent = agent
        self.task = ""
        self._tasks = 0

    @property
    def agent_id(self) -> str:
        """Mesos' id of the agent now."""
        (found,) = [one.agent_id for one in self.cluster.status().agents if one.name == self.agent.name]
        return found

    def begin(self) -> None:
        """Make both volumes, and launch the task."""
        with self.framework.holding(self.agent_id) as offers:
            offer, disk = wait_until(lambda: _find(offers(), _is_pool))
            busy, idle = (persistent(self._share(disk), name) for name in ("busy", "idle"))
            self.framework.use(offer, *self._create(busy), *self._create(idle), self._launch(offer, busy))
        self._running()

    def resume(self) -> None:
        """Launch the task again on the volume, which is on offer; it must find the data of the one before."""
        with self.framework.holding(self.agent_id) as offers:
            offer, disk = wait_until(lambda: _find(offers(), _is_named("busy")))
            self.framework.use(offer, self._launch(offer, disk, RESUME))
        self._running()

    def create(self, name: str) -> None:
        """Ask for a further volume of 64 MiB; what becomes of it is seen in the offers."""
        with self.framework.holding(self.agent_id) as offers:
            offer, disk = wait_until(lambda: _find(offers(), _is_pool))
            self.framework.use(offer, *self._create(persistent(self._share(disk), name)))

    def writes(self) -> bool:
        """Wait until the task has written again, without having ended meanwhile."""
        before = self._beat()
        wait_until(lambda: self._beat() != before)
        states = {status["state"] for status in self.framework.updates(self.task)}
        assert states <= {"TASK_STARTING", "TASK_RUNNING", "TASK_UNREACHABLE"}, states
        return True

    def destroy(self, name: str) -> None:
        """Give a volume back."""
        with self.framework.holding(self.agent_id) as offers:
            offer, disk = wait_until(lambda: _find(offers(), _is_named(name)))
            volume = {key: value for key, value in disk.items() if key != "allocation_info"}
            reserved = {**volume, "disk": {"source": volume["disk"]["source"]}}
            destroy: Json = {"type": "DESTROY", "destroy": {"volumes": [volume]}}
            self.framework.use(offer, destroy, {"type": "UNRESERVE", "unreserve": {"resources": [reserved]}})

    def pending(self) -> str:
        """The operations that the agent waits for, as text."""
        shown = ask_agent(self.agent, "GET_OPERATIONS")["get_operations"].get("operations", [])
        return json.dumps([one for one in shown if one["latest_status"]["state"] == "OPERATION_PENDING"])

    def totals(self, *, provider: bool = True) -> list[str]:
        """What the provider told the agent it has; empty while it is not connected."""
        return canonical(totals(self.agent), provider=provider)

    def offered(self) -> list[str]:
        """The provider's disks in the agent's last offer since :meth:`LastingFramework.forget`; empty before that."""
        return canonical([disk for disk in self.framework.latest(self.agent_id) if "provider_id" in disk])

    def _share(self, disk: Json) -> Json:
        return {**disk, "scalar": {"value": 64.0}, "reservations": [RESERVATION]}

    def _create(self, volume: Json) -> list[Json]:
        reserved = {**volume, "disk": {"source": volume["disk"]["source"]}}
        return [
            {"type": "RESERVE", "reserve": {"resources": [reserved]}},
            {"type": "CREATE", "create": {"volumes": [volume]}},
        ]

    def _launch(self, offer: Mapping[str, Any], disk: Json, script: str = BEGIN) -> Json:
        self._tasks += 1
        self.task = f"writer-{self._tasks}"
        return task_on(dict(offer), self.task, disk, script)

    def _running(self) -> None:
        self.framework.wait_for(self.task, "TASK_RUNNING")
        wait_until(lambda: self._beat())

    def _beat(self) -> str:
        place = self.agent.volumes / "gold" / "volumes" / "roles" / "test" / "busy"
        try:
            assert (place / "file").read_text() == "precious\n"
            return (place / "beat").read_text()
        except FileNotFoundError:
            return ""


def _find(offers: list[Json], fits: Callable[[Json], bool]) -> tuple[Json, Json] | None:
    """An offer with a fitting disk of a provider beside cpus and memory, and that disk."""
    for offer in offers:
        disks = [disk for disk in offer["resources"] if "provider_id" in disk and fits(disk)]
        if disks and {"cpus", "mem"} <= {resource["name"] for resource in offer["resources"]}:
            return offer, disks[0]
    return None


def _is_pool(disk: Json) -> bool:
    return not disk.get("reservations") and disk["scalar"]["value"] >= 128


def _is_named(name: str) -> Callable[[Json], bool]:
    return lambda disk: disk["disk"].get("persistence", {}).get("id") == name
