"""The host side, and what a task would see of a volume."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from drivers.base import Capability
from polly_mesos.errors import DeviceNotFound
from polly_mesos.testing.driver_suite.harness import NODE, OTHER_NODE, Attached, Harness

_DATA = b"survives the host"
_VOLUMES = 4


class HostTests:
    """Tests of identify, locate, release and rescan, together with the controller side."""

    def test_a_host_is_the_same_after_a_restart_and_another_is_another(self, harness: Harness) -> None:
        assert harness.identity(NODE) == harness.identity(NODE)
        assert harness.identity(NODE).host
        assert harness.identity(NODE).host != harness.identity(OTHER_NODE).host

    def test_a_volume_is_at_the_same_place_however_often_and_by_whom_it_is_located(self, harness: Harness) -> None:
        with harness.on_host(harness.create()) as attached:
            host = harness.new_host()
            places = {host.locate(attached.attachment, 10.0) for _ in range(3)}
            places.add(harness.new_host().locate(attached.attachment, 10.0))
            assert places == {attached.path}

    def test_two_threads_that_locate_a_volume_find_one_place(self, harness: Harness) -> None:
        volume = harness.create()
        attachment = harness.controller.attach(volume.id, harness.identity())
        with ThreadPoolExecutor(_VOLUMES) as pool:
            places = set(pool.map(lambda _: harness.new_host().locate(attachment, 10.0), range(_VOLUMES)))
        harness.detach(Attached(volume, NODE, attachment, ""))
        assert len(places) == 1

    def test_two_volumes_are_at_two_places(self, harness: Harness) -> None:
        with harness.on_host(harness.create()) as one, harness.on_host(harness.create()) as other:
            assert one.path != other.path
            harness.write(one.path, b"one  ")
            harness.write(other.path, b"other")
            assert (harness.read(one.path, 5), harness.read(other.path, 5)) == (b"one  ", b"other")

    def test_a_new_volume_is_blank(self, harness: Harness) -> None:
        with harness.on_host(harness.create()) as attached:
            assert harness.read(attached.path, 1 << 20).strip(b"\0") == b""

    def test_data_is_there_after_detaching_and_attaching_again(self, harness: Harness) -> None:
        volume = harness.create()
        with harness.on_host(volume) as attached:
            harness.write(attached.path, _DATA)
        with harness.on_host(volume) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA

    def test_data_is_there_on_another_host(self, harness: Harness) -> None:
        volume = harness.create()
        with harness.on_host(volume, NODE) as attached:
            harness.write(attached.path, _DATA)
        with harness.on_host(volume, OTHER_NODE) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA

    def test_releasing_again_succeeds_and_leaves_other_volumes_alone(self, harness: Harness) -> None:
        with harness.on_host(harness.create()) as kept:
            with harness.on_host(harness.create()) as attached:
                for _ in range(3):
                    harness.new_host().release(attached.attachment)
            harness.write(kept.path, _DATA)
            assert harness.new_host().locate(kept.attachment, 10.0) == kept.path
            assert harness.read(kept.path, len(_DATA)) == _DATA

    def test_a_volume_that_is_gone_is_not_found_in_time(self, harness: Harness) -> None:
        volume = harness.create()
        with harness.on_host(volume) as attached:
            pass
        harness.controller.delete(volume.id)
        with pytest.raises(DeviceNotFound):
            harness.new_host().locate(attached.attachment, 0.05)
        harness.new_host().release(attached.attachment)

    def test_the_host_sees_the_size_where_sizes_are_enforced(self, harness: Harness) -> None:
        if not harness.can(Capability.ENFORCES_SIZE):
            return
        with harness.on_host(harness.create()) as attached:
            assert harness.device_size(attached.path) == attached.volume.size
            harness.write(attached.path, _DATA, attached.volume.size - len(_DATA))
            assert harness.read(attached.path, len(_DATA), attached.volume.size - len(_DATA)) == _DATA

    def test_the_host_sees_a_volume_grow_while_it_is_attached(self, harness: Harness) -> None:
        if not {Capability.ENFORCES_SIZE, Capability.EXPAND} <= harness.controller.capabilities:
            return
        with harness.on_host(harness.create()) as attached:
            harness.write(attached.path, _DATA)
            grown = harness.controller.expand(attached.volume.id, 2 * harness.size)
            harness.new_host().rescan(attached.attachment)
            assert harness.device_size(attached.path) == grown.size
            assert harness.read(attached.path, len(_DATA)) == _DATA

    def test_several_volumes_come_and_go_in_threads(self, harness: Harness) -> None:
        def use(number: int) -> bytes:
            with harness.on_host(harness.create()) as attached:
                harness.write(attached.path, bytes([number]) * 64)
                return harness.read(attached.path, 64)

        with ThreadPoolExecutor(_VOLUMES) as pool:
            read = list(pool.map(use, range(1, _VOLUMES + 1)))
        assert read == [bytes([number]) * 64 for number in range(1, _VOLUMES + 1)]
