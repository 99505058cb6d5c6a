"""When a host of the loop driver is proven gone: when the kernel holds nothing that could write to its images."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.base import CreateRequest, PlatformVolume, Tags
from drivers.loop import DRIVER as LOOP
from drivers.loop.controller import LoopController
from drivers.loop.host import LoopHost
from drivers.loop.settings import LoopSettings
from drivers.loop_devices import locked
from polly_mesos.errors import DeviceNotFound, VolumeInUse
from polly_mesos.executor.host import mounts
from polly_mesos.model import MB, Filesystem, HostIdentity, Json
from tests.drivers.hosts import HOLDS_OPEN, HostProcesses

OTHER = HostIdentity("192.0.2.2:1")


def request(filesystem: Filesystem) -> CreateRequest:
    token = str(uuid.uuid4())
    return CreateRequest(token, 16 * MB, Tags("test", token, "gold"), filesystem=filesystem)


@pytest.mark.root
@pytest.mark.usefixtures("nothing_left")
class TestLoop:
    """The kernel's loop table knows every writer."""

    @pytest.fixture
    def controller(self, tmp_path: Path) -> LoopController:
        return LoopController(LoopSettings(str(tmp_path / "platform")), "test")

    @pytest.fixture
    def host(self, tmp_path: Path, controller: LoopController) -> Iterator[HostProcesses]:
        with HostProcesses(LOOP, tmp_path / "platform", tmp_path / "agent") as host:
            yield host

    @pytest.fixture
    def volume(self, controller: LoopController, host: HostProcesses, tmp_path: Path) -> Iterator[PlatformVolume]:
        volume = controller.create(request(Filesystem.EXT4))
        yield volume
        host.power_off()
        mounts.unmount(str(tmp_path / "target"))
        LoopHost({"directory": str(tmp_path / "platform")}, host.node).release(
            {"image": str(tmp_path / "platform" / "volumes" / f"{volume.id}.img")}
        )
        for holder in controller.get(volume.id).attached_to:
            controller.detach(volume.id, HostIdentity(holder))
        controller.delete(volume.id)

    @pytest.fixture
    def mounted(
        self, controller: LoopController, host: HostProcesses, volume: PlatformVolume, tmp_path: Path
    ) -> Callable[[], tuple[Json, str]]:
        def mount() -> tuple[Json, str]:
            attachment = controller.attach(volume.id, HostIdentity(host.node))
            device = host.locate(attachment)
            subprocess.run(["mkfs.ext4", "-q", device], check=True)
            (tmp_path / "target").mkdir()
            mounts.mount(device, str(tmp_path / "target"), "ext4")
            return attachment, device

        return mount

    def test_a_host_without_power_is_gone_once_the_kernel_holds_nothing_of_it(
        self,
        controller: LoopController,
        host: HostProcesses,
        volume: PlatformVolume,
        mounted: Callable[[], tuple[Json, str]],
        tmp_path: Path,
    ) -> None:
        attachment, device = mounted()
        host.power_off()
        still_mounted = controller.fence(HostIdentity(host.node))
        assert not still_mounted.proven
        assert device in still_mounted.reason
        assert str(tmp_path / "target") in still_mounted.reason
        with pytest.raises(VolumeInUse, match=device):
            controller.detach(volume.id, HostIdentity(host.node), force=True)
        mounts.unmount(str(tmp_path / "target"))
        assert device in controller.fence(HostIdentity(host.node)).reason
        LoopHost({"directory": str(tmp_path / "platform")}, host.node).release(attachment)
        gone = controller.fence(HostIdentity(host.node))
        assert gone.proven, gone.reason
        controller.detach(volume.id, HostIdentity(host.node), force=True)
        controller.attach(volume.id, OTHER)

    def test_a_mount_that_was_hidden_and_is_still_written_to_is_seen(
        self,
        controller: LoopController,
        host: HostProcesses,
        mounted: Callable[[], tuple[Json, str]],
        tmp_path: Path,
    ) -> None:
        attachment, device = mounted()
        task = host.task(HOLDS_OPEN, str(tmp_path / "target"))
        subprocess.run(["umount", "--lazy", str(tmp_path / "target")], check=True)
        subprocess.run(["losetup", "--detach", device], check=True)
        host.kill(host.executor, host.agent)
        assert device in controller.fence(HostIdentity(host.node)).reason
        host.kill(task)
        LoopHost({"directory": str(tmp_path / "platform")}, host.node).release(attachment)
        assert controller.fence(HostIdentity(host.node)).proven

    @pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
    @pytest.mark.parametrize("who", ["agent", "executor"])
    def test_one_stopped_or_killed_process_is_no_dead_host(
        self, who: str, number: signal.Signals, controller: LoopController, host: HostProcesses, volume: PlatformVolume
    ) -> None:
        process: subprocess.Popen[str] = getattr(host, who)
        process.send_signal(number)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        fence = controller.fence(HostIdentity(host.node))
        assert not fence.proven
        assert host.node in fence.reason

    def test_both_stopped_are_no_dead_host(self, controller: LoopController, host: HostProcesses) -> None:
        for process in (host.agent, host.executor):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert not controller.fence(HostIdentity(host.node)).proven

    def test_a_restarted_executor_stands_for_its_host(self, controller: LoopController, host: HostProcesses) -> None:
        first = host.executor
        host.restart_executor()
        host.kill(first, host.agent)
        assert f"process {host.executor.pid}" in controller.fence(HostIdentity(host.node)).reason
        host.power_off()
        assert controller.fence(HostIdentity(host.node)).proven

    def test_what_a_living_host_does_not_use_can_be_taken_and_what_it_uses_cannot(
        self,
        controller: LoopController,
        host: HostProcesses,
        volume: PlatformVolume,
        mounted: Callable[[], tuple[Json, str]],
    ) -> None:
        controller.attach(volume.id, HostIdentity(host.node))
        controller.detach(volume.id, HostIdentity(host.node), force=True)
        _, device = mounted()
        with pytest.raises(VolumeInUse, match=f"{device}.*losetup"):
            controller.detach(volume.id, HostIdentity(host.node), force=True)

    def test_an_image_that_is_being_bound_is_not_taken(
        self, controller: LoopController, host: HostProcesses, volume: PlatformVolume
    ) -> None:
        attachment = controller.attach(volume.id, HostIdentity(host.node))
        with locked(attachment["image"]), pytest.raises(VolumeInUse, match="being bound"):
            controller.detach(volume.id, HostIdentity(host.node), force=True)

    def test_a_late_host_cannot_bind_what_was_taken_from_it(
        self, controller: LoopController, host: HostProcesses, volume: PlatformVolume, tmp_path: Path
    ) -> None:
        attachment = controller.attach(volume.id, HostIdentity(host.node))
        host.power_off()
        controller.detach(volume.id, HostIdentity(host.node), force=True)
        late = LoopHost({"directory": str(tmp_path / "platform")}, host.node)
        with pytest.raises(DeviceNotFound, match="does not say"):
            late.locate(attachment, 0.05)
        controller.attach(volume.id, OTHER)
        with pytest.raises(VolumeInUse, match=OTHER.host):
            late.locate(attachment, 5.0)
