"""A framework for the tests, on the v1 scheduler API: sees offers, launches tasks, waits for what becomes of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import httpx

from polly_mesos.mesos.recordio import RecordDecoder

WAIT_SECONDS = 60.0


def wait_until(condition: Callable[[], Any]) -> Any:
    """What the condition gives, as soon as that is true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS} s in vain"
        time.sleep(0.02)
    return result


class Framework:
    """Subscribed from ``with`` to its end, when it is torn down with all its tasks.

    :param master: host:port
    :param fields: further fields of ``FrameworkInfo``
    """

    def __init__(self, master: str, **fields: Any) -> None:
        self._url = f"http://{master}/api/v1/scheduler"
        self._info = {"user": "root", "name": "test", "roles": ["test"], "checkpoint": True, **fields}
        self._info["capabilities"] = [{"type": "MULTI_ROLE"}, *fields.get("capabilities", [])]
        self._client = httpx.Client(timeout=httpx.Timeout(10, read=None), trust_env=False)
        self._news = threading.Condition()
        self._ids: dict[str, str] = {}
        self._offers: dict[str, dict[str, Any]] = {}
        self._updates: dict[str, list[dict[str, Any]]] = {}
        self._ending = False
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Framework:
        self._thread.start()
        self._wait(lambda: self._ids, "a subscription")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ids and not self._ending:
            self._ending = True
            self._call("TEARDOWN")
        self._thread.join(WAIT_SECONDS)
        self._client.close()

    def rest(self) -> None:
        """Want no offers from now on, and give back those that are held."""
        self._call("SUPPRESS")
        with self._news:
            held, self._offers = list(self._offers.values()), {}
        for offer in held:
            self._call("DECLINE", {"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 3600}})

    def leave(self) -> None:
        """Expect the master's end: tear nothing down, and miss nothing."""
        self._ending = True

    def offer(self, agent_id: str | None = None) -> dict[str, Any]:
        """Take the next offer, of that agent where one is given."""

        def found() -> dict[str, Any] | None:
            for offer in self._offers.values():
                if agent_id in (None, offer["agent_id"]["value"]):
                    return self._offers.pop(offer["id"]["value"])
            return None

        return self._wait(found, f"an offer of {agent_id or 'any agent'}")

    def launch(self, task: Mapping[str, Any], agent_id: str | None = None) -> dict[str, Any]:
        """Launch a task on an offer and give back the rest; returns the task as sent.

        :param task: ``TaskInfo`` without what is filled in: agent, resources, and the name, which is its id
        """
        offer = self.offer(agent_id)
        resources = [
            {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": "test"}}
            for name, value in (("cpus", 0.1), ("mem", 32))
        ]
        name = task["task_id"]["value"]
        whole = {"name": name, "agent_id": offer["agent_id"], "resources": resources, **task}
        self.accept(offer, {"type": "LAUNCH", "launch": {"task_infos": [whole]}})
        return whole

    def accept(self, offer: Mapping[str, Any], *operations: Mapping[str, Any]) -> None:
        """Use an offer; what the operations leave of it is offered again at once. Without any it is declined."""
        call = {"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}, "operations": list(operations)}
        self._call("ACCEPT", call)

    def run(self, name: str, shell: str, agent_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """Launch a command task of that name."""
        return self.launch({"task_id": {"value": name}, "command": {"value": shell}, **fields}, agent_id)

    def kill(self, task: Mapping[str, Any], grace_seconds: float | None = None) -> None:
        """Ask for the end of a task."""
        call = {"task_id": task["task_id"], "agent_id": task["agent_id"]}
        if grace_seconds is not None:
            call["kill_policy"] = {"grace_period": {"nanoseconds": int(grace_seconds * 1e9)}}
        self._call("KILL", call)

    def wait_for(self, name: str, state: str, **fields: Any) -> dict[str, Any]:
        """The first update of the task with that state, and with these fields where some are given."""

        def found() -> dict[str, Any] | None:
            for status in self.updates(name):
                if status["state"] == state and all(status.get(key) == value for key, value in fields.items()):
                    return status
            return None

        try:
            return self._wait(found, f"{name} to be {state} {fields or ''}")
        except AssertionError as error:
            error.add_note(f"so far: {self._updates.get(name)}")
            raise

    def updates(self, name: str) -> list[dict[str, Any]]:
        """All updates of a task so far, without those that were sent again."""
        return list({status.get("uuid"): status for status in self._updates.get(name, [])}.values())

    def _listen(self) -> None:
        subscribe = {"type": "SUBSCRIBE", "subscribe": {"framework_info": self._info}}
        with self._client.stream("POST", self._url, json=subscribe, headers={"Accept": "application/json"}) as stream:
            assert stream.status_code == 200, stream.read()
            decoder = RecordDecoder()
            try:
                for data in stream.iter_raw():
                    for event in decoder.feed(data):
                        self._take(event, stream.headers["Mesos-Stream-Id"])
            except httpx.HTTPError:  # the master cuts the stream of a framework that it tears down
                assert self._ending

    def _take(self, event: Mapping[str, Any], stream_id: str) -> None:
        acknowledge = None
        with self._news:
            if event["type"] == "SUBSCRIBED":
                self._ids = {"framework": event["subscribed"]["framework_id"]["value"], "stream": stream_id}
            elif event["type"] == "OFFERS":
                self._offers |= {offer["id"]["value"]: offer for offer in event["offers"]["offers"]}
            elif event["type"] == "RESCIND":
                self._offers.pop(event["rescind"]["offer_id"]["value"], None)
            elif event["type"] == "UPDATE":
                status = event["update"]["status"]
                self._updates.setdefault(status["task_id"]["value"], []).append(status)
                acknowledge = status if "uuid" in status else None
            self._news.notify_all()
        if acknowledge:
            self._call("ACKNOWLEDGE", {key: acknowledge[key] for key in ("agent_id", "task_id", "uuid")})

    def _call(self, kind: str, content: Mapping[str, Any] | None = None) -> None:
        call = {"type": kind, "framework_id": {"value": self._ids["framework"]}}
        if content is not None:
            call[kind.lower()] = content
        answer = self._client.post(self._url, json=call, headers={"Mesos-Stream-Id": self._ids["stream"]})
        assert answer.status_code == 202 or self._ending, answer.text

    def _wait(self, found: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS
        with self._news:
            while not (result := found()):
                assert self._news.wait(max(0.0, deadline - time.monotonic())), f"waited {WAIT_SECONDS} s for {what}"
        return result
