"""What is looked at all the time: that nothing dies by itself, and that no volume is on two hosts at once."""

from __future__ import annotations

import logging
import re
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from chaos.disks import loop_devices
from chaos.scheduler import ended_by_fault
from chaos.stage import AGENTS, MASTER, Stage
from polly_mesos.executor.host.mounts import mounts

log = logging.getLogger(__name__)

_EVERY = 0.25
_LOST_LEADERSHIP = "Lost leadership"
_ABORT = re.compile(r"^F\d{4} |Check failed|\*\*\* Aborted at|terminate called|ABORT: ", re.MULTILINE)
"""How libprocess and glog begin their last words."""
WINDOWS = re.compile(
    r"slave\.cpp:(9131|9262)\] Check failed: 'resourceProvider' Must be non NULL"
    r"|master\.cpp:11687\] Check failed: .*resourceProviders\.contains"
)
"""Last words of Mesos 1.11 where a provider's process dies while an operation, the acknowledgement of one's status, or
an offer with its disks is on the way. Killing the process opens these windows; a dead provider cannot close them."""


class Watch:
    """Looks in a thread of its own, from :meth:`start` to :meth:`stop`; starts the scheduler again where it died."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._found: dict[str, None] = {}
        self._lock = threading.Lock()
        self._dead: set[str] = set()
        self._read: dict[str, int] = {}
        self.aborts = 0
        self.windows = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def violations(self) -> list[str]:
        """Everything found so far, each once."""
        self._read_logs()
        with self._lock:
            return list(self._found)

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY):
            try:
                self._look_at_nodes()
                self._look_at_scheduler()
                self._look_at_mounts()
            except Exception as error:
                log.exception("the watch failed")
                self._add(f"the watch itself failed: {error!r}")

    def _look_at_nodes(self) -> None:
        for name in (MASTER, *AGENTS):
            node = self._stage.node(name)
            if node.alive():
                self._dead.discard(name)
            # alive is asked again, for it may have come back since
            elif not self._stage.is_away(name) and name not in self._dead and not node.alive():
                if name == MASTER and _LOST_LEADERSHIP in _end_of(node.log):
                    # What Mesos' master does when ZooKeeper has missed it for too long; an init system starts it again.
                    node.launch()
                    continue
                if WINDOWS.search(_end_of(node.log)):
                    log.warning("%s ended in a window of Mesos' own and is started again", name)
                    self.windows += 1
                    node.launch()
                    continue
                self._dead.add(name)
                self._abort(f"{name} ended by itself; its log is {node.log}")

    def _look_at_scheduler(self) -> None:
        status = self._stage.scheduler.death()
        if status is None:
            return
        # Also after the fault was healed: the process notices a little later that nothing is armed any more.
        if not ended_by_fault(status):
            self._add(f"polly serve ended by itself with status {status}; its log is {self._stage.scheduler.log}")
        self._stage.scheduler.start()

    def _look_at_mounts(self) -> None:
        places = defaultdict(set)
        files = {str(device): file for device, file in loop_devices(self._stage.platform_disk.directory).items()}
        volumes = self._stage.cluster.volumes
        for mount in mounts():
            target = Path(mount.mount_point)
            if mount.source in files and target.is_relative_to(volumes):
                places[files[mount.source]].add(target.relative_to(volumes).parts[0])
        for file, roots in places.items():
            if len(roots) > 1:
                self._add(f"{file.name} is mounted on {len(roots)} agents at once: volume roots {sorted(roots)}")

    def _read_logs(self) -> None:
        for name, new in self._new_lines().items():
            self._add_aborts(name, new)

    def _add_aborts(self, name: str, text: str) -> None:
        for line in unexplained(text):
            self._abort(f"{name} aborted: {line[:500]}")

    def _new_lines(self) -> Mapping[str, str]:
        found = {}
        for name, path in self._stage.logs().items():
            if path.exists():
                with path.open(errors="replace") as file:
                    file.seek(self._read.get(name, 0))
                    found[name] = file.read()
                    self._read[name] = file.tell()
        return found

    def _abort(self, words: str) -> None:
        self.aborts += 1
        self._add(words)

    def _add(self, words: str) -> None:
        with self._lock:
            self._found[words] = None


def unexplained(text: str) -> list[str]:
    """The lines of a log that tell of an abort, without those of Mesos' own windows."""
    found = [line for line in text.splitlines() if _ABORT.search(line) and not WINDOWS.search(line)]
    if WINDOWS.search(text):
        # glog's handler of the signal that follows its own words
        found = [line for line in found if "*** Aborted at" not in line]
    return found


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-20_000:]
