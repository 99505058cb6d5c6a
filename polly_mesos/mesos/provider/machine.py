"""Decides what a resource provider does: events in, actions out, no input or output, no clock.

What aborts a Mesos agent or master, and what rules it out here, stands in :mod:`polly_mesos.mesos.provider`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

from polly_mesos.errors import InvalidRequest
from polly_mesos.mesos.provider import messages, steps
from polly_mesos.mesos.provider.connection import Connection
from polly_mesos.mesos.provider.contract import ProviderIdentity, ProviderState
from polly_mesos.mesos.provider.journal import Journal, Operation, impossible, provider_of_operation, sound_answer
from polly_mesos.mesos.provider.leaving import Leaving
from polly_mesos.mesos.provider.notices import Notices
from polly_mesos.mesos.provider.steps import NEVER, Attempts, Timing
from polly_mesos.mesos.provider.totals import Totals
from polly_mesos.model import Json

log = logging.getLogger(__name__)


class Machine:
    """One resource provider on one agent.

    :param identity: who we are; the id may be empty or no longer valid
    :param new_uuid: gives a UUID that was never used
    """

    def __init__(
        self, identity: ProviderIdentity, timing: Timing | None = None, new_uuid: Callable[[], UUID] = uuid4
    ) -> None:
        self._timing = timing or Timing()
        self._new_uuid = new_uuid
        self._connection = Connection(identity, self._timing)
        self._now = 0.0
        self._actions: list[steps.Action] = []
        self._totals = Totals()
        self._journal = Journal()
        self._backlog: steps.Unacknowledged | None = None
        self._relist = False
        self._version: UUID | None = None
        self._updated_at = self._operation_at = self._status_at = -NEVER
        self._leaving = Leaving(self._timing)
        self._held: list[Json] = []
        self._publishing: list[steps.Publish] = []
        self._notices = Notices(self._timing.retry)

    @property
    def state(self) -> ProviderState:
        """Where the provider stands with its agent."""
        return self._connection.state

    @property
    def identity(self) -> ProviderIdentity:
        """Who we are, with the ids as they are known now."""
        return self._connection.identity

    def handle(self, event: steps.Event, now: float) -> list[steps.Action]:
        """What to do after an event, in this order.

        :param now: monotonic seconds
        """
        self._now = now
        _EVENTS[type(event)](self, event)
        self._proceed()
        actions, self._actions = self._actions, []
        return actions

    @property
    def deadline(self) -> float:
        """When a :class:`~.steps.Tick` is due at the latest, infinity where only events count."""
        if self._connection.over:
            return NEVER
        times = [self._connection.deadline, self._update_due(), self._leave_due(), self._notices.deadline]
        if self.state is ProviderState.READY and not self._leaving.wanted:
            times += [one.sending.deadline for one in self._journal.answered() if one.known_on == self._stream]
        if (operation := self._journal.unanswered) is not None:
            times.append(operation.judging.deadline)
        return min(times)

    # What the owner wants.

    def _on_start(self, event: steps.Start) -> None:
        self._connection.start(self._now)

    def _on_stop(self, event: steps.Stop) -> None:
        self._leaving.begin(self._now)

    def _on_tick(self, event: steps.Tick) -> None:
        """Deadlines are looked at after every event."""

    def _on_desire(self, event: steps.Desire) -> None:
        self._totals.desire(event.resources, event.version)

    def _on_unacknowledged(self, event: steps.Unacknowledged) -> None:
        self._backlog = event

    # The way to a stream.

    def _on_found(self, event: steps.Found) -> None:
        if self._connection.found(event.agent_id, self._now):
            self._totals.forget()
            self._journal.forget()

    def _on_looked(self, event: steps.Looked) -> None:
        self._actions += self._connection.looked(event.subscribed, self._now)

    def _on_ended(self, event: steps.Ended) -> None:
        if event.stream != self._stream:
            return
        self._connection.ended(event.reason, event.clean, self._now)
        self._totals.disconnected()
        self._version = None
        self._held.clear()
        self._publishing.clear()
        for operation in self._journal:
            if not operation.info:
                self._journal.settle(operation)

    def _on_call_failed(self, event: steps.CallFailed) -> None:
        if event.stream == self._stream:
            log.warning("a call to the agent failed: %s", event.reason)
            self._actions += self._connection.close()

    # What the agent says.

    def _on_received(self, event: steps.Received) -> None:
        kind = str(event.event.get("type"))
        take = _RECEIVED.get(kind)
        if event.stream != self._stream or self._connection.subscribed == (kind == "SUBSCRIBED"):
            return
        if take is None:
            log.info("the agent sent %s, which means nothing to a provider", kind)
            return
        try:
            take(self, event.event.get(kind.lower()) or {})
        except (InvalidRequest, KeyError, TypeError) as error:
            log.error("the agent sent %s that cannot be understood: %s", event.event, error)

    def _subscribed(self, event: Mapping[str, Any]) -> None:
        if self.state is not ProviderState.SUBSCRIBING:
            return
        provider_id = str(event["provider_id"]["value"])
        if self._connection.accepted(provider_id, self._now):
            self._journal.forget()
        self._totals.bind(provider_id)
        self._notices.tell(self.identity.agent_id, provider_id, self._now)

    def _apply_operation(self, event: Mapping[str, Any]) -> None:
        identifier = messages.read_uuid(event["operation_uuid"])
        self._operation_at = self._now
        if self._journal.get(identifier) or self._journal.settled(identifier):
            self._resend(identifier)
            return
        framework = str((event.get("framework_id") or {}).get("value", ""))
        operation = self._new_operation(identifier, framework, dict(event["info"]))
        self._journal.add(operation)
        outdated = messages.read_uuid(event["resource_version_uuid"]) != self._version
        if outdated:
            self._totals.doubt()
        if not operation.converting:
            self._totals.applied(operation.info)
        if reason := impossible(operation.info):
            operation.answer_ourselves(messages.FAILED, self._new_uuid(), reason)
        elif outdated and operation.converting:
            operation.answer_ourselves(
                messages.DROPPED, self._new_uuid(), "the provider's resources have changed since"
            )

    def _acknowledged(self, event: Mapping[str, Any]) -> None:
        operation = self._journal.get(messages.read_uuid(event["operation_uuid"]))
        status = messages.read_uuid(event["status_uuid"])
        if operation is not None and operation.answer is not None and operation.answer.status_uuid == status:
            self._done_with(operation)

    def _reconcile(self, event: Mapping[str, Any]) -> None:
        for one in event.get("operation_uuids", ()):
            identifier = messages.read_uuid(one)
            if self._resend(identifier):
                self._relist = True  # the agent does not know it, else it would not ask us
            else:
                operation = self._new_operation(identifier, "", {})
                self._journal.add(operation)
                operation.answer_ourselves(messages.DROPPED, self._new_uuid(), "it never reached the provider")

    def _publish(self, event: Mapping[str, Any]) -> None:
        resources = tuple(event.get("resources", ()))
        self._publishing.append(steps.Publish(self._stream, messages.read_uuid(event["uuid"]), resources))

    def _teardown(self, event: Mapping[str, Any]) -> None:
        self._actions += self._connection.retire()

    # What the handler answers.

    def _on_judged(self, event: steps.Judged) -> None:
        operation = self._journal.get(event.operation)
        if operation is None or operation.answer is not None:
            return
        answer = sound_answer(operation.id, operation.info, event.verdict, self.identity.id)
        operation.answer = answer
        operation.sending.reset(self._now)
        self._operation_at = self._now
        if answer.state == messages.FINISHED:
            if operation.converting and operation.known_on == self._stream:
                self._totals.applied(operation.info, answer.converted)
            self._totals.judged(operation.info, answer.converted, event.verdict.version)

    def _on_published(self, event: steps.Published) -> None:
        if event.stream == self._stream and self._connection.subscribed:
            self._held.append(messages.publish_status(self.identity.id, event.request, event.published))

    def _on_heard(self, event: steps.Heard) -> None:
        self._notices.heard(event.ask)

    def _on_failed(self, event: steps.Failed) -> None:
        ask = event.ask
        if isinstance(ask, steps.Publish):
            log.error("volumes cannot be published: %s", event.reason)
            self._on_published(steps.Published(ask.stream, ask.request, published=False))
            return
        log.warning("%s: %s", type(ask).__name__, event.reason)
        if isinstance(ask, steps.Find):
            self._connection.not_found(self._now)
        elif isinstance(ask, steps.Look):
            self._connection.not_looked(self._now)
        elif isinstance(ask, steps.Apply):
            if (operation := self._journal.get(ask.operation)) is not None:
                operation.judging.failed(self._now)
        else:
            self._notices.failed(ask, self._now)

    # What is due.

    def _proceed(self) -> None:
        if self._now >= self._leave_due():
            self._leave()
        if self._connection.over:
            return
        self._actions += self._connection.proceed(self._now)
        if self._connection.subscribed:
            self._take_backlog()
            # An answer must arrive before totals that show it: the agent would apply it to them a second time.
            self._send_what_waits()
            if self._now >= self._update_due():
                self._send_state()
                self._send_what_waits()
        self._ask_handler()

    def _take_backlog(self) -> None:
        backlog, self._backlog = self._backlog, None
        for identifier, verdict in messages.named(backlog.verdicts if backlog else ()):
            if self._journal.get(identifier) or self._journal.settled(identifier):
                continue
            operation = self._new_operation(identifier, verdict.framework, dict(verdict.info), known_on=0)
            operation.answer = sound_answer(identifier, operation.info, verdict, self.identity.id)
            self._journal.add(operation)
            if self._is_ours(operation):
                self._relist = True
            else:
                self._done_with(operation)

    def _leave_due(self) -> float:
        return self._leaving.due(max(self._operation_at, self._status_at), subscribed=self._connection.subscribed)

    def _leave(self) -> None:
        if self._leaving.step(self._now, offered=self.state is ProviderState.READY and self._totals.offered):
            self._version = self._new_uuid()
            self._call(messages.update_state(self.identity.id, (), (), self._version))
        else:
            self._actions += self._connection.stop()

    def _update_due(self) -> float:
        if self._leaving.wanted or self._totals.wanted is None or self._journal.unanswered is not None:
            return NEVER
        if self.state is ProviderState.WAITING:
            return self._now
        if self.state is not ProviderState.READY or not (self._totals.differ or self._relist):
            return NEVER
        if not self._totals.offered:
            return self._now  # no offer has anything of ours, and no operation can take it
        return max(self._operation_at + self._timing.settle, self._updated_at + self._timing.minimum_interval)

    def _send_state(self) -> None:
        self._version = self._new_uuid()
        listed = []
        for one in self._journal.answered():
            if one.answer is not None and self._is_ours(one):
                listed.append(messages.listed_operation(self.identity, one.id, one.framework, one.info, one.answer))
            if one.known_on != self._stream:
                one.known_on, one.sent = self._stream, 0
                one.sending.reset(self._now)
        self._call(messages.update_state(self.identity.id, self._totals.wanted or (), listed, self._version))
        self._totals.sent()
        self._relist = False
        self._updated_at = self._now
        self._connection.ready()

    def _send_what_waits(self) -> None:
        if self.state is not ProviderState.READY:
            return
        for body in self._held:
            self._call(body)
        self._held.clear()
        if self._leaving.wanted:
            return  # our successor sends the statuses: their acknowledgements would come when we have left
        for one in self._journal.answered():
            if one.answer is not None and one.known_on == self._stream and one.sending.due(self._now):
                self._call(messages.operation_status(self.identity.id, one.id, one.framework, one.info, one.answer))
                self._await_acknowledgement(one)

    def _await_acknowledgement(self, operation: Operation) -> None:
        """A status was sent.

        The agent keeps back acknowledgements of operations that it does not know. One that is not ours it is never told
        of; the master asks again as long as it does not know. One that crossed our totals it is told of with the next
        ones; but where no framework asked for the outcome, the master has acknowledged it by then, and will not again.
        """
        operation.sent += 1
        self._status_at = self._now
        operation.sending.failed(self._now)
        if not self._is_ours(operation):
            self._journal.settle(operation)
        elif operation.sent_enough:
            self._done_with(operation)

    def _is_ours(self, operation: Operation) -> bool:
        return provider_of_operation(operation.info) == self.identity.id

    def _ask_handler(self) -> None:
        if (operation := self._journal.unanswered) is not None and operation.judging.due(self._now):
            operation.judging.begin()
            self._actions.append(steps.Apply(operation.id, operation.application))
        # The ledger does not know volumes whose CREATE, which came before, it has not judged.
        self._actions += (ready := [one for one in self._publishing if not self._journal.creates(one.volumes)])
        self._publishing = [one for one in self._publishing if one not in ready]
        self._actions += self._notices.due(self._now)

    # Small steps.

    @property
    def _stream(self) -> int:
        return self._connection.stream

    def _call(self, body: Json) -> None:
        self._actions.append(steps.Call(self._stream, body))

    def _new_operation(self, identifier: UUID, framework: str, info: Json, known_on: int | None = None) -> Operation:
        return Operation(
            id=identifier,
            framework=framework,
            info=info,
            known_on=self._stream if known_on is None else known_on,
            judging=Attempts(self._timing.retry, self._now),
            sending=Attempts(self._timing.resend, self._now),
        )

    def _resend(self, identifier: UUID) -> bool:
        """Send the operation's status again if there is one; whether the operation is known."""
        if (operation := self._journal.revive(identifier)) is not None:
            operation.known_on = self._stream
            operation.sending.reset(self._now)
        return operation is not None

    def _done_with(self, operation: Operation) -> None:
        self._journal.settle(operation)
        if operation.journaled:
            self._notices.acknowledge(operation.id, self._now)


_EVENTS: Mapping[type, Callable[[Machine, Any], None]] = {
    steps.Start: Machine._on_start,
    steps.Stop: Machine._on_stop,
    steps.Tick: Machine._on_tick,
    steps.Desire: Machine._on_desire,
    steps.Unacknowledged: Machine._on_unacknowledged,
    steps.Found: Machine._on_found,
    steps.Looked: Machine._on_looked,
    steps.Judged: Machine._on_judged,
    steps.Published: Machine._on_published,
    steps.Heard: Machine._on_heard,
    steps.Failed: Machine._on_failed,
    steps.Received: Machine._on_received,
    steps.Ended: Machine._on_ended,
    steps.CallFailed: Machine._on_call_failed,
}

_RECEIVED: Mapping[str, Callable[[Machine, Mapping[str, Any]], None]] = {
    "SUBSCRIBED": Machine._subscribed,
    "APPLY_OPERATION": Machine._apply_operation,
    "ACKNOWLEDGE_OPERATION_STATUS": Machine._acknowledged,
    "RECONCILE_OPERATIONS": Machine._reconcile,
    "PUBLISH_RESOURCES": Machine._publish,
    "TEARDOWN": Machine._teardown,
}
