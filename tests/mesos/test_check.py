"""``polly check`` on a real Mesos: silent while frameworks work, and naming each damage done behind its back."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.base import CreateRequest, Tags
from drivers.loop.controller import LoopController
from drivers.loop.settings import LoopSettings
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.model import MB, HostIdentity
from tests.mesos.framework import Framework, wait_until
from tests.mesos.operations import create, destroy, launch, persistent, reserve, unreserve
from tests.mesos.polly import POLLY, Polly

pytestmark = [pytest.mark.mesos, pytest.mark.timeout(600)]

ClusterFactory = Callable[..., LocalCluster]
Json = dict[str, Any]
SIZE = 32.0


class Checked:
    """A Polly on a cluster of two agents, a framework that works on it, and the platform below."""

    def __init__(self, polly: Polly, framework: Framework, platform: LoopController) -> None:
        self.polly = polly
        self.framework = framework
        self.platform = platform

    def check(self, *options: str) -> Json:
        """Run ``polly check``; its exit status has to fit what it found."""
        environment = {
            **os.environ,
            "POLLY_SCHEDULER": self.polly.url,
            "POLLY_TOKEN_FILE": str(self.polly.directory / "operator-token"),
        }
        command = [*POLLY, "check", "--format", "json", *options]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
        assert ran.returncode in (0, 3), ran.stderr
        answer: Json = json.loads(ran.stdout)
        errors = answer.get("after", answer)["errors"]
        assert ran.returncode == (3 if errors else 0)
        return answer

    def codes(self) -> set[str]:
        report = self.check()
        assert report["unseen"] == []
        return {finding["code"] for finding in report["findings"]}

    def make(self, name: str, command: str) -> Json:
        """A volume with a task on it; returns the volume's resource."""
        offer, disk = self.disk(lambda disk: not disk.get("reservations") and disk.get("role", "*") == "*")
        volume = persistent(disk, SIZE, name)
        operations = (reserve(disk, SIZE), create(disk, SIZE, name), launch(offer, name, volume, command))
        self.framework.accept(offer, *operations)
        return volume

    def disk(self, fits: Callable[[Json], bool]) -> tuple[Json, Json]:
        """An offer with a disk of ours that fits, and the disk."""

        def look() -> tuple[Json, Json] | None:
            offer = self.framework.offer()
            for resource in offer["resources"]:
                if resource.get("disk", {}).get("source", {}).get("profile") == "gold" and fits(resource):
                    return offer, resource
            self.framework.accept(offer)
            return None

        found: tuple[Json, Json] = wait_until(look)
        return found

    def end(self, name: str) -> None:
        """Destroy a volume that no task uses, and give back its space."""
        offer, volume = self.disk(lambda disk: disk["disk"].get("persistence", {}).get("id") == name)
        plain = {**volume, "disk": {"source": volume["disk"]["source"]}}
        self.framework.accept(offer, destroy(volume), unreserve(plain))

    def volume(self, name: str) -> Json:
        (found,) = [one for one in self.polly.get("/v1/volumes") if one["persistence_id"] == name]
        result: Json = found
        return result

    def is_free(self, name: str) -> bool:
        return self.volume(name)["publication"] is None


@pytest.fixture
def checked(cluster_factory: ClusterFactory, tmp_path: Path) -> Iterator[Checked]:
    cluster = cluster_factory(agents=2)
    with Polly(cluster, tmp_path, check={"interval": "1s"}) as polly:
        polly.connected(2)
        with Framework(cluster.master, roles=["test"]) as framework:
            yield Checked(polly, framework, LoopController(LoopSettings(str(tmp_path / "platform")), "test"))


def work(checked: Checked, over: threading.Event, done: list[str]) -> None:
    """Volumes come and go."""
    while not over.is_set():
        name = f"short-{len(done)}"
        checked.make(name, "echo hello > data/file")
        checked.framework.wait_for(name, "TASK_FINISHED")
        checked.end(name)
        done.append(name)


@pytest.mark.root
def test_a_check_is_silent_while_a_framework_works(checked: Checked) -> None:
    over, done = threading.Event(), list[str]()
    worker = threading.Thread(target=work, args=(checked, over, done))
    worker.start()
    try:
        while len(done) < 4 and worker.is_alive():
            assert checked.codes() == set()
    finally:
        over.set()
        worker.join(60)
    assert len(done) >= 4
    assert checked.codes() == set()
    told = [event for event in checked.polly.get("/v1/events") if event["kind"].startswith("drift.")]
    assert told == [], "and so is the loop that looks all the time"


@pytest.mark.root
def test_each_damage_is_named_and_what_is_safe_is_repaired(checked: Checked) -> None:
    checked.make("used", "echo hello > data/file && sleep 1000")
    checked.framework.wait_for("used", "TASK_RUNNING")
    checked.make("idle", "echo hello > data/file")
    checked.framework.wait_for("idle", "TASK_FINISHED")
    wait_until(lambda: checked.is_free("idle") and checked.volume("used")["publication"]["state"] == "published")
    assert checked.codes() == set()

    used, idle = checked.volume("used"), checked.volume("idle")
    host = HostIdentity(used["publication"]["host"])

    # An image of ours that the ledger does not know is listed, adopted, and never deleted.
    tag = str(uuid.uuid4())
    orphan = checked.platform.create(CreateRequest(tag, int(SIZE) * MB, Tags("test", tag, "gold")))
    assert checked.codes() == {"volume.orphan"}
    assert orphan.id in checked.polly.call("volume", "orphans")
    assert checked.check("--repair")["repaired"][0]["done"] is False
    checked.polly.call("volume", "adopt", "local", orphan.id)
    assert checked.codes() == set()
    checked.polly.call("volume", "delete", tag, "--yes")

    # An attachment that is gone while the host has the volume mounted is named and left.
    checked.platform.detach(used["platform_id"], host)
    assert checked.codes() == {"attachment.missing"}
    assert [one["done"] for one in checked.check("--repair")["repaired"]] == [False]
    checked.platform.attach(used["platform_id"], host)
    assert checked.codes() == set()

    # An attachment that nobody knows of is ended, as its host says that it does not use it.
    checked.platform.attach(idle["platform_id"], HostIdentity(endpoint(checked, idle["agent"])))
    assert checked.codes() == {"attachment.unexpected"}
    assert [one["done"] for one in checked.check("--repair")["repaired"]] == [True]
    wait_until(lambda: not checked.platform.get(idle["platform_id"]).attached_to)
    wait_until(lambda: checked.is_free("idle"))
    assert checked.codes() == set()

    # A mount that is taken away below a task.
    subprocess.run(["umount", used["publication"]["target"]], check=True)
    assert checked.codes() == {"mount.missing"}
    wait_until(lambda: "mount.missing" in drifting(checked))

    # An image that is gone from the platform.
    image = next((checked.polly.directory / "platform" / "volumes").glob(f"{idle['platform_id']}*img*"))
    image.unlink()
    assert checked.codes() >= {"volume.broken"}
    (image.parent / f"{idle['platform_id']}.json").unlink()
    assert checked.codes() >= {"volume.missing"}


def endpoint(checked: Checked, agent_id: str) -> str:
    (agent,) = [agent for agent in checked.polly.get("/v1/agents") if agent["id"] == agent_id]
    found: str = agent["endpoint"]
    return found


def drifting(checked: Checked) -> set[str]:
    """Codes of what the drift loop has told and not taken back."""
    there: set[tuple[str, str]] = set()
    for event in checked.polly.get("/v1/events", limit=1000):
        finding = (event["detail"].get("code", ""), event["subject"])
        if event["kind"] == "drift.found":
            there.add(finding)
        elif event["kind"] == "drift.gone":
            there.discard(finding)
    return {code for code, _ in there}
