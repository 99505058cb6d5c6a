"""A Mesos framework whose task keeps its data on a persistent volume. It knows nothing of Polly.

It asks for storage exactly as Marathon 1.11 does: Marathon's capabilities (no RESERVATION_REFINEMENT), reservations in
the older format of one ``role`` and ``reservation`` per resource, Marathon's labels on them, no operation ids. So what
works here works for an unmodified Marathon.

What it does: wait for an offer with a PATH disk of the wanted profile; RESERVE a part of it, with CPU and memory;
CREATE a persistent volume there; LAUNCH a task that appends a line to a file on the volume and prints the file; when it
has ended, launch it again and check that the earlier line is still there; DESTROY the volume and UNRESERVE all.

    python stateful_framework.py 127.0.0.1:5050 --profile gold

Nobody tells a framework of this shape that a RESERVE or CREATE failed. It learns from the offers alone, so every
decision is made anew from what an offer shows; what is not there in time is given up and tried again; and what is later
offered of a reservation that was given up is recognised by its labels and freed.
"""

from __future__ import annotations

import argparse
import copy
import getpass
import json
import queue
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

Json = dict[str, Any]

CAPABILITIES = ("MULTI_ROLE", "PARTITION_AWARE", "REGION_AWARE", "TASK_KILLING_STATE")
FRAMEWORK_LABEL, INSTANCE_LABEL = "marathon_framework_id", "marathon_task_id"
ENDED = {"FINISHED", "FAILED", "KILLED", "ERROR", "LOST", "DROPPED", "GONE", "GONE_BY_OPERATOR"}
PATH_IN_SANDBOX = "data"
REFUSE_SECONDS = 5.0
CONFIRM_SECONDS = 2.0
RECONCILE_SECONDS = 10.0


class Master:
    """A subscription to a Mesos master: events come out of :attr:`events`, and calls go in."""

    def __init__(self, address: str, info: Json) -> None:
        self.events: queue.Queue[Json] = queue.Queue()
        self._url, self._info, self._stream_id = f"http://{address}/api/v1/scheduler", info, ""
        threading.Thread(target=self._subscribe, daemon=True).start()

    def _subscribe(self) -> None:
        while True:
            body: Json = {"type": "SUBSCRIBE", "subscribe": {"framework_info": self._info}}
            if "id" in self._info:
                body["framework_id"] = self._info["id"]
            try:
                # the master sends a heartbeat every 15 seconds: silence means that it is gone
                with httpx.stream("POST", self._url, json=body, timeout=httpx.Timeout(10.0, read=45.0)) as response:
                    response.raise_for_status()
                    self._stream_id = response.headers["Mesos-Stream-Id"]
                    for event in records(response):
                        if event["type"] == "SUBSCRIBED":
                            self._info["id"] = event["subscribed"]["framework_id"]
                        self.events.put(event)
            except httpx.HTTPError as error:
                self.events.put({"type": "ERROR", "error": {"message": f"no subscription: {error}"}})
            time.sleep(1.0)

    def call(self, kind: str, body: Json | None = None) -> None:
        """Make a call. If it gets lost, later offers and status updates show it."""
        message: Json = {"type": kind, "framework_id": self._info.get("id")}
        if body is not None:
            message[kind.lower()] = body
        try:
            httpx.post(self._url, json=message, headers={"Mesos-Stream-Id": self._stream_id}, timeout=10.0)
        except httpx.HTTPError as error:
            self.events.put({"type": "ERROR", "error": {"message": f"{kind} was not answered: {error}"}})


def records(response: httpx.Response) -> Iterator[Json]:
    """Mesos' RecordIO: a decimal length, a newline, that many bytes of JSON."""
    buffer = b""
    for chunk in response.iter_bytes():
        buffer += chunk
        while b"\n" in buffer:
            length, rest = buffer.split(b"\n", 1)
            if len(rest) < int(length):
                break
            yield json.loads(rest[: int(length)])
            buffer = rest[int(length) :]


@dataclass
class Instance:
    """One reserved set of CPU, memory and volume. ``agent`` is an agent id; ``deadline`` counts until ``used``."""

    agent: str
    deadline: float
    id: str = field(default_factory=lambda: f"demo.instance-{uuid.uuid4()}")
    volume: str = field(default_factory=lambda: f"demo#{PATH_IN_SANDBOX}#{uuid.uuid4()}")
    used: bool = False


class StatefulFramework:
    """Decides, at every offer and status update, on the next step."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.master = Master(
            options.master,
            {
                "name": "stateful-example",
                "user": getpass.getuser(),
                "roles": [options.role],
                "principal": options.role,
                "failover_timeout": 60.0,
                "capabilities": [{"type": capability} for capability in CAPABILITIES],
            },
        )
        self.framework_id = ""
        self.instance: Instance | None = None
        self.task = ""
        self.task_agent = ""
        self.task_heard = 0.0
        self.written: list[str] = []
        self.agents_used: set[str] = set()
        self.clean_since: dict[str, float] = {}
        self.clean: set[str] = set()

    def run(self) -> int:
        """Work until all is done, or until the data is missing; returns the exit status."""
        while True:
            try:
                event = self.master.events.get(timeout=1.0)
            except queue.Empty:
                event = {"type": "NOTHING"}
            if event["type"] == "SUBSCRIBED":
                self.framework_id = event["subscribed"]["framework_id"]["value"]
                self.emit("registered", framework_id=self.framework_id)
                self.master.call("REVIVE")
            elif event["type"] == "OFFERS":
                for offer in event["offers"]["offers"]:
                    self.consider(offer)
            elif event["type"] == "UPDATE" and not self.update(event["update"]["status"]):
                return 1
            elif event["type"] == "ERROR":
                self.emit("error", message=event["error"]["message"])
            self.check_time()
            if self.runs_left == 0 and self.agents_used and self.clean >= self.agents_used:
                self.emit("released")
                self.master.call("TEARDOWN")
                return 0

    @property
    def runs_left(self) -> int:
        """How often the task is still to be launched."""
        return int(self.options.runs) - len(self.written)

    # ---- offers

    def consider(self, offer: Json) -> None:
        """Use an offer for whatever comes next, or decline it."""
        ours = [resource for resource in offer["resources"] if label(resource, FRAMEWORK_LABEL) == self.framework_id]
        current = self.instance.id if self.instance is not None else None
        held = [resource for resource in ours if label(resource, INSTANCE_LABEL) == current]
        leftovers = [resource for resource in ours if label(resource, INSTANCE_LABEL) != current]
        complete = {resource["name"] for resource in held} >= {"cpus", "mem", "disk"} and any(map(is_volume, held))
        self.note_clean(offer, clean=not ours)
        if leftovers:
            self.free(offer, leftovers, "freeing-leftovers")
        elif held and self.runs_left == 0:
            self.free(offer, held, "destroying")
        elif complete and not self.task and self.instance is not None:
            self.instance.deadline = time.monotonic() + self.options.reservation_timeout
            self.launch(offer, held)
        elif self.instance is None and (pool := self.find_pool(offer)) is not None:
            self.reserve(offer, pool)
        else:
            waiting = self.runs_left == 0 or (self.instance is not None and not self.task)
            refuse = 1.0 if waiting else REFUSE_SECONDS
            self.master.call("DECLINE", {"offer_ids": [offer["id"]], "filters": {"refuse_seconds": refuse}})

    def find_pool(self, offer: Json) -> Json | None:
        """The unreserved PATH disk of our profile, if it and the rest of the offer are large enough."""
        free = {"cpus": 0.0, "mem": 0.0}
        for resource in offer["resources"]:
            if resource["name"] in free and "reservation" not in resource:
                free[resource["name"]] += resource["scalar"]["value"]
        if free["cpus"] < self.options.cpus or free["mem"] < self.options.mem:
            return None
        return next((r for r in self.pools(offer) if r["scalar"]["value"] >= self.options.size), None)

    def pools(self, offer: Json) -> list[Json]:
        """The unreserved PATH disks of our profile in an offer."""
        disks = [r for r in offer["resources"] if r["name"] == "disk" and "reservation" not in r]
        sources = [(disk, disk.get("disk", {}).get("source", {})) for disk in disks]
        return [
            d for d, source in sources if (source.get("type"), source.get("profile")) == ("PATH", self.options.profile)
        ]

    def reserve(self, offer: Json, pool: Json) -> None:
        """RESERVE a part of the pool with CPU and memory, and CREATE the volume there: one operation per provider."""
        agent = offer["agent_id"]["value"]
        instance = Instance(agent, time.monotonic() + self.options.reservation_timeout)
        self.instance = instance
        self.agents_used.add(agent)
        share = copy.deepcopy(pool) | {"scalar": {"value": float(self.options.size)}}
        share = self.reserved(share, instance)
        volume = copy.deepcopy(share)
        volume["disk"]["persistence"] = {"id": instance.volume, "principal": self.options.role}
        volume["disk"]["volume"] = {"mode": "RW", "container_path": PATH_IN_SANDBOX}
        of_agent = [self.reserved(scalar(name, getattr(self.options, name)), instance) for name in ("cpus", "mem")]
        self.emit("reserving", agent=agent, host=offer["hostname"], volume=instance.volume, size_mb=self.options.size)
        self.accept(
            offer,
            {"type": "RESERVE", "reserve": {"resources": of_agent}},
            {"type": "RESERVE", "reserve": {"resources": [share]}},
            {"type": "CREATE", "create": {"volumes": [volume]}},
        )

    def reserved(self, resource: Json, instance: Instance) -> Json:
        """A resource as it is once reserved for an instance."""
        labels = [
            {"key": FRAMEWORK_LABEL, "value": self.framework_id},
            {"key": INSTANCE_LABEL, "value": instance.id},
        ]
        reservation = {"principal": self.options.role, "labels": {"labels": labels}}
        plain = {name: value for name, value in resource.items() if name != "allocation_info"}
        return plain | {"role": self.options.role, "reservation": reservation}

    def launch(self, offer: Json, held: list[Json]) -> None:
        """LAUNCH the task with the whole reserved set."""
        if not self.written:
            self.emit("volume-offered", agent=offer["agent_id"]["value"])
        address = offer["url"]["address"]
        self.task, self.task_heard = f"demo.{uuid.uuid4()}", time.monotonic()
        self.task_agent = f"{address.get('ip') or address['hostname']}:{address['port']}"
        command = f'echo "written by {self.task}" >> {PATH_IN_SANDBOX}/lines && cat {PATH_IN_SANDBOX}/lines'
        task = {
            "name": "demo",
            "task_id": {"value": self.task},
            "agent_id": offer["agent_id"],
            "resources": held,
            "command": {"shell": True, "value": command},
        }
        self.emit("launching", task=self.task)
        self.accept(offer, {"type": "LAUNCH", "launch": {"task_infos": [task]}})

    def free(self, offer: Json, resources: list[Json], event: str) -> None:
        """DESTROY the volumes among them and UNRESERVE them all: one operation per provider."""
        volumes = [resource for resource in resources if is_volume(resource)]
        plain = copy.deepcopy(resources)
        for resource in plain:
            if is_volume(resource):
                del resource["disk"]["persistence"], resource["disk"]["volume"]
        by_provider: dict[str, list[Json]] = {}
        for resource in plain:
            by_provider.setdefault(resource.get("provider_id", {}).get("value", ""), []).append(resource)
        self.emit(event, agent=offer["agent_id"]["value"])
        destroy: list[Json] = [{"type": "DESTROY", "destroy": {"volumes": volumes}}] if volumes else []
        unreserve: list[Json] = [{"type": "UNRESERVE", "unreserve": {"resources": r}} for r in by_provider.values()]
        self.accept(offer, *destroy, *unreserve)

    def accept(self, offer: Json, *operations: Json) -> None:
        """Use an offer; what is left of it may be offered again at once."""
        filters = {"refuse_seconds": 0.0}
        self.master.call("ACCEPT", {"offer_ids": [offer["id"]], "operations": operations, "filters": filters})

    def note_clean(self, offer: Json, *, clean: bool) -> None:
        """An agent is clean once its offers have shown the pool and nothing of ours for a while.

        One offer is not enough: a master shows the effect of UNRESERVE before the provider has agreed to it.
        """
        agent = offer["agent_id"]["value"]
        if not clean or not self.pools(offer):
            self.clean_since.pop(agent, None)
            self.clean.discard(agent)
        elif time.monotonic() - self.clean_since.setdefault(agent, time.monotonic()) >= CONFIRM_SECONDS:
            self.clean.add(agent)

    # ---- tasks and time

    def update(self, status: Json) -> bool:
        """A task's state changed; returns False where its data is missing."""
        if "uuid" in status:
            self.master.call("ACKNOWLEDGE", {name: status[name] for name in ("agent_id", "task_id", "uuid")})
        if status["task_id"]["value"] != self.task:
            return True
        self.task_heard = time.monotonic()
        state = status["state"].removeprefix("TASK_")
        if state == "RUNNING" and self.instance is not None:
            self.instance.used = True
            self.emit("task-running", task=self.task)
        if state not in ENDED:
            return True
        task, self.task = self.task, ""
        self.clean.clear()
        self.clean_since.clear()
        self.master.call("REVIVE")
        if state != "FINISHED":
            self.emit("task-failed", task=task, state=state, message=status.get("message", ""))
            return True
        return self.check_data(task)

    def check_data(self, task: str) -> bool:
        """Whether the task printed its own line and those of all tasks before it."""
        try:
            lines = [line for line in self.printed(task) if line.startswith("written by ")]
        except (httpx.HTTPError, LookupError) as error:
            # what a task wrote cannot be checked without its output: another one is launched
            self.emit("error", message=f"the output of {task} cannot be read: {error!r}")
            return True
        self.written.append(f"written by {task}")
        found = set(lines) >= set(self.written)
        self.emit("task-finished" if found else "data-lost", task=task, run=len(self.written), lines=lines)
        return found

    def printed(self, task: str) -> list[str]:
        """What a task wrote to its standard output, read from its agent as Mesos' web UI does."""
        with httpx.Client(base_url=f"http://{self.task_agent}", timeout=10.0) as agent:
            state = agent.get("/state").raise_for_status().json()
            frameworks = [
                f for f in state["frameworks"] + state["completed_frameworks"] if f["id"] == self.framework_id
            ]
            executors = [e for f in frameworks for e in f["executors"] + f["completed_executors"]]
            directories = [executor["directory"] for executor in executors if executor["id"] == task]
            query: dict[str, str | int] = {"path": f"{directories[-1]}/stdout", "offset": 0, "length": 65536}
            return str(agent.get("/files/read", params=query).raise_for_status().json()["data"]).splitlines()

    def check_time(self) -> None:
        """Ask for news of a silent task, and give up a reservation that did not come to be."""
        now = time.monotonic()
        if self.task and now > self.task_heard + RECONCILE_SECONDS:
            self.task_heard = now
            self.master.call("RECONCILE", {"tasks": [{"task_id": {"value": self.task}}]})
        if self.instance is not None and not self.instance.used and not self.task and now > self.instance.deadline:
            self.emit("giving-up", volume=self.instance.volume, seconds=self.options.reservation_timeout)
            self.instance = None
            self.master.call("REVIVE")

    def emit(self, event: str, **detail: object) -> None:
        """Tell what happened: as JSON for programs, else for people."""
        words = " ".join(f"{name}={value}" for name, value in detail.items())
        line = json.dumps({"event": event, **detail}) if self.options.json else f"{event:16} {words}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def is_volume(resource: Json) -> bool:
    """Whether a resource is a persistent volume."""
    return "persistence" in resource.get("disk", {})


def label(resource: Json, key: str) -> str | None:
    """The value of a label of a resource's reservation."""
    labels = resource.get("reservation", {}).get("labels", {}).get("labels", [])
    return next((found["value"] for found in labels if found["key"] == key), None)


def scalar(name: str, value: float) -> Json:
    """An amount of CPU or memory."""
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}}


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="A framework whose task finds its data again.")
    parser.add_argument("master", help="HOST:PORT of the Mesos master")
    parser.add_argument("--profile", default="gold", help="profile of the disk to use (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="size of the volume in MB (default: %(default)s)")
    parser.add_argument("--role", default="marathon", help="(default: %(default)s)")
    parser.add_argument("--cpus", type=float, default=0.1, help="of the task (default: %(default)s)")
    parser.add_argument("--mem", type=float, default=64, help="of the task, in MB (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=2, help="how often the task is launched (default: %(default)s)")
    parser.add_argument("--reservation-timeout", type=float, default=20.0, help="seconds (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print events as lines of JSON")
    sys.exit(StatefulFramework(parser.parse_args()).run())


if __name__ == "__main__":
    main()
