"""When the handler is asked to publish: not before the ledger can know the volumes."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from polly_mesos.agent_api import Verdict
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.provider import steps
from polly_mesos.mesos.provider.contract import ProviderIdentity
from polly_mesos.mesos.provider.machine import Machine
from polly_mesos.mesos.provider.messages import wire_uuid
from polly_mesos.mesos.provider.steps import Timing

POOL = arithmetic.pool_disk(100, root="/polly/gold", profile="gold", vendor="polly.gold")
RESERVATION = {"role": "dev", "type": "DYNAMIC", "principal": "dev"}
STREAM = 1


def volume(name: str) -> dict[str, Any]:
    disk = {**POOL["disk"], "persistence": {"id": name}, "volume": {"mode": "RW", "container_path": "data"}}
    return {**POOL, "scalar": {"value": 10.0}, "reservations": [RESERVATION], "disk": disk}


class Provider:
    """A machine that is subscribed and has told its totals."""

    def __init__(self, *totals: dict[str, Any]) -> None:
        self.machine = Machine(ProviderIdentity("polly", "test"), Timing(settle=1.0, minimum_interval=5.0))
        self.now = 100.0
        self.version = ""
        self.actions: list[Any] = []
        self.feed(steps.Desire(totals, 1))
        self.feed(steps.Start())
        self.feed(steps.Found("agent-1"))
        self.feed(steps.Looked(subscribed=False))
        self.receive("SUBSCRIBED", provider_id={"value": "provider-1"})

    def feed(self, event: Any) -> list[Any]:
        new = self.machine.handle(event, self.now)
        for action in new:
            if isinstance(action, steps.Call) and action.body["type"] == "UPDATE_STATE":
                self.version = action.body["update_state"]["resource_version_uuid"]
        self.actions += new
        return list(new)

    def receive(self, kind: str, **body: Any) -> list[Any]:
        return self.feed(steps.Received(STREAM, {"type": kind, kind.lower(): body}))

    def apply(self, info: dict[str, Any]) -> UUID:
        identifier = uuid4()
        uuid, version = wire_uuid(identifier), self.version
        self.receive("APPLY_OPERATION", operation_uuid=uuid, info=info, resource_version_uuid=version)
        return identifier

    def publish(self, *volumes: dict[str, Any]) -> list[steps.Publish]:
        return publishes(self.receive("PUBLISH_RESOURCES", uuid=wire_uuid(uuid4()), resources=list(volumes)))

    def judge(self, operation: UUID, info: dict[str, Any], state: str = "OPERATION_FINISHED") -> list[steps.Publish]:
        verdict = Verdict(str(operation), state, str(uuid4()), info, converted=(volume("new"),))
        return publishes(self.feed(steps.Judged(operation, verdict)))


def publishes(actions: list[Any]) -> list[steps.Publish]:
    return [action for action in actions if isinstance(action, steps.Publish)]


CREATE = {"type": "CREATE", "create": {"volumes": [volume("new")]}}


def provider_with_a_reservation() -> Provider:
    reserved = {**POOL, "reservations": [RESERVATION]}
    return Provider(reserved, volume("old"))


def test_a_volume_is_published_after_its_create_was_judged() -> None:
    provider = provider_with_a_reservation()
    operation = provider.apply(CREATE)
    assert provider.publish(volume("new")) == []
    (asked,) = provider.judge(operation, CREATE)
    assert asked.resources == (volume("new"),)


def test_a_publish_does_not_wait_for_a_create_that_was_refused() -> None:
    provider = provider_with_a_reservation()
    operation = provider.apply(CREATE)
    assert provider.publish(volume("new")) == []
    assert provider.judge(operation, CREATE, "OPERATION_FAILED"), "the ledger has to say that there is no such volume"


def test_other_volumes_do_not_wait() -> None:
    provider = provider_with_a_reservation()
    provider.apply(CREATE)
    assert len(provider.publish(volume("old"))) == 1


def test_a_publish_of_a_stream_that_has_ended_is_forgotten() -> None:
    provider = provider_with_a_reservation()
    operation = provider.apply(CREATE)
    provider.publish(volume("new"))
    provider.feed(steps.Ended(STREAM, "the agent went away", clean=False))
    assert provider.judge(operation, CREATE) == []
