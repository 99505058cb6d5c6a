"""How long a new volume takes from nothing to mounted, beside the same work done with the host's own programs."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from drivers.base import CreateRequest, Tags
from drivers.loop.controller import LoopController
from drivers.loop.host import LoopHost
from drivers.loop.settings import LoopSettings
from polly_mesos.errors import HostError
from polly_mesos.executor import host
from polly_mesos.model import MB, Filesystem, FormatState

_ROUNDS = 15
_SIZE = 1024 * MB
_REPUBLISH_BAR = 0.005
_MKFS = {
    Filesystem.EXT4: ("mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"),
    Filesystem.XFS: ("mkfs.xfs", "-q", "-K"),
}


class _Ours:
    """Create, attach, locate, look, format, mount: all that Polly does but the ledger and the network."""

    def __init__(self, directory: Path, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._controller = LoopController(LoopSettings(str(directory / "platform")), "bench")
        self._host = LoopHost({"directory": str(directory / "platform")}, "127.0.0.1:5051")
        self._identity = self._host.identify()
        self._volume = ""
        self._target = str(directory / "root" / "gold" / "volumes" / "roles" / "bench" / "volume")

    def make(self) -> None:
        self._volume = str(uuid.uuid4())
        tags = Tags("bench", self._volume, "gold")
        self._controller.create(CreateRequest(self._volume, _SIZE, tags, filesystem=self._filesystem))
        self.publish(FormatState.NEVER)

    def publish(self, format_state: FormatState = FormatState.FORMATTED) -> None:
        attachment = self._controller.attach(self._volume, self._identity)
        device = self._host.locate(attachment, 10.0)
        host.publish(
            self._target,
            self._volume,
            device,
            self._filesystem,
            format_state=format_state,
            begin=lambda: None,
            done=lambda: None,
        )

    def undo(self) -> None:
        host.unpublish(self._target)
        self._host.release(self._controller.attach(self._volume, self._identity))
        self._controller.detach(self._volume, self._identity)
        self._controller.delete(self._volume)


class _Raw:
    """The same by the programs truncate, losetup, mkfs and mount, mkfs with the same options as ours."""

    def __init__(self, directory: Path, filesystem: Filesystem) -> None:
        self._mkfs = _MKFS[filesystem]
        self._image = str(directory / "raw.img")
        self._target = str(directory / "raw")
        self._device = ""
        os.mkdir(self._target)

    def make(self) -> None:
        _run("truncate", "-s", str(_SIZE), self._image)
        self._device = _run("losetup", "--find", "--show", self._image).strip()
        _run(*self._mkfs, self._device)
        _run("mount", self._device, self._target)

    def undo(self) -> None:
        _run("umount", self._target)
        _run("losetup", "--detach", self._device)
        os.unlink(self._image)


def run() -> list[tuple[str, float, float, float]]:
    """Name, our seconds, the reference's seconds, their ratio; medians.

    :raises HostError: not root
    """
    if os.geteuid() != 0:
        raise HostError("publishing cannot be measured: it needs loop devices and mounts", remedy="run it as root")
    rows = []
    for filesystem in _MKFS:
        with tempfile.TemporaryDirectory() as name:
            ours, raw = _Ours(Path(name), filesystem), _Raw(Path(name), filesystem)
            times: tuple[list[float], list[float], list[float]] = ([], [], [])
            for _ in range(_ROUNDS):
                # In turns, so that both meet the same load.
                try:
                    times[0].append(_seconds(ours.make))
                    times[2].append(_seconds(ours.publish))
                finally:
                    ours.undo()
                try:
                    times[1].append(_seconds(raw.make))
                finally:
                    raw.undo()
        rows.append(_row(f"publish a new {filesystem} volume of 1 GB", times[0], statistics.median(times[1])))
        rows.append(_row(f"publish a mounted {filesystem} volume again (bar: 5 ms)", times[2], _REPUBLISH_BAR))
    return rows


def _row(name: str, ours: list[float], reference: float) -> tuple[str, float, float, float]:
    median = statistics.median(ours)
    return name, median, reference, median / reference


def _seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    for row in run():
        print(f"{row[0]:<55} {row[1] * 1000:8.2f} ms {row[2] * 1000:8.2f} ms {row[3]:6.2f} x")
