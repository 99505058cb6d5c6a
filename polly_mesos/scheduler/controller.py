"""The volume controller: makes the platforms what the ledger says they should be.

It is level-triggered: to be told about a volume means to look at its records and do the one next step, whatever the
reason for looking was. Every step is journaled: the intent is synced to the ledger before the platform is called, and
each platform call is idempotent, so a crash between any two lines is met by looking again.

Steps on one volume never overlap; steps on different volumes run side by side.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from drivers.base import CreateRequest, PlatformState, PlatformVolume, Tags
from polly_mesos.errors import (
    AlreadyExists,
    InvalidRequest,
    NotSupported,
    PlatformError,
    PlatformFull,
    PollyError,
    UnknownVolume,
)
from polly_mesos.faults import fault_point
from polly_mesos.ledger import Ledger
from polly_mesos.model import (
    HostIdentity,
    Json,
    Operation,
    OperationState,
    Profile,
    Publication,
    PublicationState,
    Volume,
    VolumeState,
)
from polly_mesos.scheduler.publications import is_unexplained
from polly_mesos.scheduler.services import Services
from polly_mesos.scheduler.tags import encode, origin_of
from polly_mesos.scheduler.worker import KeyedWorkers

log = logging.getLogger(__name__)

_FIRST_RETRY = 0.25
_LONGEST_RETRY = 60.0
_POLL = 0.2
_LONGEST_POLL = 5.0
_UNKNOWN_SECONDS = 60.0
_AT_REST = frozenset({PublicationState.ATTACHED, PublicationState.PUBLISHED})
_FINAL = (AlreadyExists, InvalidRequest, NotSupported)


Answer = TypeVar("Answer")


class VolumeController:
    """Creates, attaches, detaches and deletes through the drivers.

    :param workers: how many platform calls run side by side
    """

    def __init__(self, ledger: Ledger, services: Services, *, cluster: str, workers: int = 8) -> None:
        self._ledger = ledger
        self._services = services
        self._cluster = cluster
        self._failures: dict[str, int] = {}
        self._listeners: list[Callable[[str, str, str, float], None]] = []
        self._workers = KeyedWorkers(self.step, workers=workers, name="volume-controller")

    def on_call(self, listener: Callable[[str, str, str, float], None]) -> None:
        """Call ``listener`` after each change of a platform: service, call, ``ok`` or the error's code, and seconds.

        It is called on the thread that made the call, and must be quick.
        """
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin, with every volume that the ledger says is not yet as it should be."""
        self._workers.start()
        self.resume()

    def stop(self) -> None:
        """Finish the running calls and stop."""
        self._workers.stop()

    def resume(self) -> None:
        """Look at every volume with work left: what an earlier process began is finished from here."""
        unfinished = {VolumeState.CREATING, VolumeState.DELETING}
        for volume in self._ledger.volumes(states=unfinished):
            self.look_at(volume.id)
        for publication in self._ledger.publications():
            if publication.state not in _AT_REST or is_unexplained(publication):
                self.look_at(publication.volume)
        for operation in self._ledger.operations(state=OperationState.INTENT, limit=10_000):
            self.look_at(operation.subject)

    def look_at(self, volume: str) -> None:
        """Have a volume looked at soon."""
        self._workers.put(volume)

    def step(self, volume_id: str) -> float | None:
        """Look at a volume now and do its next step, on this thread; never at once for one volume.

        :return: seconds until the next look, or None where there is nothing to wait for
        """
        try:
            volume = self._find(volume_id)
            delay = None if volume is None else self._step(volume)
        except PollyError as error:
            return self._later(volume_id, error)
        except Exception as error:
            log.exception("volume %s: unexpected error", volume_id)
            return self._later(volume_id, PlatformError(f"{type(error).__name__}: {error}", outcome_unknown=True))
        self._failures.pop(volume_id, None)
        return delay

    def _find(self, volume_id: str) -> Volume | None:
        try:
            return self._ledger.volume(volume_id)
        except UnknownVolume:
            return None

    def _later(self, volume_id: str, error: PollyError) -> float:
        count = self._failures[volume_id] = self._failures.get(volume_id, 0) + 1
        delay = min(_LONGEST_RETRY, _FIRST_RETRY * 2.0 ** (count - 1)) * random.uniform(0.8, 1.2)
        log.warning("volume %s: %s; trying again in %.1f s", volume_id, error, delay)
        return delay

    def _step(self, volume: Volume) -> float | None:
        publication = self._ledger.publication(volume.id)
        if volume.state is VolumeState.CREATING:
            return self._create(volume)
        if publication is not None:
            return self._move(volume, publication)
        if volume.state is VolumeState.DELETING:
            self._delete(volume)
            return None
        self._close_stale_intents(volume)
        return None

    def _move(self, volume: Volume, publication: Publication) -> float | None:
        match publication.state:
            case PublicationState.ATTACHING if volume.state is not VolumeState.READY:
                # Nothing is mounted before ATTACHED, so the host need not be asked to let go.
                self._ledger.unpublished(volume.id, publication.generation)
                return 0.0
            case PublicationState.ATTACHING:
                return self._attach(volume, publication)
            case PublicationState.DETACHING:
                return self._detach(volume, publication)
            case _ if is_unexplained(publication):
                # To attach what is attached changes nothing, and tells what the host's driver needs.
                self._attach(volume, publication)
                return None
            case _:
                return None

    def _create(self, volume: Volume) -> float | None:
        profile = self._services.profiles.get(volume.pool)
        if profile is None:
            self._ledger.volume_failed(volume.id, f"profile {volume.profile!r} is not configured", final=False)
            return _LONGEST_RETRY
        request = self._request(volume, profile)
        begun = self._begun(volume)
        if begun is not None and (pause := self._await(volume, begun)) is not None:
            return pause
        try:
            made = self._journaled(
                "volume.create",
                volume,
                {"service": volume.service, "size": volume.size},
                lambda: self._services.controller(volume.service).create(request),
                lambda made: {"platform_id": made.id, "state": made.state.value},
            )
        except PollyError as error:
            final = isinstance(error, _FINAL)
            self._ledger.volume_failed(volume.id, str(error), final=final)
            if final:
                log.error("volume %s cannot be made: %s", volume.id, error)
                return None
            raise
        return self._made(volume, made, _POLL)

    def _begun(self, volume: Volume) -> Operation | None:
        """The last time that the platform said it is making the volume."""
        done = self._ledger.operations(subject=volume.id, state=OperationState.DONE)
        begun = [one for one in done if one.kind == "volume.create" and "platform_id" in one.outcome]
        return max(begun, key=lambda one: one.finished, default=None)

    def _await(self, volume: Volume, begun: Operation) -> float | None:
        """Look at what the platform is making, less often the longer it takes.

        :return: seconds until the next look, or None where it must be asked to make it again: it knows of none
        """
        waited = max(0.0, time.time() - begun.finished)
        pause = min(_LONGEST_POLL, max(_POLL, waited / 4))
        platform_id = str(begun.outcome["platform_id"])
        try:
            made = self._observed(
                volume.service, "volume.get", lambda: self._services.controller(volume.service).get(platform_id)
            )
        except UnknownVolume:
            # What was just made may not be known everywhere yet.
            return pause if waited < _UNKNOWN_SECONDS else None
        return self._made(volume, made, pause)

    def _made(self, volume: Volume, made: PlatformVolume, pause: float) -> float:
        """Take note of what the platform has by now; ``pause`` is the wait for what it is still making."""
        if made.state is PlatformState.ERROR:
            why = f": {made.reason}" if made.reason else ""
            self._ledger.volume_failed(volume.id, f"the platform could not make {made.id}{why}", final=True)
            return 0.0
        if made.state is not PlatformState.AVAILABLE:
            return pause
        self._ledger.volume_created(volume.id, made.id)
        return 0.0

    def _request(self, volume: Volume, profile: Profile) -> CreateRequest:
        return CreateRequest(
            token=volume.id,
            size=volume.size,
            tags=self._tags(volume),
            zone=profile.zone,
            platform_type=profile.platform_type,
            iops=profile.iops,
            encryption=profile.encryption,
            filesystem=profile.filesystem,
            options=profile.options,
        )

    def _tags(self, volume: Volume) -> Tags:
        node = self._ledger.agent(volume.agent).endpoint if volume.agent else ""
        user = encode(origin_of(volume, node))
        profile = self._services.profiles.get(volume.pool)
        labels = {} if profile is None else profile.tags
        return Tags(self._cluster, volume.id, volume.profile, self._ledger.epoch, user, labels)

    def _attach(self, volume: Volume, publication: Publication) -> float:
        host = self._identity(volume, publication)
        attachment = self._journaled(
            "volume.attach",
            volume,
            {"host": publication.host, "generation": publication.generation},
            lambda: self._services.controller(volume.service).attach(volume.platform_id, host),
            lambda attachment: {"attachment": attachment},
        )
        self._ledger.attached(volume.id, publication.generation, attachment)
        return 0.0

    def _detach(self, volume: Volume, publication: Publication) -> float:
        host = self._identity(volume, publication)
        self._journaled(
            "volume.detach",
            volume,
            {"host": publication.host, "generation": publication.generation},
            lambda: self._services.controller(volume.service).detach(
                volume.platform_id, host, force=publication.fenced
            ),
        )
        self._ledger.detached(volume.id, publication.generation)
        return 0.0

    def _delete(self, volume: Volume) -> None:
        # Without a platform id the creation may still have happened without our hearing of it.
        platform_id = volume.platform_id or self._find_unheard(volume)
        if platform_id and not volume.platform_id:
            # A repeat must not look for it again: by then it may be gone, and its token used up.
            self._ledger.volume_created(volume.id, platform_id)
        if platform_id:
            self._journaled(
                "volume.delete",
                volume,
                {"platform_id": platform_id},
                lambda: self._services.controller(volume.service).delete(platform_id),
                lambda _: {},
            )
        self._ledger.volume_deleted(volume.id)
        self._close_stale_intents(volume)

    def _find_unheard(self, volume: Volume) -> str:
        """The platform's id of a volume that was made, or may have been, before it was given up."""
        attempts = [one for one in self._ledger.operations(subject=volume.id) if one.kind == "volume.create"]
        told = next((str(one.outcome["platform_id"]) for one in attempts if "platform_id" in one.outcome), "")
        found = told or self._find_listed(volume)
        if found or all(one.state is not OperationState.INTENT for one in attempts):
            return found
        # What was just made may not be listed yet. Asked with the same token, the platform names it.
        profile = self._services.profiles[volume.pool]
        try:
            return self._services.controller(volume.service).create(self._request(volume, profile)).id
        except (PlatformFull, InvalidRequest, NotSupported):
            return ""  # nothing was made, and nothing is there

    def _find_listed(self, volume: Volume) -> str:
        controller = self._services.controller(volume.service)
        page = controller.list()
        while True:
            for candidate in page.volumes:
                if candidate.tags.volume == volume.id:
                    return candidate.id
            if page.next is None:
                return ""
            page = controller.list(page.next)

    def _journaled(
        self,
        kind: str,
        volume: Volume,
        detail: Json,
        call: Callable[[], Answer],
        outcome: Callable[[Answer], Json] = lambda answer: {},
    ) -> Answer:
        """Call the platform between intent and outcome.

        An error that may go away, or after which the call may have happened, leaves the intent open: the next look
        makes the same call again, and every driver call is idempotent.
        """
        operation = self._ledger.begin(kind, volume.id, detail, volume.agent)
        try:
            fault_point(f"{kind}.before-call")
            answer = self._observed(volume.service, kind, call)
            fault_point(f"{kind}.after-call")
        except PollyError as error:
            if not error.retryable and not getattr(error, "outcome_unknown", False):
                self._ledger.finish(operation.id, {}, error)
            raise
        self._ledger.finish(operation.id, outcome(answer))
        fault_point(f"{kind}.after-outcome")
        return answer

    def _observed(self, service: str, kind: str, call: Callable[[], Answer]) -> Answer:
        began, outcome = time.monotonic(), "unexpected"
        try:
            answer = call()
            outcome = "ok"
            return answer
        except PollyError as error:
            outcome = error.code
            raise
        finally:
            for listener in self._listeners:
                listener(service, kind.removeprefix("volume."), outcome, time.monotonic() - began)

    def _identity(self, volume: Volume, publication: Publication) -> HostIdentity:
        known = self._ledger.agent(publication.agent).identities.get(volume.service)
        return known if known is not None else HostIdentity(publication.host)

    def _close_stale_intents(self, volume: Volume) -> None:
        for operation in self._ledger.operations(subject=volume.id, state=OperationState.INTENT):
            self._ledger.finish(operation.id, {"found": volume.state.value})
