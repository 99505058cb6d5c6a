"""One test for each rule of the provider client, event by event."""

from __future__ import annotations

import uuid

import pytest

from polly_mesos.agent_api import Verdict
from polly_mesos.errors import InvalidRequest
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.provider import steps
from polly_mesos.mesos.provider.contract import ProviderIdentity, ProviderState
from polly_mesos.mesos.provider.machine import Machine
from polly_mesos.mesos.provider.messages import read_uuid, wire_uuid

POOL = {"root": "/polly/gold", "profile": "gold", "vendor": "polly.gold"}
RAW = {"profile": "raw", "vendor": "polly.raw"}
OWNER = arithmetic.owner_of({"role": "dev", "reservation": {}})


def pool(size, owner="", provider_id=None):
    return arithmetic.normalise(arithmetic.pool_disk(size, owner=owner, **POOL), provider_id)


class Driver:
    """Feeds a machine and collects what it does."""

    def __init__(self, provider_id="", agent_id=""):
        self.now = 1000.0
        self.machine = Machine(ProviderIdentity("org.polly.mesos", "test", provider_id, agent_id))
        self.actions = []

    def feed(self, *events):
        """The actions that follow these events."""
        before = len(self.actions)
        for event in events:
            self.actions += self.machine.handle(event, self.now)
        return self.actions[before:]

    def wait(self, seconds):
        """Let time pass, deadline by deadline; the actions that follow."""
        before, end = len(self.actions), self.now + seconds
        while self.machine.deadline <= end:
            self.now = max(self.now, self.machine.deadline)
            self.feed(steps.Tick())
        self.now = end
        return self.actions[before:]

    def receive(self, kind, stream=1, **body):
        return self.feed(steps.Received(stream, {"type": kind, kind.lower(): body}))

    def subscribe(self, provider_id="rp", agent_id="agent", stream=1):
        self.feed(steps.Start(), steps.Found(agent_id))
        self.wait(2.0)
        self.feed(steps.Looked(False))
        return self.receive("SUBSCRIBED", stream, provider_id={"value": provider_id})

    def ready(self, *totals, version=0, **more):
        self.feed(steps.Desire(totals, version))
        self.subscribe(**more)
        assert self.machine.state is ProviderState.READY
        return self

    @property
    def version(self):
        return self.calls("UPDATE_STATE")[-1]["resource_version_uuid"]

    def calls(self, kind):
        bodies = [one.body for one in self.actions if isinstance(one, steps.Call)]
        return [body[kind.lower()] for body in bodies if body["type"] == kind]

    def kinds(self, actions):
        return [one.body["type"] if isinstance(one, steps.Call) else type(one).__name__ for one in actions]

    def operate(self, info, version=None, stream=1):
        identifier = uuid.uuid4()
        self.receive(
            "APPLY_OPERATION",
            stream,
            info=info,
            framework_id={"value": "f"},
            operation_uuid=wire_uuid(identifier),
            resource_version_uuid=version or self.version,
        )
        return identifier

    def judge(self, identifier, info, state="OPERATION_FINISHED", **more):
        verdict = Verdict(id=str(identifier), state=state, status_uuid=str(uuid.uuid4()), info=info, **more)
        return self.feed(steps.Judged(identifier, verdict))


def reserve(size, provider_id="rp"):
    return {"type": "RESERVE", "reserve": {"resources": [pool(size, OWNER, provider_id)]}}


def create_disk(size):
    source = arithmetic.normalise(arithmetic.raw_disk(size, **RAW), "rp")
    return {"type": "CREATE_DISK", "create_disk": {"source": source, "target_type": "MOUNT"}}


def statuses(driver):
    return [one["status"]["state"] for one in driver.calls("UPDATE_OPERATION_STATUS")]


def test_it_looks_before_it_subscribes_and_waits_while_the_agent_holds_a_stream():
    driver = Driver()
    assert driver.feed(steps.Start()) == [steps.Find()]
    assert driver.kinds(driver.feed(steps.Found("agent"))) == ["Look"]
    for _ in range(20):
        assert driver.feed(steps.Looked(True)) == []
        assert driver.kinds(driver.wait(0.25)) == ["Look"]
    assert driver.kinds(driver.feed(steps.Looked(False))) == ["Subscribe"]


def test_where_the_agent_does_not_tell_it_waits_two_seconds():
    driver = Driver()
    driver.feed(steps.Start(), steps.Found("agent"))
    assert driver.feed(steps.Looked(None)) == []
    assert driver.wait(1.9) == []
    assert driver.kinds(driver.wait(0.2)) == ["Look"]
    assert driver.kinds(driver.feed(steps.Looked(None))) == ["Subscribe"]


@pytest.mark.parametrize("known", [True, False])
def test_a_rest_is_kept_where_a_former_stream_may_not_be_digested(known):
    driver = Driver("rp", "agent") if known else Driver().ready(pool(1))
    if not known:
        driver.feed(steps.Ended(1, "cut", clean=False))
        driver.wait(0.5)
    else:
        driver.feed(steps.Start())
    assert driver.feed(steps.Found("agent")) == []
    assert driver.wait(1.4) == []
    assert driver.kinds(driver.wait(0.7)) == ["Look"]


def test_an_id_that_is_refused_twice_is_given_up():
    driver = Driver("old", "agent")
    driver.feed(steps.Start())
    seen = []
    for stream in (1, 2, 3):
        driver.wait(3.0)
        driver.feed(steps.Found("agent"))
        driver.wait(3.0)
        (subscribe,) = driver.feed(steps.Looked(False))
        seen.append(subscribe.identity.id)
        driver.feed(steps.Ended(stream, "silent end", clean=True))
    assert seen == ["old", "old", ""]


def test_another_agent_makes_it_a_new_provider_and_forgets_what_was_desired():
    driver = Driver("old", "agent")
    driver.feed(steps.Desire((pool(1),), 0), steps.Start(), steps.Found("another"))
    driver.wait(2.0)
    (subscribe,) = driver.feed(steps.Looked(False))
    assert subscribe.identity.id == ""
    told = driver.receive("SUBSCRIBED", provider_id={"value": "new"})
    assert told == [steps.Tell("another", "new")]
    assert driver.machine.state is ProviderState.WAITING
    assert driver.kinds(driver.feed(steps.Desire((pool(2),), 0))) == ["UPDATE_STATE"]


def test_nothing_is_said_before_the_totals():
    driver = Driver()
    driver.subscribe()
    request = uuid.uuid4()
    driver.receive("PUBLISH_RESOURCES", uuid=wire_uuid(request), resources=[])
    driver.feed(steps.Published(1, request, published=True))
    driver.receive("RECONCILE_OPERATIONS", operation_uuids=[wire_uuid(uuid.uuid4())])
    assert not [one for one in driver.wait(60.0) if isinstance(one, steps.Call)]
    assert driver.kinds(driver.feed(steps.Desire((pool(1),), 0))) == [
        "UPDATE_STATE",
        "UPDATE_PUBLISH_RESOURCES_STATUS",
        "UPDATE_OPERATION_STATUS",
    ]
    assert statuses(driver) == ["OPERATION_DROPPED"]


def test_operations_are_judged_one_after_the_other_and_answered_in_order():
    driver = Driver().ready(pool(10))
    first, second = driver.operate(reserve(1)), driver.operate(reserve(2))
    asked = [one.operation for one in driver.actions if isinstance(one, steps.Apply)]
    assert asked == [first]
    assert driver.kinds(driver.judge(first, reserve(1))) == ["UPDATE_OPERATION_STATUS", "Apply"]
    driver.judge(second, reserve(2))
    sent = [read_uuid(one["operation_uuid"]) for one in driver.calls("UPDATE_OPERATION_STATUS")]
    assert sent == [first, second]


def test_an_operation_that_cannot_be_judged_is_asked_again_and_not_answered():
    driver = Driver().ready(pool(10))
    identifier = driver.operate(reserve(1))
    (ask,) = [one for one in driver.actions if isinstance(one, steps.Apply)]
    for _ in range(5):
        driver.feed(steps.Failed(ask, "unreachable"))
        assert driver.wait(30.0) == [ask]
    assert statuses(driver) == []
    driver.judge(identifier, reserve(1))
    assert statuses(driver) == ["OPERATION_FINISHED"]


def test_totals_are_not_replaced_while_an_operation_is_unanswered_nor_soon_after():
    driver = Driver().ready(pool(10))
    driver.wait(60.0)
    identifier = driver.operate(reserve(1))
    driver.feed(steps.Desire((pool(5),), 0))
    driver.wait(60.0)
    assert len(driver.calls("UPDATE_STATE")) == 1
    driver.judge(identifier, reserve(1), "OPERATION_FAILED")
    assert driver.kinds(driver.wait(1.9)) == []
    assert driver.kinds(driver.wait(0.2)) == ["UPDATE_STATE"]
    assert arithmetic.equal(driver.calls("UPDATE_STATE")[1]["resources"], [pool(5, provider_id="rp")])


def test_a_refused_operation_is_undone_by_new_totals():
    driver = Driver().ready(pool(10))
    driver.wait(60.0)
    driver.judge(driver.operate(reserve(4)), reserve(4), "OPERATION_FAILED")
    assert driver.kinds(driver.wait(3.0)) == ["UPDATE_STATE"]
    assert arithmetic.equal(driver.calls("UPDATE_STATE")[1]["resources"], [pool(10, provider_id="rp")])


def test_a_finished_operation_needs_no_new_totals():
    driver = Driver().ready(pool(10))
    driver.judge(driver.operate(reserve(4)), reserve(4))
    driver.feed(steps.Desire((pool(6), pool(4, OWNER)), 0))
    driver.wait(60.0)
    assert len(driver.calls("UPDATE_STATE")) == 1


def test_totals_from_before_a_verdict_do_not_undo_it():
    driver = Driver().ready(pool(10), version=7)
    driver.judge(driver.operate(reserve(4)), reserve(4), version=9)
    driver.feed(steps.Desire((pool(11),), 8))
    driver.wait(60.0)
    assert arithmetic.equal(
        driver.calls("UPDATE_STATE")[-1]["resources"], [pool(7, provider_id="rp"), pool(4, OWNER, "rp")]
    )
    driver.feed(steps.Desire((pool(7), pool(4, OWNER)), 9))
    driver.wait(60.0)
    assert len(driver.calls("UPDATE_STATE")) == 2


def test_totals_that_show_an_operation_before_its_verdict_are_not_counted_twice():
    driver = Driver().ready(pool(10), version=7)
    identifier = driver.operate(reserve(4))
    driver.feed(steps.Desire((pool(6), pool(4, OWNER)), 9))
    driver.judge(identifier, reserve(4), version=9)
    driver.wait(60.0)
    assert len(driver.calls("UPDATE_STATE")) == 1


def test_replacements_keep_their_distance():
    driver = Driver().ready(pool(10))
    times = []
    for size in range(11, 41):
        driver.feed(steps.Desire((pool(size),), 0))
        times += [driver.now for kind in driver.kinds(driver.wait(1.0)) if kind == "UPDATE_STATE"]
    assert len(times) in (5, 6)


def test_an_operation_that_crossed_our_totals_leads_to_fresh_ones():
    driver = Driver().ready(pool(10))
    old = driver.version
    driver.wait(10.0)
    driver.feed(steps.Desire((pool(20),), 0))
    driver.judge(driver.operate(reserve(4), old), reserve(4))
    driver.feed(steps.Desire((pool(16), pool(4, OWNER)), 0))
    assert driver.kinds(driver.wait(6.0)).count("UPDATE_STATE") == 1


def test_a_disk_is_not_made_from_totals_that_were_replaced():
    driver = Driver().ready(arithmetic.raw_disk(50, **RAW))
    old = driver.version
    driver.wait(10.0)
    driver.feed(steps.Desire((arithmetic.raw_disk(5, **RAW),), 0))
    driver.operate(create_disk(10), old)
    assert statuses(driver) == ["OPERATION_DROPPED"]
    assert not [one for one in driver.actions if isinstance(one, steps.Apply)]


@pytest.mark.parametrize(
    ("size", "change", "state"),
    [
        (10, {}, "OPERATION_FINISHED"),
        (11, {}, "OPERATION_FAILED"),
        (10, {"status_uuid": "short"}, "OPERATION_FAILED"),
        (10, {"state": "OPERATION_PENDING"}, "OPERATION_FAILED"),
    ],
)
def test_a_verdict_that_mesos_would_not_survive_becomes_a_failure(size, change, state):
    driver = Driver().ready(arithmetic.raw_disk(50, **RAW))
    identifier = driver.operate(create_disk(10))
    converted = (arithmetic.mount_disk(size, root="/polly/raw", disk_id="v", **RAW),)
    fields = {"state": "OPERATION_FINISHED", "status_uuid": str(uuid.uuid4()), "converted": converted, **change}
    driver.feed(steps.Judged(identifier, Verdict(id=str(identifier), info=create_disk(10), **fields)))
    assert statuses(driver) == [state]


@pytest.mark.parametrize(
    "info",
    [
        {"type": "GROW_VOLUME", "grow_volume": {}},
        {"type": "RESERVE"},
        {
            "type": "CREATE",
            "create": {
                "volumes": [
                    {
                        "name": "disk",
                        "scalar": {"value": 1},
                        "provider_id": {"value": "rp"},
                        "disk": {"persistence": {"id": "v"}, "source": {"type": "RAW"}},
                    }
                ]
            },
        },
    ],
)
def test_what_cannot_be_is_refused_without_asking(info):
    driver = Driver().ready(pool(10))
    driver.operate(info)
    assert statuses(driver) == ["OPERATION_FAILED"]
    assert not [one for one in driver.actions if isinstance(one, steps.Apply)]


def test_a_status_is_sent_until_it_is_acknowledged():
    driver = Driver().ready(pool(10))
    info = {**reserve(1), "id": {"value": "mine"}}
    identifier = driver.operate(info)
    driver.judge(identifier, info)
    driver.wait(600.0)
    assert len(statuses(driver)) > 5
    sent = driver.calls("UPDATE_OPERATION_STATUS")[0]
    assert sent["status"]["operation_id"] == {"value": "mine"}
    body = {"operation_uuid": wire_uuid(identifier), "status_uuid": sent["status"]["uuid"]}
    assert driver.receive("ACKNOWLEDGE_OPERATION_STATUS", **body) == [steps.Acknowledge(identifier)]
    count = len(statuses(driver))
    driver.wait(600.0)
    assert len(statuses(driver)) == count


def test_a_status_for_which_no_framework_waits_is_not_sent_for_ever():
    driver = Driver().ready(pool(10))
    identifier = driver.operate(reserve(1))
    driver.judge(identifier, reserve(1))
    assert steps.Acknowledge(identifier) in driver.wait(600.0)
    assert len(statuses(driver)) == 5


def test_a_known_operation_is_reconciled_with_its_own_status():
    driver = Driver().ready(pool(10))
    identifier = driver.operate(reserve(1))
    driver.judge(identifier, reserve(1))
    status = driver.calls("UPDATE_OPERATION_STATUS")[0]["status"]["uuid"]
    driver.receive("ACKNOWLEDGE_OPERATION_STATUS", operation_uuid=wire_uuid(identifier), status_uuid=status)
    driver.receive("RECONCILE_OPERATIONS", operation_uuids=[wire_uuid(identifier), wire_uuid(uuid.uuid4())])
    assert statuses(driver) == ["OPERATION_FINISHED", "OPERATION_FINISHED", "OPERATION_DROPPED"]
    driver.wait(60.0)
    assert statuses(driver).count("OPERATION_DROPPED") == 1


def test_statuses_of_before_a_restart_are_listed_and_sent_after_the_totals():
    ours, foreign = str(uuid.uuid4()), str(uuid.uuid4())
    driver = Driver("rp", "agent")
    driver.feed(
        steps.Unacknowledged(
            (
                Verdict(ours, "OPERATION_FINISHED", str(uuid.uuid4()), reserve(4)),
                Verdict(foreign, "OPERATION_FINISHED", str(uuid.uuid4()), reserve(4, "former")),
                Verdict("no uuid", "OPERATION_FINISHED", str(uuid.uuid4()), reserve(4)),
            )
        )
    )
    driver.ready(pool(6), pool(4, OWNER))
    (state,) = driver.calls("UPDATE_STATE")
    assert [read_uuid(one["uuid"]) for one in state["operations"]] == [uuid.UUID(ours)]
    assert state["operations"][0]["agent_id"] == {"value": "agent"}
    assert [read_uuid(one["operation_uuid"]) for one in driver.calls("UPDATE_OPERATION_STATUS")] == [uuid.UUID(ours)]
    assert steps.Acknowledge(uuid.UUID(foreign)) in driver.actions


def test_an_operation_of_a_former_provider_is_never_listed():
    foreign = uuid.uuid4()
    driver = Driver("rp", "agent")
    driver.feed(
        steps.Unacknowledged((Verdict(str(foreign), "OPERATION_FINISHED", str(uuid.uuid4()), reserve(4, "former")),))
    )
    driver.subscribe()
    driver.receive("RECONCILE_OPERATIONS", operation_uuids=[wire_uuid(foreign)])
    driver.feed(steps.Desire((pool(1),), 0))
    assert [one["operations"] for one in driver.calls("UPDATE_STATE")] == [[]]
    assert statuses(driver) == ["OPERATION_FINISHED"]


def test_a_disk_that_was_made_needs_no_new_totals():
    driver = Driver().ready(arithmetic.raw_disk(50, **RAW))
    identifier = driver.operate(create_disk(10))
    disk = arithmetic.mount_disk(10, root="/polly/raw", disk_id="v", **RAW)
    driver.judge(identifier, create_disk(10), converted=(disk,))
    driver.feed(steps.Desire((arithmetic.raw_disk(40, **RAW), disk), 0))
    driver.wait(60.0)
    assert statuses(driver)
    assert len(driver.calls("UPDATE_STATE")) == 1


def test_the_agents_removal_is_final():
    driver = Driver().ready(pool(10))
    assert driver.receive("TEARDOWN") == [steps.Close(1)]
    driver.feed(steps.Ended(1, "closed", clean=False))
    assert driver.machine.state is ProviderState.RETIRED
    assert driver.wait(600.0) == []


def test_a_lost_call_ends_the_stream():
    driver = Driver().ready(pool(10))
    assert driver.feed(steps.CallFailed(1, "timeout")) == [steps.Close(1)]
    assert driver.machine.state is ProviderState.CLOSING
    assert driver.wait(600.0) == []
    driver.feed(steps.Ended(1, "closed", clean=False))
    assert driver.kinds(driver.wait(1.0)) == ["Find"]


def test_an_agent_that_says_nothing_is_left():
    driver = Driver()
    driver.feed(steps.Start(), steps.Found("agent"), steps.Looked(False))
    assert driver.wait(31.0) == [steps.Close(1)]


def test_publishing_that_fails_is_answered():
    driver = Driver().ready(pool(10))
    request = uuid.uuid4()
    (publish,) = driver.receive("PUBLISH_RESOURCES", uuid=wire_uuid(request), resources=[pool(1)])
    driver.feed(steps.Failed(publish, "no device"))
    assert driver.calls("UPDATE_PUBLISH_RESOURCES_STATUS") == [{"uuid": wire_uuid(request), "status": "FAILED"}]


@pytest.mark.parametrize("message", [{}, {"value": "AAAA"}, {"value": "?"}, {"value": 5}, None])
def test_only_sixteen_bytes_are_a_uuid(message):
    with pytest.raises(InvalidRequest, match="not a UUID of 16 bytes"):
        read_uuid(message)


def test_stop_closes_the_stream_and_waits_for_its_end():
    driver = Driver()
    driver.feed(steps.Start(), steps.Found("agent"), steps.Looked(False))
    driver.receive("SUBSCRIBED", provider_id={"value": "rp"})
    assert driver.feed(steps.Stop()) == [steps.Close(1)], "the agent has nothing of ours"
    assert driver.machine.state is ProviderState.CLOSING
    driver.feed(steps.Ended(1, "closed", clean=False))
    assert driver.machine.state is ProviderState.STOPPED
    assert driver.machine.deadline == float("inf")


class TestLeaving:
    """A stream is not ended in the middle of something: what reaches the agent just after would abort it."""

    @pytest.fixture
    def driver(self):
        driver = Driver()
        driver.ready(pool(64))
        return driver

    def empties(self, actions):
        """The calls that tell the agent that we have nothing, with its version each."""
        states = [one.body["update_state"] for one in actions if isinstance(one, steps.Call)]
        assert all(not state["resources"] and not state["operations"] for state in states)
        return [state["resource_version_uuid"]["value"] for state in states]

    def test_it_first_says_twice_that_it_has_nothing_and_then_ends_the_stream(self, driver):
        """The second time takes back what the master has offered since the first."""
        driver.wait(1.0)
        (first,) = self.empties(driver.feed(steps.Stop()))
        assert driver.wait(0.4) == []
        (second,) = self.empties(driver.wait(0.2))
        assert second != first, "the master takes what has the same version for no change"
        assert driver.wait(0.1) == []
        assert driver.wait(0.2) == [steps.Close(1)]

    def test_one_that_was_just_given_an_operation_waits_for_the_agent_to_be_quiet(self, driver):
        driver.wait(1.0)
        driver.operate(reserve(8))
        assert not self.empties(driver.feed(steps.Stop())[1:])
        assert not self.empties(driver.wait(0.4))
        assert self.empties(driver.wait(0.2))

    def test_but_not_for_long(self, driver):
        driver.operate(reserve(1))
        driver.feed(steps.Stop())
        for _ in range(4):
            assert not self.empties(driver.wait(0.4))
            driver.operate(reserve(1))
        assert self.empties(driver.wait(0.45)), "two seconds have passed"

    def test_statuses_are_left_to_the_next_process(self, driver):
        identifier = driver.operate(reserve(8))
        driver.feed(steps.Stop())
        driver.judge(identifier, reserve(8))
        assert self.empties(driver.wait(0.6))
        driver.wait(10.0)
        assert statuses(driver) == []

    def test_totals_are_not_replaced_any_more(self, driver):
        driver.operate(reserve(8))
        driver.feed(steps.Stop())
        driver.feed(steps.Desire((pool(128),), 2))
        assert self.empties(driver.wait(10.0))

    def test_a_stream_that_breaks_meanwhile_is_not_waited_for(self, driver):
        driver.wait(1.0)
        driver.feed(steps.Stop())
        driver.feed(steps.Ended(1, "broken", clean=False))
        assert driver.machine.state is ProviderState.STOPPED

    def test_one_that_is_not_subscribed_leaves_at_once(self):
        driver = Driver()
        driver.feed(steps.Start(), steps.Stop())
        assert driver.machine.state is ProviderState.STOPPED

    def test_so_does_one_that_the_agents_operator_removed(self, driver):
        driver.receive("TEARDOWN")
        driver.feed(steps.Ended(1, "over", clean=True))
        assert driver.machine.state is ProviderState.RETIRED
        driver.feed(steps.Stop())
        assert driver.machine.state is ProviderState.STOPPED
