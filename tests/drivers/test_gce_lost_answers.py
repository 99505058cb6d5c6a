"""Answers of Google's that are lost, late or useless: may have happened is not did not happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import from_http_status

from drivers.gce.checks import PERMISSIONS
from drivers.gce.errors import translate
from polly_mesos.errors import PlatformDenied, PlatformError, PlatformThrottled, PlatformUnavailable
from polly_mesos.testing.gce import Kind
from tests.drivers.gce_platform import GIB, ZONE, Service, running


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path) as service:
        yield service


@pytest.mark.parametrize("kind", [Kind.LOST, Kind.CUT_OFF, Kind.HTML_AFTER])
def test_a_creation_whose_answer_is_lost_is_found_by_the_next(service: Service, kind: Kind) -> None:
    request = service.request()
    service.compute.faults.inject("disks.insert", kind)
    with pytest.raises(PlatformUnavailable) as caught:
        service.controller.create(request)
    assert caught.value.outcome_unknown
    again = service.restart().create(request)
    service.settle()
    assert service.controller.get(again.id).tags == request.tags
    assert len(service.disks()) == 1


@pytest.mark.parametrize("kind", [Kind.NEVER, Kind.HTML])
def test_a_creation_that_never_arrived_is_made_by_the_next(service: Service, kind: Kind) -> None:
    request = service.request()
    service.compute.faults.inject("disks.insert", kind)
    with pytest.raises(PlatformUnavailable) as caught:
        service.controller.create(request)
    assert caught.value.outcome_unknown
    assert service.disks() == []
    service.made(request)


def test_attaching_again_after_a_lost_answer_gives_the_same(service: Service) -> None:
    volume, host = service.made(), service.host()
    service.compute.faults.inject("instances.attachDisk", Kind.LOST)
    with pytest.raises(PlatformUnavailable) as caught:
        service.controller.attach(volume.id, host)
    assert caught.value.outcome_unknown
    assert service.restart().attach(volume.id, host) == {"device_name": volume.id.rpartition("/")[2]}
    assert service.controller.get(volume.id).attached_to == (host.host,)


def test_a_detach_waits_for_an_attachment_that_is_still_under_way(service: Service) -> None:
    volume, host = service.made(), service.host()
    service.compute.operations.latency = 0.3
    service.compute.faults.inject("instances.attachDisk", Kind.LOST)
    with pytest.raises(PlatformUnavailable):
        service.controller.attach(volume.id, host)
    service.controller.detach(volume.id, host)
    service.settle()
    assert service.controller.get(volume.id).attached_to == ()


def test_a_deletion_whose_answer_is_lost_is_finished_by_the_next(service: Service) -> None:
    volume = service.made()
    service.compute.faults.inject("disks.delete", Kind.LOST)
    with pytest.raises(PlatformUnavailable):
        service.controller.delete(volume.id)
    service.settle()
    service.controller.delete(volume.id)
    assert service.disks() == []


def test_a_wait_that_is_cut_off_goes_on_and_ends_when_polly_stops(service: Service) -> None:
    volume, host = service.made(), service.host()
    service.compute.operations.pause()
    controller = service.restart(operation_timeout=0.2)
    service.compute.operations.wait_limit = 0.05
    with pytest.raises(PlatformUnavailable, match="in vain so far") as caught:
        controller.attach(volume.id, host)
    assert caught.value.outcome_unknown
    controller.close()
    with pytest.raises(PlatformUnavailable, match="Polly stops"):
        controller.attach(volume.id, host)
    service.compute.operations.pause(False)


@pytest.mark.parametrize("operation", ["create", "expand", "snapshot"])
def test_what_was_done_and_could_not_be_read_back_may_have_happened(service: Service, operation: str) -> None:
    volume, request = service.made(), service.request()
    done: dict[str, Callable[[], object]] = {
        "create": lambda: service.controller.create(request),
        "expand": lambda: service.controller.expand(volume.id, 20 * GIB),
        "snapshot": lambda: service.controller.snapshot(volume.id, "snap", volume.tags),
    }
    if operation != "expand":
        done[operation]()
        service.settle()
    # What is asked again is answered as done; of an expansion the first look is answered, too.
    method = "snapshots.get" if operation == "snapshot" else "disks.get"
    if operation == "expand":
        service.compute.faults.inject(method, Kind.SLOW)
    service.compute.faults.inject(method, Kind.HTML)
    with pytest.raises(PlatformUnavailable) as caught:
        done[operation]()
    assert caught.value.outcome_unknown


@pytest.mark.parametrize(
    ("trouble", "error"),
    [("throttled", PlatformThrottled), ("denied", PlatformDenied), ("forgotten", PlatformUnavailable)],
)
def test_a_wait_that_fails_leaves_it_open_what_became_of_the_change(
    service: Service, monkeypatch: pytest.MonkeyPatch, trouble: str, error: type[PlatformError]
) -> None:
    volume, host, wait = service.made(), service.host(), service.controller._api.wait
    service.compute.operations.pause()
    if trouble == "throttled":
        service.compute.faults.inject("zoneOperations.wait", Kind.THROTTLED)
    elif trouble == "denied":
        service.compute.access.permissions = frozenset(PERMISSIONS) - {"compute.zoneOperations.get"}

    def forget(operation: Any, what: str) -> Any:
        if trouble == "forgotten":
            del service.compute.world.resources[f"zones/{ZONE}/operations/{operation.name}"]
        return wait(operation, what)

    monkeypatch.setattr(service.controller._api, "wait", forget)
    with pytest.raises(error) as caught:
        service.controller.attach(volume.id, host)
    assert caught.value.outcome_unknown


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_an_answer_that_tells_nothing_of_the_change_leaves_it_open(status: int) -> None:
    told = translate(from_http_status(status, "upstream"), "creating disk x", changing=True, request_id="1")
    assert isinstance(told, PlatformUnavailable)
    assert told.outcome_unknown
