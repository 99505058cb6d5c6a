"""One volume on at most one host."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from polly_mesos.errors import PollyError, VolumeInUse
from polly_mesos.testing.driver_suite.harness import NODE, OTHER_NODE, Harness


class AttachmentTests:
    """Tests of attach and detach."""

    def test_an_attached_volume_says_who_holds_it(self, harness: Harness) -> None:
        volume = harness.create()
        harness.controller.attach(volume.id, harness.identity())
        assert harness.new_controller().get(volume.id).attached_to == (harness.identity().host,)
        assert harness.volumes()[volume.id].attached_to == (harness.identity().host,)

    def test_attaching_again_to_the_same_host_gives_the_same(self, harness: Harness) -> None:
        volume = harness.create()
        first = harness.controller.attach(volume.id, harness.identity())
        assert harness.new_controller().attach(volume.id, harness.identity()) == first

    def test_another_host_is_refused_while_one_holds_the_volume(self, harness: Harness) -> None:
        volume = harness.create()
        harness.controller.attach(volume.id, harness.identity(NODE))
        with pytest.raises(VolumeInUse):
            harness.new_controller().attach(volume.id, harness.identity(OTHER_NODE))
        assert harness.controller.get(volume.id).attached_to == (harness.identity(NODE).host,)

    def test_of_several_hosts_that_ask_at_once_one_gets_the_volume(self, harness: Harness) -> None:
        volume = harness.create()
        hosts = [harness.identity(f"192.0.2.{number}:5051") for number in range(1, 7)]

        def wins(number: int) -> bool:
            try:
                harness.new_controller().attach(volume.id, hosts[number])
            except VolumeInUse:
                return False
            return True

        with ThreadPoolExecutor(len(hosts)) as pool:
            winners = [host for host, won in zip(hosts, pool.map(wins, range(len(hosts))), strict=True) if won]
        assert harness.controller.get(volume.id).attached_to == tuple(host.host for host in winners)
        assert len(winners) == 1
        harness.controller.detach(volume.id, winners[0])

    def test_a_detached_volume_can_go_to_another_host(self, harness: Harness) -> None:
        volume = harness.create()
        harness.controller.attach(volume.id, harness.identity(NODE))
        harness.controller.detach(volume.id, harness.identity(NODE))
        assert harness.controller.get(volume.id).attached_to == ()
        harness.controller.attach(volume.id, harness.identity(OTHER_NODE))
        assert harness.controller.get(volume.id).attached_to == (harness.identity(OTHER_NODE).host,)
        harness.controller.detach(volume.id, harness.identity(OTHER_NODE))

    def test_detaching_again_succeeds(self, harness: Harness) -> None:
        volume = harness.create()
        harness.controller.attach(volume.id, harness.identity())
        for _ in range(3):
            harness.new_controller().detach(volume.id, harness.identity())
        assert harness.controller.get(volume.id).attached_to == ()

    def test_detaching_from_a_host_leaves_the_others_alone(self, harness: Harness) -> None:
        volume, neighbour = harness.create(), harness.create()
        for each in (volume, neighbour):
            harness.controller.attach(each.id, harness.identity(NODE))
        harness.controller.detach(volume.id, harness.identity(OTHER_NODE))
        harness.controller.detach(neighbour.id, harness.identity(NODE))
        assert harness.controller.get(volume.id).attached_to == (harness.identity(NODE).host,)
        harness.controller.detach(volume.id, harness.identity(NODE))

    def test_a_volume_that_is_held_is_not_deleted(self, harness: Harness) -> None:
        with harness.on_host(harness.create()) as attached:
            harness.write(attached.path, b"precious")
            with pytest.raises(VolumeInUse):
                harness.controller.delete(attached.volume.id)
            assert harness.read(attached.path, 8) == b"precious"
        harness.controller.delete(attached.volume.id)

    def test_a_failed_attach_leaves_the_volume_as_it_was(self, harness: Harness) -> None:
        volume = harness.create()
        harness.controller.attach(volume.id, harness.identity(NODE))
        before = harness.controller.get(volume.id)
        with pytest.raises(PollyError):
            harness.controller.attach(volume.id, harness.identity(OTHER_NODE))
        assert harness.controller.get(volume.id) == before
        harness.controller.detach(volume.id, harness.identity(NODE))
