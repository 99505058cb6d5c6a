"""Making, finding and deleting volumes."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from drivers.base import Capability, PlatformState
from polly_mesos.errors import AlreadyExists, InvalidRequest, NotSupported, PlatformFull, UnknownVolume
from polly_mesos.model import MB
from polly_mesos.testing.driver_suite.harness import OTHERS, OURS, Harness

_THREADS = 6


class VolumeTests:
    """Tests of the controller side that need no host."""

    def test_a_new_volume_is_available_and_at_least_as_large_as_asked(self, harness: Harness) -> None:
        volume = harness.create()
        assert volume.state is PlatformState.AVAILABLE
        assert volume.size >= harness.size
        assert volume.attached_to == ()

    def test_creating_twice_with_one_token_makes_one_volume(self, harness: Harness) -> None:
        request = harness.request()
        first = harness.create(request)
        again = harness.new_controller().create(request)
        assert again.id == first.id
        assert list(harness.volumes()) == [first.id]

    def test_a_token_cannot_be_used_again_with_another_size(self, harness: Harness) -> None:
        request = harness.request()
        first = harness.create(request)
        with pytest.raises(AlreadyExists):
            harness.controller.create(replace(request, size=2 * harness.size))
        assert harness.volumes()[first.id].size == first.size

    def test_tags_come_back_as_they_were_given(self, harness: Harness) -> None:
        request = harness.request()
        volume = harness.create(request)
        assert harness.new_controller().get(volume.id).tags == request.tags
        assert harness.volumes()[volume.id].tags == request.tags

    def test_get_and_list_agree(self, harness: Harness) -> None:
        made = {volume.id: volume for volume in (harness.create() for _ in range(5))}
        assert harness.volumes() == made
        assert {volume_id: harness.controller.get(volume_id) for volume_id in made} == made

    def test_the_volumes_of_another_cluster_are_invisible(self, harness: Harness) -> None:
        theirs = harness.new_controller(OTHERS).create(harness.request(cluster=OTHERS))
        assert harness.volumes() == {}
        with pytest.raises(UnknownVolume):
            harness.controller.get(theirs.id)

    def test_the_volumes_of_another_cluster_cannot_be_deleted_or_attached(self, harness: Harness) -> None:
        others = harness.new_controller(OTHERS)
        theirs = others.create(harness.request(cluster=OTHERS))
        try:
            harness.controller.delete(theirs.id)
        except UnknownVolume:
            pass
        with pytest.raises(UnknownVolume):
            harness.controller.attach(theirs.id, harness.identity())
        assert list(harness.volumes(others)) == [theirs.id]

    def test_a_deleted_volume_is_gone(self, harness: Harness) -> None:
        volume, kept = harness.create(), harness.create()
        harness.controller.delete(volume.id)
        with pytest.raises(UnknownVolume):
            harness.controller.get(volume.id)
        assert list(harness.volumes()) == [kept.id]

    def test_deleting_again_succeeds(self, harness: Harness) -> None:
        volume = harness.create()
        harness.controller.delete(volume.id)
        harness.controller.delete(volume.id)
        harness.new_controller().delete(volume.id)

    def test_an_unknown_volume_is_told_apart_from_every_other_error(self, harness: Harness) -> None:
        for unknown in (str(uuid.uuid4()), "../etc/passwd", ""):
            with pytest.raises(UnknownVolume):
                harness.controller.get(unknown)
            with pytest.raises(UnknownVolume):
                harness.controller.attach(unknown, harness.identity())
            harness.controller.delete(unknown)
            harness.controller.detach(unknown, harness.identity())

    def test_sizes_of_nothing_and_less_are_refused(self, harness: Harness) -> None:
        for size in (0, -harness.size):
            with pytest.raises(InvalidRequest):
                harness.controller.create(replace(harness.request(), size=size))
        assert harness.volumes() == {}

    def test_capacity_tells_what_there_is(self, harness: Harness) -> None:
        capacity = harness.controller.capacity("", "")
        harness.create()
        after = harness.controller.capacity("", "")
        if capacity.total is not None and after.total is not None:
            assert capacity.total >= harness.size
            assert after.total >= harness.size
        if capacity.available is not None and after.available is not None:
            assert 0 <= after.available <= capacity.available - harness.size + MB
            assert capacity.total is None or capacity.available <= capacity.total

    def test_more_than_there_is_cannot_be_created_and_nothing_is_left(self, harness: Harness) -> None:
        total = harness.controller.capacity("", "").total
        if total is None:
            return
        request = harness.request(size=(total // harness.size + 1) * harness.size * 2)
        with pytest.raises(PlatformFull):
            harness.controller.create(request)
        assert harness.volumes() == {}
        assert harness.create(replace(request, size=harness.size)).size >= harness.size

    def test_a_zone_or_type_that_is_not_there_is_refused(self, harness: Harness) -> None:
        nowhere = "no-such-zone-or-type"
        request = harness.request()
        for refused in (replace(request, zone=nowhere), replace(request, platform_type=nowhere)):
            with pytest.raises((NotSupported, InvalidRequest)):
                harness.controller.create(refused)
        with pytest.raises((NotSupported, InvalidRequest)):
            harness.controller.capacity(nowhere, "")
        assert harness.volumes() == {}

    def test_volumes_are_made_and_deleted_in_several_threads_at_once(self, harness: Harness) -> None:
        requests = [harness.request() for _ in range(_THREADS)]
        with ThreadPoolExecutor(_THREADS) as pool:
            made = list(pool.map(harness.create, requests))
            assert set(harness.volumes()) == {volume.id for volume in made}
            assert [volume.tags for volume in made] == [request.tags for request in requests]
            list(pool.map(harness.controller.delete, [volume.id for volume in made]))
        assert harness.volumes() == {}

    def test_a_volume_can_grow_and_never_shrinks(self, harness: Harness) -> None:
        volume = harness.create()
        if not harness.can(Capability.EXPAND):
            with pytest.raises(NotSupported):
                harness.controller.expand(volume.id, 2 * harness.size)
            return
        assert harness.controller.expand(volume.id, 2 * harness.size).size >= 2 * harness.size
        assert harness.controller.expand(volume.id, harness.size).size >= 2 * harness.size
        assert harness.new_controller().get(volume.id).size >= 2 * harness.size

    def test_creating_again_finds_the_volume_that_has_grown_since(self, harness: Harness) -> None:
        if not harness.can(Capability.EXPAND):
            return
        request = harness.request()
        volume = harness.create(request)
        harness.controller.expand(volume.id, 2 * harness.size)
        assert harness.controller.create(request).id == volume.id

    def test_it_says_only_what_it_can_say_of_itself(self, harness: Harness) -> None:
        assert harness.controller.capabilities <= set(Capability)
        assert all(volume.tags.cluster == OURS for volume in harness.volumes().values())
