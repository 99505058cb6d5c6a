"""A host that may still write keeps its volumes; one that is proven gone loses them."""

from __future__ import annotations

import time

import pytest

from drivers.base import Capability, Fence
from polly_mesos.errors import NotSupported, PollyError, VolumeInUse
from polly_mesos.model import HostIdentity
from polly_mesos.testing.driver_suite.harness import MACHINE, OTHER_MACHINE, OTHER_NODE, Harness
from polly_mesos.testing.driver_suite.machines import Machine

_DATA = b"what the dead host wrote"


class FencingTests:
    """Tests of fence and of detach by force."""

    def test_a_driver_that_cannot_fence_says_so(self, harness: Harness) -> None:
        if harness.can(Capability.FENCE):
            return
        with pytest.raises(NotSupported):
            harness.controller.fence(harness.identity())

    def test_an_operators_word_is_enough_where_nothing_speaks_against_it(self, harness: Harness) -> None:
        if harness.platform_sees_hosts:
            return
        volume = harness.create()
        harness.controller.attach(volume.id, harness.identity())
        for _ in range(2):
            harness.new_controller().detach(volume.id, harness.identity(), force=True)
        assert harness.controller.get(volume.id).attached_to == ()

    def test_an_operators_word_is_not_enough_against_a_platform_that_sees_the_host_run(self, harness: Harness) -> None:
        if not harness.platform_sees_hosts:
            return
        volume = harness.create()
        with harness.machine() as machine:
            harness.controller.attach(volume.id, machine.identity)  # and nobody uses it
            for _ in range(2):
                with pytest.raises(VolumeInUse):
                    harness.new_controller().detach(volume.id, machine.identity, force=True)
            assert harness.controller.get(volume.id).attached_to == (machine.identity.host,)
            machine.stop()
            self._fence(harness, machine)
            for _ in range(2):
                harness.new_controller().detach(volume.id, machine.identity, force=True)
        assert harness.controller.get(volume.id).attached_to == ()

    def test_taking_a_volume_by_force_from_a_host_that_does_not_have_it_leaves_it(self, harness: Harness) -> None:
        volume = harness.create()
        harness.controller.attach(volume.id, harness.identity())
        harness.controller.detach(volume.id, harness.identity(OTHER_NODE), force=True)
        assert harness.controller.get(volume.id).attached_to == (harness.identity().host,)
        harness.controller.detach("no-such-volume", harness.identity(), force=True)

    def test_a_host_that_nobody_knows_is_not_proven_gone(self, harness: Harness) -> None:
        if not harness.can(Capability.FENCE):
            return
        volume, nobody = harness.create(), HostIdentity("192.0.2.254:1")
        for fence in (harness.controller.fence(nobody), harness.controller.fence_from(nobody, [volume.id])):
            assert not fence.proven
            assert fence.reason

    def test_a_running_host_is_not_proven_gone_and_keeps_what_it_uses(self, harness: Harness) -> None:
        if not harness.can(Capability.FENCE):
            return
        volume = harness.create()
        with harness.machine() as machine:
            assert not harness.controller.fence(machine.identity).proven
            machine.use(harness.controller.attach(volume.id, machine.identity))
            for _ in range(2):
                assert not harness.new_controller().fence(machine.identity).proven
                assert not harness.controller.fence_from(machine.identity, [volume.id]).proven
            with pytest.raises(VolumeInUse):
                harness.controller.detach(volume.id, machine.identity, force=True)
            with pytest.raises(VolumeInUse):
                harness.controller.attach(volume.id, harness.identity(OTHER_NODE))
            assert harness.controller.get(volume.id).attached_to == (machine.identity.host,)
        self._fence(harness, machine)
        harness.controller.detach(volume.id, machine.identity, force=True)

    def test_a_stopped_host_keeps_its_volumes_until_they_are_taken_by_force(self, harness: Harness) -> None:
        if not harness.can(Capability.FENCE):
            return
        volume, other = harness.create(), harness.identity(OTHER_NODE)
        with harness.machine() as machine:
            machine.use(harness.controller.attach(volume.id, machine.identity))
            machine.stop()
            assert self._fence(harness, machine).reason
            assert harness.controller.fence_from(machine.identity, [volume.id]).proven
            assert harness.controller.get(volume.id).attached_to == (machine.identity.host,)
            with pytest.raises(VolumeInUse):
                harness.controller.attach(volume.id, other)
            for _ in range(2):
                harness.new_controller().detach(volume.id, machine.identity, force=True)
            harness.controller.attach(volume.id, other)
            harness.controller.detach(volume.id, machine.identity, force=True)
            assert harness.controller.get(volume.id).attached_to == (other.host,)

    def test_the_data_is_there_after_the_volume_was_taken_by_force(self, harness: Harness) -> None:
        if not harness.can(Capability.FENCE):
            return
        volume = harness.create()
        with harness.on_host(volume, OTHER_NODE) as attached:
            harness.write(attached.path, _DATA)
        with harness.machine() as machine:
            machine.use(harness.controller.attach(volume.id, machine.identity))
            machine.stop()
            self._fence(harness, machine)
            harness.controller.detach(volume.id, machine.identity, force=True)
        with harness.on_host(volume, OTHER_NODE) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA

    def test_a_host_that_comes_back_does_not_find_what_was_taken_from_it(self, harness: Harness) -> None:
        if not harness.can(Capability.FENCE):
            return
        volume = harness.create()
        with harness.machine() as machine:
            attachment = harness.controller.attach(volume.id, machine.identity)
            machine.use(attachment)
            machine.stop()
            self._fence(harness, machine)
            harness.controller.detach(volume.id, machine.identity, force=True)
        for taken_by_another in (False, True):
            if taken_by_another:
                harness.controller.attach(volume.id, harness.identity(OTHER_NODE))
            with pytest.raises(PollyError):
                harness.new_host(MACHINE).locate(attachment, 0.05)

    def test_a_stopped_host_says_nothing_about_another(self, harness: Harness) -> None:
        if not harness.can(Capability.FENCE):
            return
        with harness.machine() as machine, harness.machine(OTHER_MACHINE) as other:
            machine.stop()
            self._fence(harness, machine)
            assert not harness.controller.fence(other.identity).proven

    def _fence(self, harness: Harness, machine: Machine) -> Fence:
        """What the platform says once it has noticed that the machine was stopped."""
        deadline = time.monotonic() + harness.timeout
        while not (fence := harness.controller.fence(machine.identity)).proven:
            assert time.monotonic() < deadline, f"not proven after {harness.timeout} seconds: {fence.reason}"
            time.sleep(0.05)
        return fence
