"""What goes wrong where a network lies between: lost answers, long lists, hostile text, and an end in the middle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from drivers.base import Capability
from polly_mesos.errors import PlatformUnavailable
from polly_mesos.testing.driver_suite.harness import OTHERS, Harness

_HOSTILE = (
    "Größe 10 µm",
    "'; DROP TABLE volumes; --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "${HOME} $(reboot) `id`",
    "tag:polly=1,Values=*",
    "日本語",
)


class NetworkTests:
    """Tests of the controller side as a client of something far away."""

    def test_a_lost_answer_to_create_makes_no_second_volume(self, harness: Harness) -> None:
        if harness.lost_answers is None:
            return
        request = harness.request()
        with harness.losing_an_answer():
            harness.controller.create(request)
        volume = harness.create(request)
        assert harness.new_controller().create(request).id == volume.id
        assert list(harness.volumes()) == [volume.id]

    def test_a_lost_answer_to_attach_and_detach_is_met_by_asking_again(self, harness: Harness) -> None:
        if harness.lost_answers is None:
            return
        volume, host = harness.create(), harness.identity()
        with harness.losing_an_answer():
            harness.controller.attach(volume.id, host)
        assert harness.controller.attach(volume.id, host) == harness.new_controller().attach(volume.id, host)
        assert harness.controller.get(volume.id).attached_to == (host.host,)
        with harness.losing_an_answer():
            harness.controller.detach(volume.id, host)
        harness.controller.detach(volume.id, host)
        assert harness.controller.get(volume.id).attached_to == ()

    def test_a_lost_answer_to_delete_is_met_by_asking_again(self, harness: Harness) -> None:
        if harness.lost_answers is None:
            return
        volume = harness.create()
        with harness.losing_an_answer():
            harness.controller.delete(volume.id)
        harness.controller.delete(volume.id)
        assert harness.volumes() == {}

    def test_a_lost_answer_to_a_copy_makes_no_second_one(self, harness: Harness) -> None:
        if harness.lost_answers is None or not harness.can(Capability.SNAPSHOT):
            return
        volume = harness.create()
        tags = replace(volume.tags, volume="snapshot-1")
        with harness.losing_an_answer():
            harness.controller.snapshot(volume.id, "snapshot-1", tags)
        snapshot = harness.controller.snapshot(volume.id, "snapshot-1", tags)
        assert [found.id for found in harness.controller.list_snapshots()] == [snapshot.id]

    def test_many_volumes_are_listed_once_each_and_no_foreign_one_among_them(self, harness: Harness) -> None:
        theirs = harness.new_controller(OTHERS).create(harness.request(cluster=OTHERS))
        made = [harness.controller.create(harness.request()).id for _ in range(harness.many)]
        for volume in made:
            harness.when_available(replace(theirs, id=volume))
        assert sorted(harness.volumes()) == sorted(made)

    def test_hostile_text_comes_back_as_it_was_and_breaks_nothing(self, harness: Harness) -> None:
        request = harness.request()
        user = {f"fact-{number}": text for number, text in enumerate(_HOSTILE)}
        tags = replace(request.tags, user=user, labels={"Cost Centre": _HOSTILE[0]})
        volume = harness.create(replace(request, tags=tags))
        assert harness.new_controller().get(volume.id).tags.user == user
        assert list(harness.volumes()) == [volume.id]

    def test_after_closing_no_call_waits(self, harness: Harness) -> None:
        volume, host = harness.create(), harness.identity()
        ended = harness.new_controller()
        ended.close()
        ended.close()
        calls: tuple[Callable[[], object], ...] = (
            lambda: ended.attach(volume.id, host),
            lambda: ended.detach(volume.id, host),
        )
        for call in calls:
            with contextlib.suppress(PlatformUnavailable):
                call()
        harness.controller.detach(volume.id, host)
        assert harness.controller.get(volume.id).attached_to == ()
