"""The directory of one demo: what lies where in it, and the record of what runs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from polly_mesos.demo.errors import DemoFailed
from polly_mesos.mesos.local.processes import Process

_RECORD = "demo.json"


@dataclass
class Record:
    """What another process needs to end the demo.

    :param processes: name -> process, of those that were started and not ended
    :param polly: URL of the scheduler half
    :param made: whether the demo made the directory, so that it may remove it
    """

    processes: dict[str, Process] = field(default_factory=dict)
    polly: str = ""
    made: bool = False


@dataclass(frozen=True)
class DemoDirectory:
    """The paths of one demo.

    :param path: absolute and without symbolic links, as the kernel's mount table shows it
    """

    path: Path

    @property
    def mesos(self) -> Path:
        """The local Mesos."""
        return self.path / "mesos"

    @property
    def platform(self) -> Path:
        """What stands in for a storage platform: the driver's image files or directories."""
        return self.path / "platform"

    @property
    def configuration(self) -> Path:
        """Polly's configuration; the ledger lies beside it."""
        return self.path / "polly.yml"

    @property
    def logs(self) -> Path:
        """The logs of the processes that the demo starts itself."""
        return self.path / "logs"

    def log(self, process: str) -> Path:
        """The log of one of them."""
        return self.logs / f"{process}.log"

    @classmethod
    def prepare(cls, wanted: Path | None = None) -> DemoDirectory:
        """A directory ready for a new demo; what an earlier demo left in it is removed.

        :param wanted: where; by default a new temporary directory
        :raises DemoFailed: it holds something else, or a demo that still runs
        """
        path = Path(wanted or tempfile.mkdtemp(prefix="polly-demo-")).expanduser().resolve()
        made = wanted is None or not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        directory = cls(path)
        if any(path.iterdir()):
            old = directory.load()
            if old is None:
                raise DemoFailed(f"{path} is not empty and not a demo's", remedy="choose another directory with --dir")
            if directory.runs():
                raise DemoFailed(f"a demo runs in {path}", remedy=f"end it: polly demo --stop --dir {path}")
            made = old.made
            directory.clear()
        directory.logs.mkdir()
        directory.platform.mkdir()
        directory.save(Record(made=made))
        return directory

    def runs(self) -> bool:
        """Whether anything of a demo runs here."""
        record = self.load()
        return (self.mesos / "cluster.json").exists() or any(
            process.alive() for process in (record.processes.values() if record else ())
        )

    def save(self, record: Record) -> None:
        """Write the record so that a crash leaves the old or the new one."""
        new = self.path / f"{_RECORD}.new"
        new.write_text(json.dumps(asdict(record), indent=2))
        os.replace(new, self.path / _RECORD)

    def load(self) -> Record | None:
        """The record, None where no demo was here."""
        try:
            data = json.loads((self.path / _RECORD).read_text())
        except FileNotFoundError:
            return None
        processes = {name: Process(**process) for name, process in data["processes"].items()}
        return Record(processes, data["polly"], data["made"])

    def clear(self) -> None:
        """Remove all that is in it."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def remove(self) -> None:
        """Remove all that is in it, and the directory where the demo made it."""
        record = self.load()
        self.clear()
        if record is not None and record.made:
            self.path.rmdir()
