"""A Nova whose answers do not come or are no good, and instances in all states: one error each, and calls converge."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.base import CreateRequest, PlatformVolume, Tags
from drivers.cinder import GIB
from drivers.cinder.controller import CinderController
from drivers.cinder.settings import CinderSettings
from polly_mesos.errors import (
    PlatformError,
    PlatformFull,
    PlatformThrottled,
    PlatformUnavailable,
    PollyError,
    UnknownHost,
    VolumeInUse,
    WrongState,
)
from polly_mesos.model import HostIdentity
from polly_mesos.testing.openstack.servers import ACTIVE, ERROR, PAUSED, RESCUE, RESIZED, SHUTOFF, SUSPENDED, Server
from tests.drivers.cinder_cloud import cloud
from tests.drivers.test_cinder_failures import available

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]

ATTACH = "POST", "/servers/{id}/os-volume_attachments"
DETACH = "DELETE", "/servers/{id}/os-volume_attachments/{id}"
LOOK = "GET", "/servers/{id}/os-volume_attachments/{id}"
SHOW = "GET", "/servers/{id}"
MAY_HAVE_HAPPENED = ["lost", "cut", "html", "not-json", "garbled", "failure", "unavailable"]
REFUSED = [("throttle", PlatformThrottled), ("conflict", WrongState)]


class Case:
    """A volume and an instance.

    :ivar volume: what the tests are about
    :ivar server: the instance, as Nova has it
    """

    def __init__(self) -> None:
        self.driver = controller()
        token = str(uuid.uuid4())
        made = self.driver.create(CreateRequest(token, GIB, Tags("nova", token, "gold")))
        self.volume: PlatformVolume = available(made, self.driver)
        self.server: Server = cloud().nova.server_of(f"{uuid.uuid4()}:5051")
        self.host = HostIdentity(self.server.id)

    def attach(self, driver: CinderController | None = None) -> Any:
        return (driver or self.driver).attach(self.volume.id, self.host)

    def detach(self, driver: CinderController | None = None) -> None:
        (driver or self.driver).detach(self.volume.id, self.host)

    @property
    def attached(self) -> bool:
        return self.driver.get(self.volume.id).attached_to == (self.host.host,)

    @property
    def status(self) -> str:
        return str(cloud().connect().block_storage.get(f"/volumes/{self.volume.id}").json()["volume"]["status"])

    def clean(self) -> None:
        cloud().proxy.clear()
        cloud().compute.clear()
        self.server.status = self.server.status if self.server.status in (SHUTOFF, "DELETED") else ACTIVE
        self.server.task, self.server.host_up = None, True
        self.server.held.clear()
        cloud().nova.resume(self.server)
        self.detach()
        self.driver.delete(self.volume.id)


def controller(**changes: Any) -> CinderController:
    return CinderController(CinderSettings(**cloud().login(**changes)), "nova")


@pytest.fixture
def case(needs_cloud: None) -> Iterator[Case]:
    made = Case()
    yield made
    made.clean()


@contextlib.contextmanager
def meanwhile(do: Callable[[], object]) -> Iterator[None]:
    """Beside what is in the block."""
    thread = threading.Thread(target=do)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestAnswers:
    """After a change whose answer is no good it may have happened; the same call again ends where it should."""

    @pytest.mark.parametrize("kind", MAY_HAVE_HAPPENED)
    def test_attach_and_detach_that_may_have_happened(self, case: Case, kind: Any) -> None:
        for call, where, after in ((case.attach, ATTACH, True), (case.detach, DETACH, False)):
            cloud().compute.inject(kind, *where)
            if where is DETACH and kind == "cut":
                continue  # it is answered without a body, so there is nothing to be cut
            with pytest.raises(PlatformUnavailable) as caught:
                call()
            assert caught.value.outcome_unknown
            call()
            assert case.attached is after

    @pytest.mark.parametrize(("kind", "error"), REFUSED)
    def test_what_was_refused_did_not_happen(self, case: Case, kind: Any, error: type[PollyError]) -> None:
        for call, where, after in ((case.attach, ATTACH, True), (case.detach, DETACH, False)):
            cloud().compute.inject(kind, *where)
            with pytest.raises(error, match="req-of-the-proxy") as caught:
                call()
            assert not getattr(caught.value, "outcome_unknown", False)
            assert case.attached is not after
            call()
            assert case.attached is after

    def test_a_slow_nova_is_given_up_after_the_configured_time(self, case: Case) -> None:
        hasty = controller(request_timeout=0.5)
        hasty.list()
        for call, where, after in ((case.attach, ATTACH, True), (case.detach, DETACH, False)):
            cloud().compute.inject("slow", *where, seconds=2.0)
            with pytest.raises(PlatformUnavailable) as caught:
                call(hasty)
            assert caught.value.outcome_unknown
            until(lambda after=after: case.attached is after)  # type: ignore[misc]
            call()
            assert case.attached is after

    @pytest.mark.parametrize("kind", ["lost", "html", "failure", "throttle", "missing", "not-json"])
    def test_a_fence_is_proven_by_good_answers_only(self, needs_cloud: None, kind: Any) -> None:
        driver, server = controller(), cloud().nova.server_of("192.0.2.70:5051")
        cloud().nova.stop(server)
        cloud().compute.inject(kind, *SHOW)
        if kind == "missing":
            assert not driver.fence(HostIdentity(server.id)).proven
        else:
            with pytest.raises(PlatformError) as caught:
                driver.fence(HostIdentity(server.id))
            assert caught.value.retryable
            assert not caught.value.outcome_unknown
        assert driver.fence(HostIdentity(server.id)).proven

    def test_what_fails_while_it_is_waited_for_may_have_happened(self, case: Case) -> None:
        """Not what Nova was asked fails, but the looks at what comes of it."""
        for call, after in ((case.attach, True), (case.detach, False)):
            case.server.hangs = True
            cloud().proxy.inject("unavailable", "GET", "/volumes/{id}", after=1)
            with pytest.raises(PlatformUnavailable, match="503") as caught:
                call()
            assert caught.value.outcome_unknown
            cloud().nova.resume(case.server)
            call()
            assert case.attached is after

    def test_growth_in_use_that_nova_does_not_tell_of(self, case: Case) -> None:
        case.attach()
        for after, happened in ((0, False), (1, True)):
            cloud().compute.inject("unavailable", "GET", "/os-instance-actions", after=after)
            with pytest.raises(PlatformUnavailable, match="503") as caught:
                case.driver.expand(case.volume.id, 2 * GIB)
            assert caught.value.outcome_unknown is happened
            assert case.driver.get(case.volume.id).size == (2 * GIB if happened else GIB)
        assert case.driver.expand(case.volume.id, 2 * GIB).size == 2 * GIB

    def test_a_cloud_without_nova_is_told(self, case: Case) -> None:
        identity: Any = cloud().connect().identity
        (service,) = identity.services(type="block-storage")
        identity.create_region(id="storage-only")
        url = f"{cloud().volume_url}/%(project_id)s"
        identity.create_endpoint(service_id=service.id, interface="public", url=url, region_id="storage-only")
        driver = controller(region_name="storage-only")
        driver.get(case.volume.id)
        with pytest.raises(PlatformError, match="compute") as caught:
            case.attach(driver)
        assert "attach_by" in caught.value.remedy
        assert not caught.value.outcome_unknown
        assert not caught.value.retryable


class TestLaggingBehind:
    """A Nova that does not show yet what it has."""

    def test_an_attachment_that_is_not_shown_yet(self, case: Case) -> None:
        case.server.hangs = True
        with pytest.raises(PlatformUnavailable):
            case.attach(controller(attach_timeout=0.3))
        cloud().compute.inject("missing", *LOOK, times=2)
        with pytest.raises((VolumeInUse, WrongState)):
            case.attach()
        cloud().compute.clear()
        cloud().nova.resume(case.server)
        case.attach()
        assert case.attached

    def test_a_volume_that_cinder_shows_late_is_not_called_unattached(self, case: Case) -> None:
        """Nova has taken the order, and Cinder still shows what was before."""
        case.server.hangs = True
        driver = case.driver
        before = driver._attachments._find(case.volume.id)
        seen = iter([before, before])
        find = driver._attachments._find
        driver._attachments._find = lambda volume: next(seen, None) or find(volume)  # type: ignore[method-assign]
        with meanwhile(lambda: (until(lambda: bool(case.server.orders)), cloud().nova.resume(case.server))):
            case.attach()
        assert case.attached

    def test_a_detach_that_nova_does_not_find_leaves_what_the_instance_has(self, case: Case) -> None:
        case.attach()
        cloud().compute.inject("missing", *DETACH)
        with pytest.raises(WrongState, match="req-"):
            case.detach()
        assert case.attached
        case.detach()
        assert not case.attached


class TestStuck:
    """What does not end is said to be so, and ends by the same call when it can."""

    def test_a_volume_that_stays_attaching(self, case: Case) -> None:
        case.server.hangs = True
        hasty = controller(attach_timeout=0.3)
        for call in (case.attach, case.attach, case.detach):
            with pytest.raises(PlatformUnavailable, match=r"0\.3 seconds") as caught:
                call(hasty)
            assert caught.value.outcome_unknown
        with pytest.raises(VolumeInUse):
            case.driver.delete(case.volume.id)
        other = HostIdentity(cloud().nova.server_of(f"{uuid.uuid4()}:5051").id)
        with pytest.raises(VolumeInUse):
            case.driver.attach(case.volume.id, other)
        cloud().nova.resume(case.server)
        case.attach()
        assert case.attached

    def test_a_volume_that_stays_detaching(self, case: Case) -> None:
        case.attach()
        case.server.hangs = True
        hasty = controller(attach_timeout=0.3)
        for call in (case.detach, case.detach, case.attach):
            with pytest.raises(PlatformUnavailable, match=r"0\.3 seconds") as caught:
                call(hasty)
            assert caught.value.outcome_unknown
        cloud().nova.resume(case.server)
        case.detach()
        assert not case.attached

    def test_a_guest_that_never_lets_go(self, case: Case) -> None:
        case.attach()
        case.server.held.add(case.volume.id)
        for _ in range(2):
            with pytest.raises(VolumeInUse, match="did not let go") as caught:
                case.detach()
            assert "unmount" in caught.value.remedy
            assert case.attached
        case.server.held.clear()
        case.detach()

    def test_a_detach_that_comes_while_the_attachment_arrives(self, case: Case) -> None:
        case.server.hangs = True
        with pytest.raises(PlatformUnavailable):
            case.attach(controller(attach_timeout=0.2))
        with meanwhile(lambda: cloud().nova.resume(case.server)):
            case.detach()
        assert not case.attached
        assert case.status == "available"


class TestInstances:
    """What Nova allows depends on what the instance does."""

    @pytest.mark.parametrize("state", [SHUTOFF, PAUSED, RESIZED])
    def test_states_in_which_it_attaches(self, case: Case, state: str) -> None:
        case.server.status = state
        case.attach()
        assert case.attached
        case.server.status = ACTIVE

    @pytest.mark.parametrize("state", [RESCUE, ERROR, SUSPENDED])
    def test_states_in_which_it_does_not_attach(self, case: Case, state: str) -> None:
        case.server.status = state
        with pytest.raises(WrongState, match=r"vm_state .*req-"):
            case.attach()
        assert case.status == "available"
        case.server.status = ACTIVE
        case.attach()

    @pytest.mark.parametrize("state", [RESCUE, ERROR])
    def test_states_in_which_it_does_not_detach(self, case: Case, state: str) -> None:
        case.attach()
        case.server.status = state
        with pytest.raises(WrongState, match=r"vm_state .*req-"):
            case.detach()
        assert case.attached
        assert not case.driver.fence(case.host).proven
        case.server.status = ACTIVE
        case.detach()

    def test_a_paused_guest_does_not_let_go(self, case: Case) -> None:
        case.attach()
        case.server.status = PAUSED
        with pytest.raises(VolumeInUse, match="did not let go"):
            case.detach()
        case.server.status = ACTIVE
        case.detach()

    def test_an_instance_that_is_busy(self, case: Case) -> None:
        case.server.task = "rebooting"
        with pytest.raises(WrongState, match="task_state rebooting"):
            case.attach()
        case.server.task = None
        case.attach()
        case.server.task = "resize_prep"
        with pytest.raises(WrongState, match="task_state resize_prep"):
            case.detach()
        case.server.task = None
        case.detach()

    def test_a_hypervisor_that_is_away_when_it_should_attach(self, case: Case) -> None:
        case.server.host_up = False
        with pytest.raises(PlatformUnavailable, match=r"MessagingTimeout.*req-") as caught:
            case.attach()
        assert caught.value.outcome_unknown
        case.server.host_up = True
        case.attach()

    def test_an_instance_that_is_deleted(self, case: Case) -> None:
        case.attach()
        cloud().nova.delete(case.server)
        case.detach()
        assert not case.attached
        with pytest.raises(UnknownHost):
            case.attach()
        assert case.status == "available"

    def test_a_hypervisor_that_cannot_plug(self, case: Case) -> None:
        (image,) = cloud().directory.glob(f"mounts/*/volume-{case.volume.id}")
        hidden = image.rename(image.with_name("hidden"))
        with pytest.raises(PlatformError, match="did not attach") as caught:
            case.attach()
        hidden.rename(image)
        assert "hypervisor" in caught.value.remedy
        assert not caught.value.outcome_unknown
        assert not case.attached
        case.attach()

    def test_an_instance_that_has_as_many_disks_as_it_can(self, case: Case) -> None:
        case.server.attachments.update({str(number): None for number in range(26)})  # type: ignore[misc]
        with pytest.raises(PlatformFull, match="maximum allowed number") as caught:
            case.attach()
        assert caught.value.request_id.startswith("req-")
        assert "instance" in caught.value.remedy
        case.server.attachments.clear()
