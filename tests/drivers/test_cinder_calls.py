"""How often the platform is asked: the table in the documentation is what was measured at a real Cinder."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.base import CreateRequest, Tags
from drivers.cinder import GIB
from drivers.cinder.controller import CinderController
from drivers.cinder.settings import CinderSettings
from polly_mesos.model import HostIdentity
from tests.drivers.cinder_cloud import cloud
from tests.drivers.test_cinder_failures import available

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]

PAGE = Path(__file__).parents[2] / "docs/drivers/cinder.md"
_ROW = re.compile(r"(?m)^\| ([a-z, ]+) \| (`[A-Z]+ .*) \|$")
_CALL = re.compile(r"`([A-Z]+ [^`]+)`(\*?)")
_IDENTIFIER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def documented() -> dict[str, dict[str, bool]]:
    """Operation -> call -> whether it may be repeated."""
    rows = _ROW.findall(PAGE.read_text())
    return {name: {call: bool(star) for call, star in _CALL.findall(calls)} for name, calls in rows}


def measured(operation: Callable[[], object]) -> Counter[str]:
    cloud().proxy.clear()
    cloud().nova.calls.clear()
    operation()
    counted: Counter[str] = Counter()
    for call, times in cloud().proxy.calls.items():
        counted[call.replace("/v3/{project}/", "")] += times
    for call in cloud().nova.calls:
        if "os-server-external-events" not in call:  # asked by Cinder
            counted[_IDENTIFIER.sub("{id}", call.replace("/v2.1/", ""))] += 1
    return counted


def on_a_host_of_its_own(volume: str) -> dict[str, Counter[str]]:
    """The operations that are others where the agents are no instances; on a way that has a password."""
    driver = CinderController(CinderSettings(**cloud().login(attach_by="cinder")), "calls")
    driver.list()
    host = HostIdentity("192.0.2.31", details={"connector": json.dumps({"ip": "192.0.2.31"})})
    seen = {}
    made = []

    def with_password(operation: Callable[[], object]) -> Counter[str]:
        def prepared() -> object:
            cloud().proxy.connection = {"auth_password": "chap-and-secret"}
            return operation()

        return measured(prepared)

    seen["attach to a host"] = with_password(lambda: made.append(driver.attach(volume, host)))
    seen["attach to a host again"] = with_password(lambda: driver.attach(volume, host))
    seen["tell a host its password"] = with_password(lambda: driver.secrets(volume, made[0]))
    seen["detach from a host"] = measured(lambda: driver.detach(volume, host))
    return seen


def test_each_operation_makes_the_calls_that_the_documentation_names() -> None:
    driver = CinderController(CinderSettings(**cloud().login()), "calls")
    tags = Tags("calls", "volume", "gold")

    def request() -> CreateRequest:
        return CreateRequest(str(uuid.uuid4()), GIB, tags)

    driver.list()
    host = HostIdentity(cloud().nova.server_of("192.0.2.30:5051").id)
    seen: dict[str, Counter[str]] = {}
    seen["capacity"] = measured(lambda: driver.capacity("", ""))
    made = []
    seen["create"] = measured(lambda: made.append(driver.create(request())))
    volume = available(made[0], driver).id
    seen["get"] = measured(lambda: driver.get(volume))
    seen["list, a page"] = measured(driver.list)
    seen["attach"] = measured(lambda: driver.attach(volume, host))
    seen["attach again"] = measured(lambda: driver.attach(volume, host))
    seen["expand in use"] = measured(lambda: driver.expand(volume, 2 * GIB))
    seen["fence"] = measured(lambda: driver.fence(host))
    seen["detach"] = measured(lambda: driver.detach(volume, host))
    seen["expand"] = measured(lambda: driver.expand(volume, 3 * GIB))
    seen["clone"] = measured(lambda: made.append(driver.clone(volume, CreateRequest(str(uuid.uuid4()), 3 * GIB, tags))))
    snapshots = []
    seen["snapshot"] = measured(lambda: snapshots.append(driver.snapshot(volume, str(uuid.uuid4()), tags)))
    while driver.get_snapshot(snapshots[0].id).state.value == "creating":
        pass
    larger = CreateRequest(str(uuid.uuid4()), 3 * GIB, tags)
    seen["restore"] = measured(lambda: made.append(driver.restore(snapshots[0].id, larger)))
    for copy in made[1:]:
        driver.delete(available(copy, driver).id)
    seen["delete snapshot"] = measured(lambda: driver.delete_snapshot(snapshots[0].id))
    seen |= on_a_host_of_its_own(volume)
    seen["delete"] = measured(lambda: driver.delete(volume))

    table = documented()
    assert set(table) == set(seen)
    for name, calls in seen.items():
        assert set(calls) == set(table[name]), name
        repeated = {call for call, times in calls.items() if times > 1}
        assert repeated <= {call for call, may_repeat in table[name].items() if may_repeat}, name
