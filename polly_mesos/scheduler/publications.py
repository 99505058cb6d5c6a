"""Answers to PUBLISH_RESOURCES: which volumes the resources name, and whether their host may have them now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from polly_mesos.agent_api import Progress, PublishAnswer, PublishRequest, PublishState, PublishTarget
from polly_mesos.errors import AgentUnreachable, InvalidRequest, PollyError, UnknownVolume, VolumeInUse
from polly_mesos.faults import fault_point
from polly_mesos.ledger import Ledger
from polly_mesos.mesos.resources import volume_path
from polly_mesos.model import Agent, Json, Profile, Publication, PublicationState, Volume, VolumeKind, VolumeState
from polly_mesos.scheduler.disks import Disk, parse_disk

log = logging.getLogger(__name__)

_WAITING = "being attached by the platform"


class Publications:
    """Maps volumes to hosts, as far as the ledger is concerned.

    :param on_volume: told the id of each volume for which the volume controller has work
    :param secrets: gives what the host needs of a publication's attachment and nobody keeps
    """

    def __init__(
        self,
        ledger: Ledger,
        profiles: Mapping[str, Profile],
        on_volume: Callable[[str], None],
        secrets: Callable[[Volume, Publication], Json] = lambda _volume, _publication: {},
    ) -> None:
        self._ledger = ledger
        self._profiles = profiles
        self._on_volume = on_volume
        self._secrets = secrets

    def answer(self, request: PublishRequest, agent: Agent) -> PublishAnswer:
        """Where each volume of a PUBLISH_RESOURCES event stands; begins what was not begun."""
        targets = []
        scratch = []
        for resource in request.resources:
            try:
                disk = parse_disk(resource, self._profiles)
            except InvalidRequest:
                scratch.append(resource)
                continue
            if disk.persistence_id:
                targets.append(self._target(disk, agent))
            else:
                scratch.append(resource)
        return PublishAnswer(tuple(targets), tuple(scratch))

    def _target(self, disk: Disk, agent: Agent) -> PublishTarget:
        volume = self._find(disk, agent)
        if volume is None:
            name = disk.volume_id or disk.persistence_id
            return PublishTarget(name, PublishState.REFUSED, reason=f"the ledger knows no volume {name} on this agent")
        if volume.state is VolumeState.CREATING:
            return PublishTarget(volume.id, PublishState.WAIT, reason=volume.error or "being created by the platform")
        if volume.state is not VolumeState.READY:
            return PublishTarget(volume.id, PublishState.REFUSED, reason=f"volume is {volume.state}: {volume.error}")
        try:
            publication = self._publication(volume, agent)
        except (AgentUnreachable, VolumeInUse) as error:
            return PublishTarget(volume.id, PublishState.WAIT, reason=str(error))
        except PollyError as error:
            return PublishTarget(volume.id, PublishState.REFUSED, reason=str(error))
        on_host = publication.state in (PublicationState.ATTACHED, PublicationState.PUBLISHED)
        if not on_host or is_unexplained(publication):
            self._on_volume(volume.id)
            return PublishTarget(volume.id, PublishState.WAIT, reason=_WAITING)
        try:
            secrets = self._secrets(volume, publication)
        except PollyError as error:
            # Nothing is lost by asking again: the volume is attached, and the host has not begun.
            state = PublishState.WAIT if error.retryable else PublishState.REFUSED
            log.warning("volume %s: its host cannot be told how to connect: %s", volume.id, error)
            return PublishTarget(volume.id, state, reason=f"the platform does not tell how to connect: {error}")
        fault_point("publication.answer.before-send")
        return self._ready(disk, volume, publication, secrets)

    def _find(self, disk: Disk, agent: Agent) -> Volume | None:
        if not disk.volume_id:
            return self._ledger.find_volume(agent.id, disk.owner, disk.persistence_id)
        try:
            volume = self._ledger.volume(disk.volume_id)
        except UnknownVolume:
            return None
        return volume if volume.agent == agent.id and volume.kind is VolumeKind.MOUNT else None

    def _publication(self, volume: Volume, agent: Agent) -> Publication:
        identity = agent.identities.get(volume.service)
        if identity is None:
            raise InvalidRequest(
                f"host {agent.hostname} does not know who it is to service {volume.service}",
                field="service",
                value=volume.service,
                remedy="see `polly agent list` for what it lacks",
            )
        fault_point("publication.begin.before-ledger")
        publication = self._ledger.publish(volume.id, agent.id, identity.host)
        fault_point("publication.begin.after-ledger")
        return publication

    def _ready(self, disk: Disk, volume: Volume, publication: Publication, secrets: Json) -> PublishTarget:
        return PublishTarget(
            volume=volume.id,
            state=PublishState.READY,
            target=volume_path(disk.resource),
            generation=publication.generation,
            service=volume.service,
            filesystem=disk.profile.filesystem,
            mount_options=disk.profile.mount_options,
            format_state=volume.format_state,
            attachment=publication.attachment,
            secrets=secrets,
        )

    def progress(self, volume_id: str, step: str, progress: Progress, agent: Agent) -> None:
        """Record a step that the host has done (or, for ``formatting``, is about to do).

        :raises StaleGeneration: the host no longer holds the volume
        """
        publication = self._ledger.publication(volume_id)
        if publication is not None and publication.agent != agent.id:
            raise UnknownVolume(f"volume {volume_id} is not published on this agent")
        steps: Mapping[str, Callable[[], object]] = {
            "formatting": lambda: self._ledger.formatting(volume_id, progress.generation),
            "formatted": lambda: self._ledger.formatted(volume_id, progress.generation),
            "published": lambda: self._ledger.published(
                volume_id, progress.generation, progress.device, progress.target
            ),
            "unpublished": lambda: self._unpublished(volume_id, progress.generation, publication),
        }
        if step not in steps:
            raise InvalidRequest(f"unknown step {step!r}", field="step", value=step, remedy=f"one of {list(steps)}")
        fault_point("publication.step.before-ledger")
        steps[step]()
        fault_point("publication.step.after-ledger")

    def _unpublished(self, volume_id: str, generation: int, publication: Publication | None) -> None:
        if publication is None:
            return
        self._ledger.unpublished(volume_id, generation)
        self._on_volume(volume_id)


def is_unexplained(publication: Publication) -> bool:
    """Whether the ledger has a publication only from its host's word and knows nothing of the attachment behind it."""
    return publication.state is PublicationState.PUBLISHED and not (publication.device or publication.attachment)
