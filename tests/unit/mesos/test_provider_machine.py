"""Whatever happens, the provider's decisions never take the agent or the master down, and they reach the goal.

The agent here is a model that fails where Mesos' own CHECKs would abort it (or the master); the events come in any
order that a network, a dying agent, a dying executor and a slow or refusing ledger can produce.
"""

from __future__ import annotations

import base64
import random
import uuid
from collections import deque
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from polly_mesos.agent_api import Verdict
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.provider import steps
from polly_mesos.mesos.provider.contract import ProviderIdentity, ProviderState
from polly_mesos.mesos.provider.machine import Machine
from polly_mesos.mesos.provider.messages import wire_uuid

POOL = {"root": "/polly/gold", "profile": "gold", "vendor": "polly.gold"}
RAW = {"profile": "raw", "vendor": "polly.raw"}
OWNER = arithmetic.owner_of({"role": "dev", "reservation": {"principal": "p"}})
TERMINAL = {"OPERATION_FINISHED", "OPERATION_FAILED", "OPERATION_DROPPED"}


KINDS = ["NONSENSE", "APPLY_OPERATION", "PUBLISH_RESOURCES", "ACKNOWLEDGE_OPERATION_STATUS", "SUBSCRIBED"]


def start_totals():
    return [arithmetic.pool_disk(100, **POOL), arithmetic.raw_disk(50, **RAW)]


def sixteen_bytes(message):
    value = base64.b64decode(message["value"], validate=True)
    assert len(value) == 16, "agent aborts: CHECK_SOME(UUID::fromBytes)"
    return uuid.UUID(bytes=value)


class AgentAborted(AssertionError):
    """A CHECK of Mesos would have failed."""


@dataclass
class Live:
    """A provider as the model agent holds it."""

    stream: int
    totals: list | None = None
    version: uuid.UUID | None = None
    operations: dict = field(default_factory=dict)
    delivered: set = field(default_factory=set)
    sent: set = field(default_factory=set)


class ModelAgent:
    """What slave.cpp, manager.cpp and master.cpp do with a provider, and where they abort."""

    def __init__(self):
        self.id = "agent-0"
        self.up = True
        self.known = set()
        self.live: dict[str, Live] = {}
        self.undigested = []
        self.sent_by_master = {}
        self.unacknowledged = {}
        self._serial = 0

    def restart(self, wiped):
        self.live.clear()
        self.undigested.clear()
        if wiped:
            self._serial += 1
            self.id = f"agent-{self._serial}"
            self.known = set()

    def subscribe(self, stream, provider_id):
        if provider_id and provider_id not in self.known:
            return None
        if provider_id in self.live:
            raise AgentAborted("second stream of a live provider")
        self._serial += 1
        provider_id = provider_id or f"provider-{self._serial}"
        self.known.add(provider_id)
        self.live[provider_id] = Live(stream)
        return provider_id

    def digest(self):
        for provider_id, stream in self.undigested:
            if provider_id in self.live and self.live[provider_id].stream == stream:
                del self.live[provider_id]
        self.undigested.clear()

    def call(self, stream, body):
        provider_id = body["resource_provider_id"]["value"]
        live = self.live.get(provider_id)
        if live is None or live.stream != stream:
            return False
        getattr(self, f"_{body['type'].lower()}")(provider_id, live, body[body["type"].lower()])
        return True

    def _update_state(self, provider_id, live, body):
        if any(arithmetic.provider_of(one) != provider_id for one in body["resources"]):
            raise AgentAborted("a resource of another provider")
        leaves = not body["resources"] and not body["operations"]
        assert leaves or not live.delivered, "totals replaced while operations that came are unanswered"
        version = sixteen_bytes(body["resource_version_uuid"])
        assert version != live.version, "the version must be fresh"
        listed = {}
        for operation in body["operations"]:
            identifier = sixteen_bytes(operation["uuid"])
            if operation["latest_status"]["state"] not in TERMINAL:
                raise AgentAborted("master: CHECK(oldProvider->operations.contains(uuid))")
            if operation.get("agent_id") != {"value": self.id}:
                raise AgentAborted("master: CHECK(operation->has_slave_id())")
            if identifier not in self.sent_by_master:
                raise AgentAborted("an operation that the master did not send")
            if arithmetic.provider_of(operation_resource(operation["info"])) != provider_id:
                raise AgentAborted("addOperation: CHECK_NOTNULL(getResourceProvider)")
            listed[identifier] = live.operations.get(identifier, {"info": operation["info"], "terminal": True})
        live.totals, live.version, live.operations = body["resources"], version, listed

    def _update_operation_status(self, provider_id, live, body):
        identifier = sixteen_bytes(body["operation_uuid"])
        status = body["status"]
        sixteen_bytes(status["uuid"])
        assert status["resource_provider_id"]["value"] == provider_id
        assert status == body["latest_status"]
        assert status["state"] in TERMINAL, "the operation would stay pending for ever"
        if live.totals is None:
            raise AgentAborted("a status before UPDATE_STATE")
        live.delivered.discard(identifier)
        operation = live.operations.get(identifier)
        info = self.sent_by_master.get(identifier, {})
        forgotten = operation is None and identifier in live.sent
        if forgotten and info["type"] in arithmetic.CONVERTING and status["state"] == "OPERATION_FINISHED":
            raise AgentAborted("the master converts what the agent has forgotten, perhaps with other totals")
        self.unacknowledged[identifier] = status["uuid"]
        if operation is None or operation["terminal"]:
            return
        operation["terminal"] = True
        info = operation["info"]
        if status["state"] == "OPERATION_FINISHED" and info["type"] in arithmetic.CONVERTING:
            if any("allocation_info" not in one for one in status["converted_resources"]):
                raise AgentAborted("master: CHECK(has_allocation_info())")
            live.totals = self._apply(live.totals, info, status["converted_resources"])

    def _update_publish_resources_status(self, provider_id, live, body):
        sixteen_bytes(body["uuid"])
        assert body["status"] in ("OK", "FAILED")

    def _apply(self, totals, info, converted=None):
        try:
            return arithmetic.apply(totals, info, converted)
        except Exception as error:
            raise AgentAborted(f"CHECK_SOME(totalResources.apply): {error}") from error

    def operate(self, provider_id, info):
        """The master sends an operation that fits the present totals; the agent applies and forwards it."""
        live = self.live[provider_id]
        identifier = uuid.uuid4()
        if info["type"] in arithmetic.SPECULATIVE:
            live.totals = self._apply(live.totals, info)
        live.operations[identifier] = {"info": info, "terminal": False}
        self.sent_by_master[identifier] = info
        live.sent.add(identifier)
        return {
            "type": "APPLY_OPERATION",
            "apply_operation": {
                "framework_id": {"value": "marathon"},
                "info": info,
                "operation_uuid": wire_uuid(identifier),
                "resource_version_uuid": wire_uuid(live.version),
            },
        }


def operation_resource(info):
    detail = info[info["type"].lower()]
    return (detail.get("resources") or detail.get("volumes") or [detail.get("source")])[0]


class ModelLedger:
    """Judges operations, and lists the totals that it wants on the agent."""

    def __init__(self):
        self.totals = start_totals()
        self.version = 0
        self.verdicts = {}
        self.unacknowledged = {}
        self.provider_id = ""
        self.agent_id = ""
        self.former = set()

    def belongs_to(self, agent_id, provider_id):
        """The executor is another agent's, or its provider another one: what that one asked for is refused."""
        if self.provider_id not in ("", provider_id):
            self.former.add(self.provider_id)
        if self.agent_id not in ("", agent_id):
            self.totals = start_totals()
            self.unacknowledged.clear()
            self.version += 1
        self.agent_id, self.provider_id = agent_id, provider_id

    def apply(self, application, refuse, spoil):
        if application.id in self.verdicts:
            return self.verdicts[application.id]
        if arithmetic.provider_of(operation_resource(application.info)) in self.former:
            return Verdict(application.id, "OPERATION_FAILED", str(uuid.uuid4()), application.info, "")
        converted = self._converted(application, spoil)
        state = "OPERATION_FAILED" if refuse else "OPERATION_FINISHED"
        if not refuse and not spoil:
            try:
                self.totals = arithmetic.apply(self.totals, without_provider(application.info), converted)
            except arithmetic.NotContained:
                state = "OPERATION_FAILED"
        self.version += 1
        verdict = Verdict(
            id=application.id,
            state=state,
            status_uuid="not a uuid" if spoil else str(uuid.uuid4()),
            info=application.info,
            framework=application.framework,
            converted=tuple(converted),
            version=self.version,
        )
        self.verdicts[application.id] = self.unacknowledged[application.id] = verdict
        return verdict

    def _converted(self, application, spoil):
        info = application.info
        if info["type"] != "CREATE_DISK":
            return []
        size = arithmetic.megabytes(info["create_disk"]["source"]) + (1 if spoil else 0)
        return [arithmetic.mount_disk(size, root="/polly/raw", disk_id=application.id, **RAW)]

    def resize(self, size):
        plain = [one for one in self.totals if not (is_pool(one) and arithmetic.owner_of(one) == "")]
        self.totals = [*plain, arithmetic.pool_disk(size, **POOL)]
        self.version += 1


def is_pool(resource):
    return resource["disk"]["source"]["type"] == "PATH" and not arithmetic.persistence_of(resource)


def without_provider(info):
    kind = info["type"].lower()
    strip = lambda one: {key: value for key, value in one.items() if key != "provider_id"}  # noqa: E731
    detail = {
        key: [strip(one) for one in value] if isinstance(value, list) else strip(value) if key == "source" else value
        for key, value in info[kind].items()
    }
    return {**info, kind: detail}


class ProviderWorld(RuleBasedStateMachine):
    """One executor, one agent, one ledger, and everything that may happen between them."""

    @initialize(seed=st.integers(0, 2**32), calm=st.integers(0, 4))
    def begin(self, seed, calm):
        self.random = random.Random(seed)
        self.now = 100.0
        self.agent = ModelAgent()
        self.ledger = ModelLedger()
        self.streams = 0
        self.new_executor()
        if calm:
            self.calm()

    def new_executor(self):
        self.inbox = deque()
        self.asks = []
        self.broken = set()
        self.fail_next = None
        self.offset = self.streams
        self.open_streams = {}
        identity = ProviderIdentity("org.polly.mesos", "test", self.ledger.provider_id, self.ledger.agent_id)
        self.machine = Machine(identity)
        self.feed(steps.Unacknowledged(tuple(self.ledger.unacknowledged.values())))
        self.desire()
        self.feed(steps.Start())

    def desire(self):
        self.feed(steps.Desire(tuple(self.ledger.totals), self.ledger.version))

    def feed(self, event):
        for action in self.machine.handle(event, self.now):
            if isinstance(action, steps.Subscribe):
                self.subscribe(action)
            elif isinstance(action, steps.Close):
                self.broken.add(action.stream)
                self.end(action.stream, clean=False)
            elif isinstance(action, steps.Call):
                self.call(action)
            else:
                self.asks.append(action)

    def global_stream(self, stream):
        self.streams = max(self.streams, self.offset + stream)
        return self.offset + stream

    def subscribe(self, action):
        number = self.global_stream(action.stream)
        if not self.agent.up:
            self.inbox.append(steps.Ended(action.stream, "down", clean=False))
            return
        provider_id = self.agent.subscribe(number, action.identity.id)
        if provider_id is None:
            self.inbox.append(steps.Ended(action.stream, "unknown id", clean=True))
            return
        self.open_streams[action.stream] = provider_id
        event = {"type": "SUBSCRIBED", "subscribed": {"provider_id": {"value": provider_id}}}
        self.inbox.append(steps.Received(action.stream, event))

    def end(self, stream, clean):
        provider_id = self.open_streams.pop(stream, None)
        if provider_id is not None:
            self.agent.undigested.append((provider_id, self.offset + stream))
            self.inbox.append(steps.Ended(stream, "closed", clean))

    def call(self, action):
        if action.stream in self.broken:
            return
        failure, self.fail_next = self.fail_next, None
        taken = failure != "before" and self.agent.call(self.offset + action.stream, action.body)
        if failure or not taken:
            self.broken.add(action.stream)
            self.inbox.append(steps.CallFailed(action.stream, "lost"))

    def live(self):
        for stream, provider_id in self.open_streams.items():
            if provider_id in self.agent.live and self.agent.live[provider_id].stream == self.offset + stream:
                return stream, provider_id, self.agent.live[provider_id]
        return None

    def send(self, event):
        stream, _, _ = self.live()
        self.inbox.append(steps.Received(stream, event))

    # What the network, the clock and the handler's threads do.

    @rule(late=st.integers(0, 3))
    def calm(self, late=0):
        """Nothing goes wrong until the provider is ready; the agent digests ends of streams late."""
        self.agent.up = True
        self.fail_next = None
        for turn in range(30):
            if turn >= late * 5:
                self.agent.digest()
            self.exhaust(acknowledging=False)
            if self.machine.state is ProviderState.READY:
                return
            self.now = max(self.now, self.machine.deadline)
            self.feed(steps.Tick())
        raise AssertionError(f"the provider gets not ready: {self.machine.state}")

    def deliver_one(self):
        event = self.inbox.popleft()
        if isinstance(event, steps.Received) and event.event["type"] == "APPLY_OPERATION" and self.live():
            stream, _, live = self.live()
            identifier = event.event["apply_operation"]["operation_uuid"]
            if stream == event.stream and "info" in event.event["apply_operation"]:
                live.delivered.add(sixteen_bytes(identifier))
        self.feed(event)

    @precondition(lambda self: self.inbox)
    @rule()
    def deliver(self):
        self.deliver_one()

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0, 6.0, 40.0]))
    def time_passes(self, seconds):
        self.now += seconds
        if self.machine.deadline <= self.now:
            self.feed(steps.Tick())

    @precondition(lambda self: self.asks)
    @rule(fail=st.integers(0, 5), lost=st.booleans(), refuse=st.integers(0, 3), spoil=st.integers(0, 9))
    def answer(self, fail, lost, refuse, spoil):
        ask = self.asks.pop(self.random.randrange(len(self.asks)))
        if fail == 0:
            if lost and isinstance(ask, steps.Apply):
                self.ledger.apply(ask.application, refuse == 0, spoil == 0)
            self.feed(steps.Failed(ask, "unreachable"))
            return
        self.feed(self.answer_to(ask, refuse == 0, spoil == 0))
        if isinstance(ask, steps.Tell):
            self.desire()

    def answer_to(self, ask, refuse=False, spoil=False):
        match ask:
            case steps.Find():
                return steps.Found(self.agent.id) if self.agent.up else steps.Failed(ask, "down")
            case steps.Look(identity):
                if not self.agent.up:
                    return steps.Failed(ask, "down")
                return steps.Looked(bool(self.agent.live) if identity.name else None)
            case steps.Apply(operation, application):
                return steps.Judged(operation, self.ledger.apply(application, refuse, spoil))
            case steps.Publish(stream, request, _):
                return steps.Published(stream, request, not refuse)
            case steps.Tell(agent_id, provider_id):
                self.ledger.belongs_to(agent_id, provider_id)
            case steps.Acknowledge(operation):
                self.ledger.unacknowledged.pop(str(operation), None)
        return steps.Heard(ask)

    @rule()
    def agent_digests_ended_streams(self):
        self.agent.digest()

    @rule(when=st.sampled_from(["before", "after"]))
    def next_call_is_lost(self, when):
        self.fail_next = when

    # What masters and operators do.

    @precondition(lambda self: self.live() and self.live()[2].totals)
    @rule(choices=st.lists(st.integers(0, 2**16), min_size=1, max_size=4), deliver=st.booleans())
    def framework_operates(self, choices, deliver):
        _, provider_id, live = self.live()
        for choice in choices:
            infos = [info for one in live.totals for info in possible(one)]
            if infos:
                self.send(self.agent.operate(provider_id, infos[choice % len(infos)]))
        while deliver and self.inbox:
            self.deliver_one()

    @precondition(lambda self: self.live() and self.agent.unacknowledged)
    @rule()
    def master_acknowledges(self):
        identifier, status = self.agent.unacknowledged.popitem()
        self.acknowledge(identifier, status)

    def acknowledge(self, identifier, status):
        _, _, live = self.live()
        live.sent.discard(identifier)
        if live.operations.pop(identifier, None) is None:
            return  # "Dropping operation update acknowledgement ... because the operation was not found"
        body = {"operation_uuid": wire_uuid(identifier), "status_uuid": status}
        self.send({"type": "ACKNOWLEDGE_OPERATION_STATUS", "acknowledge_operation_status": body})

    @precondition(lambda self: self.live())
    @rule(what=st.sampled_from(["known", "unknown", "launch", "nonsense"]), kind=st.sampled_from(KINDS))
    def agent_says(self, what, kind):
        some = uuid.uuid4()
        if what == "known" and self.agent.sent_by_master:
            some = self.random.choice(list(self.agent.sent_by_master))
        bodies = {
            "launch": ("PUBLISH_RESOURCES", {"uuid": wire_uuid(some), "resources": []}),
            "nonsense": (kind, {"operation_uuid": {"value": "AAAA"}, "uuid": {"value": "?"}}),
        }
        name, body = bodies.get(what, ("RECONCILE_OPERATIONS", {"operation_uuids": [wire_uuid(some)]}))
        self.send({"type": name, name.lower(): body})

    @precondition(lambda self: self.live() and self.live()[2].totals)
    @rule(choices=st.lists(st.integers(0, 2**16), min_size=1, max_size=2), size=st.integers(0, 200))
    def operations_and_new_totals_cross(self, choices, size):
        self.framework_operates(choices, deliver=False)
        self.ledger_resizes_the_lease(size)
        self.time_passes(6.0)
        while self.inbox:
            self.deliver_one()

    @rule(size=st.integers(0, 200))
    def ledger_resizes_the_lease(self, size):
        self.ledger.resize(size)
        self.desire()

    # What dies.

    @rule(wiped=st.booleans(), stays_down=st.booleans(), really=st.integers(0, 2))
    def agent_dies(self, wiped, stays_down, really):
        if really:
            return
        self.agent.up = not stays_down
        self.agent.restart(wiped)
        for stream in list(self.open_streams):
            self.open_streams.pop(stream)
            self.inbox.append(steps.Ended(stream, "reset", clean=False))

    @precondition(lambda self: not self.agent.up)
    @rule()
    def agent_starts(self):
        self.agent.up = True

    @rule(applies=st.booleans(), really=st.integers(0, 2))
    def executor_dies(self, applies, really):
        if really:
            return
        for ask in self.asks:
            if applies and isinstance(ask, steps.Apply):
                self.ledger.apply(ask.application, refuse=False, spoil=False)
        for stream in list(self.open_streams):
            self.end(stream, clean=False)
        self.new_executor()

    # What must come of it when the trouble ends.

    def teardown(self):
        if not hasattr(self, "agent"):
            return
        self.agent.up = True
        self.fail_next = None
        for turn in range(300):
            if turn > 4:
                self.agent.digest()
            self.exhaust()
            if self.settled():
                break
            self.now = max(self.now, min(self.machine.deadline, self.now + 200.0))
            self.feed(steps.Tick())
        assert self.machine.state is ProviderState.READY
        _, provider_id, live = self.live()
        wanted = [arithmetic.normalise(one, provider_id) for one in self.ledger.totals]
        assert arithmetic.equal(live.totals, wanted), (live.totals, wanted)
        assert not self.ledger.unacknowledged
        self.feed(steps.Stop())
        while (due := self.machine.deadline) != steps.NEVER and self.machine.state is ProviderState.READY:
            self.now = max(self.now, due)
            self.feed(steps.Tick())
        assert not live.totals, "it leaves with totals that can be offered"
        assert not live.operations, "it leaves with operations that can be acknowledged"
        while self.inbox:
            self.feed(self.inbox.popleft())
        assert self.machine.state is ProviderState.STOPPED

    def exhaust(self, acknowledging=True):
        """Everybody says all that can be said without time passing."""
        while self.inbox or self.asks or (acknowledging and self.live() and self.agent.unacknowledged):
            while self.inbox:
                self.deliver_one()
            for ask in [self.asks.pop() for _ in range(len(self.asks))]:
                self.feed(self.answer_to(ask))
                if isinstance(ask, steps.Tell):
                    self.desire()
            if acknowledging and self.live() and self.agent.unacknowledged:
                self.acknowledge(*self.agent.unacknowledged.popitem())

    def settled(self):
        live = self.live()
        if self.inbox or self.asks or not live or not live[2].totals or self.ledger.unacknowledged:
            return False
        wanted = [arithmetic.normalise(one, live[1]) for one in self.ledger.totals]
        return arithmetic.equal(live[2].totals, wanted)


def possible(resource):
    """Operations that a framework could send for what it is offered."""
    size = arithmetic.megabytes(resource)
    source = resource["disk"]["source"]
    if source["type"] == "RAW" and size >= 1:
        part = {**resource, "scalar": {"value": 1.0}, "allocation_info": {"role": "dev"}}
        yield {"type": "CREATE_DISK", "create_disk": {"source": part, "target_type": "MOUNT"}}
    elif source["type"] == "PATH" and size >= 1:
        part = {**resource, "scalar": {"value": 1.0}}
        reserved = {**part, "reservations": arithmetic.reservations_of(OWNER)}
        if arithmetic.persistence_of(resource):
            yield {"type": "DESTROY", "destroy": {"volumes": [resource]}}
        elif resource.get("reservations"):
            volume = {**part, "disk": {**part["disk"], "persistence": {"id": str(uuid.uuid4())}}}
            yield {"type": "CREATE", "create": {"volumes": [volume]}}
            yield {"type": "UNRESERVE", "unreserve": {"resources": [part]}}
        else:
            yield {"type": "RESERVE", "reserve": {"resources": [reserved]}}


TestProviderWorld = ProviderWorld.TestCase
TestProviderWorld.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
