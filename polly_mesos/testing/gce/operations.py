"""Changes that take time: accepted at once, done later, perhaps with an error."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from polly_mesos.model import Json
from polly_mesos.testing.gce.errors import ApiError, OperationError, invalid
from polly_mesos.testing.gce.schema import Call
from polly_mesos.testing.gce.state import World, now, page_of

_LONGEST_WAIT = 120.0
"""Seconds after which ``wait`` answers whatever the operation's state (the method's page says two minutes)."""


@dataclass(order=True)
class _Due:
    at: float
    number: int
    partial: str = field(compare=False)
    work: Callable[[], None] = field(compare=False)


class Operations:
    """The operations of one project, carried out one after the other by a thread.

    :ivar latency: seconds that the next operations take
    :ivar wait_limit: seconds that ``wait`` holds a request at most
    """

    def __init__(self, world: World, user: str) -> None:
        self._world = world
        self._user = user
        self.latency = 0.0
        self.wait_limit = _LONGEST_WAIT
        self._requests: dict[str, tuple[tuple[object, ...], str]] = {}
        self._failures: defaultdict[str, deque[OperationError]] = defaultdict(deque)
        self._due: list[_Due] = []
        self._stopped = False
        self._paused = False
        self._thread = threading.Thread(target=self._run, name="fake-compute-operations", daemon=True)
        self._thread.start()

    def fail(self, kind: str, error: OperationError, times: int = 1) -> None:
        """Let the next operations of a kind, as ``insert``, fail after they were accepted."""
        self._failures[kind].extend([error] * times)

    def pause(self, paused: bool = True) -> None:
        """Let no operation go on until further notice; what is asked is accepted all the same."""
        with self._world.lock:
            self._paused = paused
            self._world.changed.notify_all()

    def replay(self, call: Call) -> Json | None:
        """The operation that the same request id began before.

        :raises ApiError: the id is not one, or was that of another request
        """
        request_id = call.query.get("requestId", "")
        if not request_id:
            return None
        if len(request_id) != 36 or set(request_id) <= {"0", "-"}:
            raise invalid(f"Invalid value for field 'requestId': '{request_id}'. Must be a valid UUID.")
        if request_id not in self._requests:
            return None
        asked, partial = self._requests[request_id]
        if asked != _asked(call):
            raise invalid(f"The request id {request_id} was used for another request")
        return self._world.resources[partial]

    def begin(self, call: Call, kind: str, target: Json, work: Callable[[], None], undo: Callable[[], None]) -> Json:
        """Accept a change of a resource.

        :param work: makes the change; may raise OperationError
        :param undo: takes back what was made visible when the change was accepted
        """
        place = _place(call)
        name = f"operation-{self._world.next_number()}"
        partial = f"{place}/operations/{name}"
        operation: Json = {
            "kind": "compute#operation",
            "id": self._world.next_number(),
            "name": name,
            "operationType": kind,
            "targetLink": target["selfLink"],
            "targetId": target["id"],
            "status": "PENDING",
            "progress": 0,
            "user": self._user,
            "insertTime": now(),
            "selfLink": self._world.link(partial),
        }
        kind_of_place, _, where = place.partition("/")
        if where:
            operation[kind_of_place.removesuffix("s")] = self._world.link(place)
        self._world.resources[partial] = operation
        if request_id := call.query.get("requestId"):
            self._requests[request_id] = (_asked(call), partial)

        def run() -> None:
            try:
                if self._failures[kind]:
                    raise self._failures[kind].popleft()
                work()
            except OperationError as error:
                undo()
                operation.update(error.as_json())

        self._due.append(_Due(time.monotonic() + self.latency, int(operation["id"]), partial, run))
        self._world.changed.notify_all()
        return dict(operation)

    def wait(self, partial: str) -> Json:
        """The operation once it is done, or after the longest time that a request is held."""
        deadline = time.monotonic() + min(self.wait_limit, _LONGEST_WAIT)
        operation = self._world.find(partial)
        self._world.changed.wait_for(
            lambda: operation["status"] == "DONE" or self._stopped, deadline - time.monotonic()
        )
        return operation

    def list(self, place: str, query: Json) -> Json:
        """The operations of a zone or region, a page at a time."""
        self._world.check_place(place)
        found = [
            (partial, one)
            for partial, one in self._world.resources.items()
            if partial.startswith(f"{place}/operations/")
        ]
        part, token = page_of(found, query)
        answer: Json = {"kind": "compute#operationList", "id": place, "items": [one for _, one in part]}
        return answer | ({"nextPageToken": token} if token else {})

    def running(self) -> bool:
        """Whether any operation is not yet done, of those that go on."""
        with self._world.lock:
            return bool(self._ready())

    def close(self) -> None:
        """End the thread; what is not done stays so."""
        with self._world.lock:
            self._stopped = True
            self._world.changed.notify_all()
        self._thread.join()

    def _ready(self) -> Sequence[_Due]:
        """What is to be carried out, outside of zones that are lost."""
        return [due for due in self._due if due.partial.split("/")[1] not in self._world.lost]

    def _run(self) -> None:
        with self._world.lock:
            while not self._stopped:
                ready = self._ready()
                if not ready or self._paused:
                    self._world.changed.wait()
                    continue
                for due in ready:
                    self._world.resources[due.partial].update(status="RUNNING", startTime=now())
                due = min(ready)
                left = due.at - time.monotonic()
                if left > 0:
                    self._world.changed.wait(left)
                    continue
                self._due.remove(due)
                due.work()
                self._world.resources[due.partial].update(status="DONE", progress=100, endTime=now())
                self._world.changed.notify_all()


def _place(call: Call) -> str:
    if "zone" in call.path:
        return f"zones/{call.path['zone']}"
    return f"regions/{call.path['region']}" if "region" in call.path else "global"


def _asked(call: Call) -> tuple[object, ...]:
    if call.method.verb == "GET":
        raise ApiError(400, "invalid", "only changes have a request id")
    query = {name: value for name, value in call.query.items() if name != "requestId"}
    return (call.method.id, sorted(call.path.items()), sorted(query.items()), repr(call.body))
