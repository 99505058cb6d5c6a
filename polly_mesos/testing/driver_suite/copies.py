"""Snapshots and copies, or their refusal by a driver that declares that it has none."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest

from drivers.base import Capability
from polly_mesos.errors import InvalidRequest, NotFound, NotSupported
from polly_mesos.testing.driver_suite.harness import OTHERS, Harness

_DATA = b"what was written before the copy"


class CopyTests:
    """Tests of snapshot, restore and clone."""

    def test_what_is_not_declared_is_refused(self, harness: Harness) -> None:
        volume = harness.create()
        refused: list[Callable[[], object]] = []
        if not harness.can(Capability.SNAPSHOT):
            refused += [
                lambda: harness.controller.snapshot(volume.id, "token", volume.tags),
                lambda: harness.controller.get_snapshot("id"),
                lambda: harness.controller.delete_snapshot("id"),
                harness.controller.list_snapshots,
                lambda: harness.controller.restore("id", harness.request()),
            ]
        if not harness.can(Capability.CLONE):
            refused.append(lambda: harness.controller.clone(volume.id, harness.request()))
        for call in refused:
            with pytest.raises(NotSupported):
                call()
        assert list(harness.volumes()) == [volume.id]

    def test_a_snapshot_keeps_what_was_there(self, harness: Harness) -> None:
        if not harness.can(Capability.SNAPSHOT):
            return
        volume = harness.create()
        with harness.on_host(volume) as attached:
            harness.write(attached.path, _DATA)
        snapshot = harness.snapshot(volume)
        with harness.on_host(volume) as attached:
            harness.write(attached.path, b"something else, written after it")
        restored = harness.when_available(harness.controller.restore(snapshot.id, harness.request()))
        with harness.on_host(restored) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA

    def test_a_snapshot_is_known_by_its_tags_and_its_volume(self, harness: Harness) -> None:
        if not harness.can(Capability.SNAPSHOT):
            return
        volume = harness.create()
        snapshot = harness.snapshot(volume)
        assert snapshot.volume == volume.id
        assert snapshot.tags == replace(volume.tags, volume=snapshot.tags.volume)
        assert harness.new_controller().list_snapshots() == (snapshot,)
        assert harness.new_controller(OTHERS).list_snapshots() == ()
        assert list(harness.volumes()) == [volume.id]

    def test_a_snapshot_is_taken_once_for_one_token(self, harness: Harness) -> None:
        if not harness.can(Capability.SNAPSHOT):
            return
        volume, token = harness.create(), str(uuid.uuid4())
        first = harness.controller.snapshot(volume.id, token, volume.tags)
        assert harness.new_controller().snapshot(volume.id, token, volume.tags).id == first.id
        assert len(harness.controller.list_snapshots()) == 1

    def test_a_snapshot_outlives_its_volume(self, harness: Harness) -> None:
        if not harness.can(Capability.SNAPSHOT):
            return
        volume = harness.create()
        with harness.on_host(volume) as attached:
            harness.write(attached.path, _DATA)
        snapshot = harness.snapshot(volume)
        harness.controller.delete(volume.id)
        restored = harness.when_available(harness.controller.restore(snapshot.id, harness.request()))
        with harness.on_host(restored) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA

    def test_a_deleted_snapshot_is_gone_and_deleting_again_succeeds(self, harness: Harness) -> None:
        if not harness.can(Capability.SNAPSHOT):
            return
        snapshot = harness.snapshot(harness.create())
        for _ in range(2):
            harness.controller.delete_snapshot(snapshot.id)
        with pytest.raises(NotFound):
            harness.controller.get_snapshot(snapshot.id)
        with pytest.raises(NotFound):
            harness.controller.restore(snapshot.id, harness.request())

    def test_a_snapshot_can_be_restored_to_a_larger_volume_and_not_to_a_smaller(self, harness: Harness) -> None:
        if not harness.can(Capability.SNAPSHOT):
            return
        volume = harness.create(harness.request(2 * harness.size))
        snapshot = harness.snapshot(volume)
        larger = harness.when_available(harness.controller.restore(snapshot.id, harness.request(3 * harness.size)))
        assert larger.size >= 3 * harness.size
        with pytest.raises(InvalidRequest):
            harness.controller.restore(snapshot.id, harness.request(harness.size))
        assert set(harness.volumes()) == {volume.id, larger.id}

    def test_a_clone_is_larger_where_asked_and_independent(self, harness: Harness) -> None:
        if not harness.can(Capability.CLONE):
            return
        volume = harness.create()
        with harness.on_host(volume) as attached:
            harness.write(attached.path, _DATA)
        clone = harness.when_available(harness.controller.clone(volume.id, harness.request(2 * harness.size)))
        assert clone.size >= 2 * harness.size
        with harness.on_host(clone) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA
            harness.write(attached.path, b"only the clone has this")
        with harness.on_host(volume) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA
        harness.controller.delete(volume.id)
        assert harness.controller.get(clone.id).size >= 2 * harness.size

    def test_a_clone_is_made_once_for_one_token(self, harness: Harness) -> None:
        if not harness.can(Capability.CLONE):
            return
        volume, request = harness.create(), harness.request()
        clone = harness.when_available(harness.controller.clone(volume.id, request))
        assert harness.new_controller().clone(volume.id, request).id == clone.id
        assert set(harness.volumes()) == {volume.id, clone.id}
