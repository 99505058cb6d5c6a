"""When a host is proven gone, with real processes, loop devices and mounts: dead is what cannot write any more."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers import fencing
from drivers.base import CreateRequest, PlatformVolume, Tags
from drivers.directory import DRIVER as DIRECTORY
from drivers.directory.controller import DirectoryController
from drivers.directory.settings import DirectorySettings
from drivers.hosts import Machine
from polly_mesos.errors import VolumeInUse
from polly_mesos.model import MB, Filesystem, HostIdentity
from tests.drivers.crashes import crash_in_every_state
from tests.drivers.hosts import HOLDS_OPEN, HostProcesses
from tests.leftovers import require_root

OTHER = HostIdentity("192.0.2.2:1")

HOLDS_OPEN_IN_ANOTHER_THREAD = """
import ctypes, sys, threading
file = open(sys.argv[1] + "/held-open", "a")
main = threading.main_thread().native_id
def go_on():
    while not open(f"/proc/{main}/stat").read().rpartition(")")[2].split()[0] == "Z":
        pass
    print("ready", flush=True)
    sys.stdin.read()
threading.Thread(target=go_on).start()
ctypes.CDLL(None).syscall(60, 0)
"""
HOLDS_MAPPED = """
import mmap, os, sys
with open(sys.argv[1] + "/held-open", "wb+") as file:
    file.truncate(4096)
    mapped = mmap.mmap(file.fileno(), 4096)
for number in os.listdir("/proc/self/fd"):
    if int(number) > 2:
        try:
            os.close(int(number))
        except OSError:
            pass
print("ready", flush=True)
sys.stdin.read()
"""
STANDS_THERE = """
import os, sys
os.chdir(sys.argv[1])
open("held-open", "w").close()
print("ready", flush=True)
sys.stdin.read()
"""
WRITES_NOW_AND_THEN = """
import sys, time
print("ready", flush=True)
while True:
    with open(sys.argv[1] + "/log", "a") as file:
        file.write("x")
    time.sleep(0.001)
"""


def request(filesystem: Filesystem) -> CreateRequest:
    token = str(uuid.uuid4())
    return CreateRequest(token, 16 * MB, Tags("test", token, "gold"), filesystem=filesystem)


class TestDirectory:
    """Any user's processes can be looked at by that user."""

    @pytest.fixture
    def controller(self, tmp_path: Path) -> DirectoryController:
        return DirectoryController(DirectorySettings(str(tmp_path / "platform")), "test")

    @pytest.fixture
    def host(self, tmp_path: Path, controller: DirectoryController) -> Iterator[HostProcesses]:
        with HostProcesses(DIRECTORY, tmp_path / "platform", tmp_path / "agent") as host:
            yield host

    @pytest.fixture
    def volume(self, controller: DirectoryController) -> PlatformVolume:
        return controller.create(request(Filesystem.NONE))

    def held(self, controller: DirectoryController, volume: PlatformVolume, host: HostProcesses) -> str:
        return host.locate(controller.attach(volume.id, HostIdentity(host.node)))

    def test_a_host_without_power_is_gone_and_its_volume_can_be_taken(
        self, controller: DirectoryController, volume: PlatformVolume, host: HostProcesses
    ) -> None:
        data = Path(self.held(controller, volume, host))
        (data / "file").write_text("kept")
        host.power_off()
        fence = controller.fence(HostIdentity(host.node))
        assert fence.proven, fence.reason
        controller.detach(volume.id, HostIdentity(host.node), force=True)
        assert controller.get(volume.id).attached_to == ()
        moved = Path(controller.attach(volume.id, OTHER)["data"])
        assert (moved / "file").read_text() == "kept"

    def test_who_knows_only_the_old_path_writes_nowhere(
        self, controller: DirectoryController, volume: PlatformVolume, host: HostProcesses
    ) -> None:
        old = self.held(controller, volume, host)
        host.power_off()
        controller.detach(volume.id, HostIdentity(host.node), force=True)
        with pytest.raises(FileNotFoundError):
            Path(old, "late").write_text("late")
        again = controller.attach(volume.id, HostIdentity(host.node))
        assert again["data"] != old
        assert os.listdir(again["data"]) == []

    def test_an_agent_in_a_network_whose_processes_may_not_be_looked_at_is_seen_by_its_port(
        self,
        controller: DirectoryController,
        volume: PlatformVolume,
        host: HostProcesses,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.held(controller, volume, host)
        readlink = os.readlink

        def hidden(path: str | Path) -> str:
            if path == "/proc/self/ns/net":
                return "net:[1]"
            if str(path).endswith("/ns/net"):
                raise PermissionError(path)
            return readlink(path)

        monkeypatch.setattr("drivers.fencing.os.readlink", hidden)
        host.kill(host.executor)
        assert "port" in controller.fence(HostIdentity(host.node)).reason
        host.power_off()
        fence = controller.fence(HostIdentity(host.node))
        assert fence.proven, fence.reason

    def test_a_dead_executor_beside_a_living_agent_is_no_dead_host(
        self, controller: DirectoryController, volume: PlatformVolume, host: HostProcesses
    ) -> None:
        self.held(controller, volume, host)
        host.kill(host.executor)
        fence = controller.fence(HostIdentity(host.node))
        assert not fence.proven
        assert "agent" in fence.reason

    @pytest.mark.parametrize("program", [HOLDS_OPEN, WRITES_NOW_AND_THEN])
    def test_a_task_that_outlives_its_agent_is_seen(
        self, program: str, controller: DirectoryController, volume: PlatformVolume, host: HostProcesses
    ) -> None:
        data = self.held(controller, volume, host)
        task = host.task(program, data, told_sandbox=True)
        host.kill(host.executor, host.agent)
        fence = controller.fence(HostIdentity(host.node))
        assert not fence.proven
        assert f"process {task.pid}" in fence.reason
        host.kill(task)
        assert controller.fence(HostIdentity(host.node)).proven

    @pytest.mark.parametrize("program", [HOLDS_OPEN, HOLDS_OPEN_IN_ANOTHER_THREAD, HOLDS_MAPPED, STANDS_THERE])
    def test_a_process_that_hides_that_it_is_a_task_is_seen_by_what_it_uses(
        self, program: str, controller: DirectoryController, volume: PlatformVolume, host: HostProcesses
    ) -> None:
        data = self.held(controller, volume, host)
        task = host.task(program, data)
        host.kill(host.executor, host.agent)
        assert f"process {task.pid} uses" in controller.fence(HostIdentity(host.node)).reason
        with pytest.raises(VolumeInUse, match=f"process {task.pid}"):
            controller.detach(volume.id, HostIdentity(host.node), force=True)
        assert controller.get(volume.id).attached_to == (host.node,)
        assert os.listdir(data) == ["held-open"]
        host.kill(task)
        assert controller.fence(HostIdentity(host.node)).proven

    def test_a_task_that_opens_files_again_and_again_is_cut_off(
        self, controller: DirectoryController, volume: PlatformVolume, host: HostProcesses
    ) -> None:
        task = host.task(WRITES_NOW_AND_THEN, self.held(controller, volume, host))
        host.kill(host.executor, host.agent)
        deadline = time.monotonic() + 10
        while controller.get(volume.id).attached_to and time.monotonic() < deadline:
            with contextlib.suppress(VolumeInUse):
                controller.detach(volume.id, HostIdentity(host.node), force=True)
        assert task.wait(10) != 0, "it could go on writing"

    def test_a_host_that_came_back_after_it_was_fenced_does_not_keep_what_it_does_not_use(
        self, controller: DirectoryController, volume: PlatformVolume, host: HostProcesses
    ) -> None:
        self.held(controller, volume, host)
        controller.detach(volume.id, HostIdentity(host.node), force=True)
        assert controller.get(volume.id).attached_to == ()

    @pytest.mark.root
    def test_a_bind_mount_in_a_namespace_of_its_own_is_seen(
        self, controller: DirectoryController, volume: PlatformVolume, host: HostProcesses
    ) -> None:
        require_root()
        data = self.held(controller, volume, host)
        script = f"mount --bind {data} /mnt && echo ready && exec cat"
        inside = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
        )
        with inside:
            try:
                assert inside.stdout is not None
                assert inside.stdout.readline() == "ready\n"
                host.power_off()
                fence = controller.fence(HostIdentity(host.node))
                assert not fence.proven
                assert f"process {inside.pid}" in fence.reason
            finally:
                inside.kill()

    @pytest.mark.root
    def test_a_file_that_is_open_through_a_mount_that_was_hidden_is_seen(
        self, controller: DirectoryController, volume: PlatformVolume, host: HostProcesses, tmp_path: Path
    ) -> None:
        require_root()
        data, place = self.held(controller, volume, host), tmp_path / "place"
        place.mkdir()
        subprocess.run(["mount", "--bind", data, str(place)], check=True)
        try:
            task = host.task(HOLDS_OPEN, str(place))
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        host.kill(host.executor, host.agent)
        assert f"process {task.pid} uses" in controller.fence(HostIdentity(host.node)).reason
        host.kill(task)
        assert controller.fence(HostIdentity(host.node)).proven

    @pytest.mark.root
    def test_a_host_with_namespaces_of_its_own_is_seen_too(
        self, controller: DirectoryController, tmp_path: Path
    ) -> None:
        require_root()
        if os.readlink("/proc/self/ns/pid") != fencing._INITIAL_PID_NAMESPACE:
            pytest.skip("the processes of other namespaces are seen from the machine's first one alone")
        with HostProcesses(DIRECTORY, tmp_path / "platform", tmp_path / "agent", isolated=True) as host:
            identity = HostIdentity(host.node)
            host.kill(host.agent)
            assert "executor" in controller.fence(identity).reason
        with HostProcesses(DIRECTORY, tmp_path / "platform", tmp_path / "agent", isolated=True) as host:
            identity = HostIdentity(host.node)
            host.kill(host.executor)
            deadline = time.monotonic() + 10
            while "executor" in controller.fence(identity).reason and time.monotonic() < deadline:
                time.sleep(0.01)
            assert "listens" in controller.fence(identity).reason
            assert not controller.fence(identity).proven
            host.power_off()
            fence = controller.fence(identity)
            assert fence.proven, fence.reason

    def test_a_crash_while_a_volume_is_taken_by_force(
        self,
        controller: DirectoryController,
        volume: PlatformVolume,
        host: HostProcesses,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # Looking at every process of the machine changes nothing on the disk, and takes long line by line.
        monkeypatch.setattr("drivers.directory.controller.user_of", lambda directories, lease: "")
        here, data = HostIdentity(host.node), Path(controller.attach(volume.id, HostIdentity(host.node))["data"])
        (data / "file").write_text("kept")
        platform = tmp_path / "platform" / "volumes"
        for _ in crash_in_every_state(platform, lambda: controller.detach(volume.id, here, force=True)):
            controller.detach(volume.id, here, force=True)
            data = Path(controller.attach(volume.id, here)["data"])
            assert (data / "file").read_text() == "kept"
            assert len(list(data.parent.iterdir())) == 1


class TestLease:
    """What a host wrote of itself decides what can be seen of it."""

    @pytest.fixture
    def controller(self, tmp_path: Path) -> DirectoryController:
        return DirectoryController(DirectorySettings(str(tmp_path / "platform")), "test")

    @pytest.fixture
    def change_lease(self, tmp_path: Path, controller: DirectoryController) -> Callable[..., HostIdentity]:
        def change(**fields: object) -> HostIdentity:
            with HostProcesses(DIRECTORY, tmp_path / "platform", tmp_path / "agent") as host:
                pass
            path = tmp_path / "platform" / "hosts" / f"{host.node}.lease"
            path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
            return HostIdentity(host.node)

        return change

    def test_a_host_that_never_came_is_not_known_to_be_gone(self, controller: DirectoryController) -> None:
        fence = controller.fence(OTHER)
        assert not fence.proven
        assert "never wrote" in fence.reason

    def test_a_machine_that_restarted_is_gone(
        self, controller: DirectoryController, change_lease: Callable[..., HostIdentity]
    ) -> None:
        if not Path("/etc/machine-id").exists():
            pytest.skip("this machine has no /etc/machine-id, so it cannot be told from others")
        fence = controller.fence(change_lease(boot="before"))
        assert fence.proven, fence.reason
        assert "restarted" in fence.reason

    @pytest.mark.parametrize("field", ["id", "hostname", "product"])
    def test_another_machine_cannot_be_seen(
        self,
        field: str,
        controller: DirectoryController,
        change_lease: Callable[..., HostIdentity],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        here = {"id": "this", "hostname": "this", "product": "this"}
        monkeypatch.setattr("drivers.fencing.this_machine", lambda: Machine(**here))
        fence = controller.fence(change_lease(boot="another", machine={**here, field: "other"}))
        assert not fence.proven
        assert "another machine" in fence.reason

    def test_a_process_in_a_namespace_that_is_not_ours_is_not_known_to_be_gone(
        self,
        controller: DirectoryController,
        change_lease: Callable[..., HostIdentity],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("drivers.fencing._INITIAL_PID_NAMESPACE", "pid:[0]")
        fence = controller.fence(change_lease(pid_namespace="pid:[1]"))
        assert not fence.proven
        assert "namespace" in fence.reason

    def test_a_later_process_of_the_same_number_is_another(
        self, controller: DirectoryController, change_lease: Callable[..., HostIdentity]
    ) -> None:
        assert controller.fence(change_lease(pid=os.getpid())).proven
