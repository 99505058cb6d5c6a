"""Frameworks that make operations on providers' disks and hear what becomes of them."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from polly_mesos.mesos import resources as arithmetic
from polly_mesos.model import Json

from .framework import Framework

ROLE = "test"


def reserve(disk: Json, size: float) -> Json:
    """RESERVE of so much of an unreserved disk."""
    return {"type": "RESERVE", "reserve": {"resources": [_reserved(disk, size)]}}


def create(disk: Json, size: float, name: str) -> Json:
    """CREATE of a volume out of so much of a disk, which is reserved then."""
    return {"type": "CREATE", "create": {"volumes": [persistent(disk, size, name)]}}


def unreserve(disk: Json) -> Json:
    """UNRESERVE of a whole reserved disk."""
    return {"type": "UNRESERVE", "unreserve": {"resources": [_plain(disk)]}}


def destroy(volume: Json) -> Json:
    """DESTROY of a volume."""
    return {"type": "DESTROY", "destroy": {"volumes": [_plain(volume)]}}


def persistent(disk: Json, size: float, name: str) -> Json:
    """The volume that :func:`create` makes."""
    info = {"persistence": {"id": name}, "volume": {"container_path": "data", "mode": "RW"}}
    return {**_reserved(disk, size), "disk": {**disk["disk"], **info}}


def launch(offer: Json, name: str, volume: Json, command: str) -> Json:
    """LAUNCH of a command task that uses a volume."""
    little = {"type": "SCALAR", "allocation_info": {"role": ROLE}}
    task = {
        "name": name,
        "task_id": {"value": name},
        "agent_id": offer["agent_id"],
        "command": {"value": command},
        "resources": [
            {**little, "name": "cpus", "scalar": {"value": 0.01}},
            {**little, "name": "mem", "scalar": {"value": 32}},
            {**volume, "allocation_info": {"role": ROLE}},
        ],
    }
    return {"type": "LAUNCH", "launch": {"task_infos": [task]}}


def _plain(disk: Json) -> Json:
    return {key: value for key, value in disk.items() if key != "allocation_info"}


def _reserved(disk: Json, size: float) -> Json:
    if disk.get("reservation") is not None:
        return {**_plain(disk), "scalar": {"value": size}}
    return {**_plain(disk), "scalar": {"value": size}, "role": ROLE, "reservation": {}, "reservations": []}


class OperationFramework(Framework):
    """Hears the outcomes of the operations that it gave an id.

    :param acknowledge: whether to acknowledge an operation's status; it is sent again until that is done
    """

    def __init__(
        self, master: str, *, acknowledge: Callable[[Json], bool] = lambda status: True, **fields: Any
    ) -> None:
        super().__init__(master, **fields)
        self._acknowledge = acknowledge
        self.statuses: list[Json] = []

    def outcomes(self, operation: str) -> list[Json]:
        """All statuses of an operation that came, repeated ones too."""
        return [one for one in self.statuses if one.get("operation_id", {}).get("value") == operation]

    def await_outcome(self, operation: str, count: int = 1) -> Json:
        """The last of ``count`` statuses of an operation."""
        found = self._wait(lambda: self.outcomes(operation)[count - 1 : count], f"status {count} of {operation}")
        status: Json = found[0]
        return status

    def reconcile(self, operation: str, agent_id: str, provider_id: str) -> None:
        """RECONCILE_OPERATIONS: ask what became of an operation."""
        asked = {
            "operation_id": {"value": operation},
            "agent_id": {"value": agent_id},
            "resource_provider_id": {"value": provider_id},
        }
        self._call("RECONCILE_OPERATIONS", {"operations": [asked]})

    def _take(self, event: Mapping[str, Any], stream_id: str) -> None:
        super()._take(event, stream_id)
        if event["type"] == "UPDATE_OPERATION_STATUS":
            status = event["update_operation_status"]["status"]
            with self._news:
                self.statuses.append(status)
                self._news.notify_all()
            # A provider that never heard of an operation cannot name its id, without which nothing is acknowledged.
            if {"uuid", "operation_id"} <= status.keys() and self._acknowledge(status):
                named = {key: status[key] for key in ("agent_id", "resource_provider_id", "operation_id")}
                self._call("ACKNOWLEDGE_OPERATION_STATUS", {**named, "uuid": status["uuid"]["value"]})


class BusyFramework(OperationFramework):
    """Does something with every disk of every offer, at once, between :meth:`resume` and :meth:`pause`."""

    def __init__(self, master: str, seed: int) -> None:
        self._chance = random.Random(seed)
        self._working = self._using = self._over = False
        self._asked: dict[str, tuple[str, str]] = {}
        self._count = 0
        super().__init__(master, acknowledge=lambda status: self._chance.random() < 0.8)
        self._worker = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> BusyFramework:
        super().__enter__()
        self._worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._news:
            self._over = True
            self._news.notify_all()
        self._worker.join(30)
        if error is not None:
            self.leave()  # the master may have died, which is told better than that it cannot be reached
        super().__exit__(kind, error, trace)

    def resume(self) -> None:
        """Begin, or go on."""
        with self._news:
            self._working = True
            self._news.notify_all()

    def pause(self) -> None:
        """Hold what is offered and use nothing of it, from when this returns."""
        with self._news:
            self._working = False
            self._news.wait_for(lambda: not self._using)

    def offers_rest(self, seconds: float) -> bool:
        """Whether no offer came and none went for so long: all there is to be offered is held."""
        with self._news:
            held = set(self._offers)
            return not self._news.wait_for(lambda: set(self._offers) != held, seconds)

    @property
    def unanswered(self) -> list[str]:
        """Ids of the operations whose outcome this framework has not heard."""
        heard = {one.get("operation_id", {}).get("value") for one in list(self.statuses)}
        return [operation for operation in list(self._asked) if operation not in heard]

    def ask_for_outcomes(self) -> None:
        """Reconcile what is unanswered, as every framework must: an operation or its outcome may have got lost."""
        for operation in self.unanswered:
            self.reconcile(operation, *self._asked[operation])

    def _work(self) -> None:
        while (offer := self._next()) is not None:
            self.accept(offer, *self._operations(offer))
            with self._news:
                self._using = False
                self._news.notify_all()

    def _next(self) -> Json | None:
        with self._news:
            self._news.wait_for(lambda: self._over or (self._working and self._offers))
            self._using = not self._over
            return None if self._over else self._offers.popitem()[1]

    def _operations(self, offer: Json) -> Iterator[Json]:
        for disk in offer["resources"]:
            if not arithmetic.provider_of(disk) or self._chance.random() < 0.2:
                continue
            for operation in self._use(offer, disk):
                if "launch" not in operation and self._chance.random() < 0.5:
                    operation["id"] = {"value": str(uuid.uuid4())}
                    where = offer["agent_id"]["value"], arithmetic.provider_of(disk)
                    self._asked[operation["id"]["value"]] = where
                yield operation

    def _use(self, offer: Json, disk: Json) -> list[Json]:
        self._count += 1
        size = arithmetic.megabytes(disk)
        if arithmetic.persistence_of(disk):
            if self._chance.random() < 0.1:
                return [launch(offer, f"task-{self._count}", disk, "touch data/file")]
            return [destroy(disk)]
        if arithmetic.role_of(disk):
            return [unreserve(disk)] if self._chance.random() < 0.6 else [create(disk, size, f"v{self._count}")]
        part = float(self._chance.randrange(1, 1 + max(1, int(size) // (1 if self._chance.random() < 0.1 else 4))))
        both = [reserve(disk, part), create(disk, part, f"v{self._count}")]
        return both[: self._chance.randrange(1, 3)]
