"""What the drivers that keep volumes in a directory write down beside them.

For each volume there is ``<id>.json`` (size, tags, state) and, while a host has it, ``<id>.holder``. Every change is
synced and takes effect by one rename or symlink, so that a crash leaves the record before or the record after it, and
nothing between. Several processes may work in one directory: changes are made under :meth:`Records.lock`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from drivers.base import CreateRequest, PlatformState, Tags
from polly_mesos.errors import (
    InvalidRequest,
    NotSupported,
    PlatformError,
    PlatformFull,
    PlatformUnavailable,
    UnknownVolume,
    VolumeInUse,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_RECORD, _HOLDER, _DELETING, _NEW = ".json", ".holder", ".deleting", ".new"


@dataclass(frozen=True, slots=True)
class Record:
    """What is written down about one volume or snapshot.

    :param size: bytes; on a snapshot, the size of its volume
    :param made_with: bytes that it was made with where it has grown since, else 0
    :param source: ``volume:ID`` or ``snapshot:ID`` that it is a copy of, empty where it began blank
    :param shares_blocks: whether it was copied by reference, so that blocks of its own still have to be found
    """

    size: int
    tags: Tags
    state: PlatformState = PlatformState.AVAILABLE
    source: str = ""
    zone: str = ""
    shares_blocks: bool = False
    made_with: int = 0

    @property
    def first_size(self) -> int:
        """The size that an idempotent repetition of the create asks for."""
        return self.made_with or self.size


def check_token(token: str) -> None:
    """Refuse a token that cannot be a file's name.

    :raises InvalidRequest: it has other characters than letters, digits, dot, dash and underscore, or over 128
    """
    if not _NAME.fullmatch(token):
        raise InvalidRequest(
            f"{token!r} cannot name a volume",
            remedy="use letters, digits, dots, dashes and underscores, at most 128",
            field="token",
            value=token,
        )


def refuse_what_directories_lack(request: CreateRequest, zone: str) -> None:
    """Refuse what no directory of files can give, rather than ignore it.

    :param zone: the zone that the service was configured with
    :raises NotSupported: naming the first setting that cannot be met
    """
    lacking = {
        "platform_type": request.platform_type,
        "iops": request.iops,
        "encryption": request.encryption,
        **request.options,
    }
    for name, value in lacking.items():
        if value:
            raise NotSupported(
                f"this driver has no {name}, and {value!r} was asked for",
                remedy=f"take {name} out of the profile {request.tags.profile!r}",
            )
    refuse_other_zone(request.zone, zone)


def refuse_other_zone(asked: str, zone: str) -> None:
    """Refuse a zone that the service does not stand in.

    :raises NotSupported: ``asked`` is neither empty nor ``zone``
    """
    if asked and asked != zone:
        raise NotSupported(
            f"this service is in zone {zone!r}, and {asked!r} was asked for" if zone else "this service has no zones",
            remedy="give the service the zone in its settings, or take the zone out of the profile",
        )


@contextlib.contextmanager
def platform_errors(doing: str) -> Iterator[None]:
    """Turn the operating system's errors into the platform's.

    :param doing: what was being done, for the message
    :raises PlatformFull: there is no space, or a quota is used up
    :raises PlatformError: anything else
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PlatformFull(
                f"no space left while {doing}: {error}", remedy="free space in the driver's directory"
            ) from error
        # What was done before the disk failed to keep it may be there all the same.
        raise PlatformError(f"failed while {doing}: {error}", outcome_unknown=True) from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Records:
    """The records of one folder, ``volumes`` or ``snapshots``, of a driver's directory.

    :raises PlatformUnavailable: the directory cannot be made or written
    """

    def __init__(self, directory: Path, folder: str) -> None:
        self.path = directory / folder
        self._lock_file = directory / "lock"
        try:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            with self.lock():
                for abandoned in self.path.glob(f"*{_NEW}"):
                    abandoned.unlink()
        except OSError as error:
            raise PlatformUnavailable(
                f"the driver's directory {directory} cannot be used: {error}",
                remedy="make the directory, or let the user that runs polly serve write there",
            ) from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold every other thread and process off the directory's records; not reentrant, not for long copies."""
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def find(self, name: str) -> Record | None:
        """The record of one volume, None where there is none.

        :raises PlatformError: it cannot be read
        """
        if not _NAME.fullmatch(name):
            return None
        record = self._read(self.path / f"{name}{_RECORD}")
        if record is None and (deleting := self._read(self.path / f"{name}{_DELETING}")) is not None:
            return replace(deleting, state=PlatformState.DELETING)
        return record

    def find_ours(self, name: str, cluster: str) -> Record:
        """The record of one volume of our cluster.

        :raises UnknownVolume: there is none, or it is another cluster's
        """
        record = self.find(name)
        if record is None or record.tags.cluster != cluster:
            raise UnknownVolume(f"there is no volume or snapshot {name!r} of cluster {cluster!r} in {self.path}")
        return record

    def names(self) -> list[str]:
        """The names of all records, those being deleted included, in order."""
        entries = [name for name in os.listdir(self.path) if name.endswith((_RECORD, _DELETING))]
        return sorted({name.removesuffix(_RECORD).removesuffix(_DELETING) for name in entries})

    def all(self) -> dict[str, Record]:
        """All records by name, in order."""
        found = ((name, self.find(name)) for name in self.names())
        return {name: record for name, record in found if record is not None}

    def store(self, name: str, record: Record) -> None:
        """Write a record, durable and whole or not at all. The lock must be held."""
        self._write_new(name, json.dumps(asdict(record), sort_keys=True))
        os.rename(self.path / f"{name}{_NEW}", self.path / f"{name}{_RECORD}")
        sync_directory(self.path)

    def begin_deletion(self, name: str) -> None:
        """From here on the volume can only be deleted: what is left of it is never taken for a volume."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path / f"{name}{_RECORD}", self.path / f"{name}{_DELETING}")
            sync_directory(self.path)

    def forget(self, name: str) -> None:
        """Remove the last trace of a volume whose data is gone. Succeeds where it is forgotten already."""
        for suffix in (_NEW, _RECORD, _DELETING):
            (self.path / f"{name}{suffix}").unlink(missing_ok=True)
        sync_directory(self.path)

    def holder(self, name: str) -> str:
        """The host that holds the volume, empty where none does."""
        try:
            return os.readlink(self.path / f"{name}{_HOLDER}")
        except FileNotFoundError:
            return ""

    def held_by(self, host: str) -> list[str]:
        """The names of all volumes that a host holds, those of other clusters included, in order."""
        names = (entry.removesuffix(_HOLDER) for entry in os.listdir(self.path) if entry.endswith(_HOLDER))
        return sorted(name for name in names if self.holder(name) == host)

    def hold(self, name: str, host: str) -> None:
        """Give the volume to one host, at most one.

        The holder is a symbolic link whose text is the host: the one thing that is made exclusively and with its
        content in a single step.

        :raises VolumeInUse: another host holds it
        """
        holder = self.holder(name)
        if not holder:
            try:
                os.symlink(host, self.path / f"{name}{_HOLDER}")
            except FileExistsError:
                holder = self.holder(name)
            else:
                sync_directory(self.path)
                return
        if holder != host:
            raise VolumeInUse(
                f"volume {name} is attached to {holder}, and was asked for by {host}",
                remedy=f"detach it from {holder} first",
            )

    def let_go(self, name: str, host: str) -> None:
        """Take the volume from the host. Succeeds where that host does not hold it. The lock must be held."""
        if _NAME.fullmatch(name) and self.holder(name) == host:
            (self.path / f"{name}{_HOLDER}").unlink()
            sync_directory(self.path)

    def _write_new(self, name: str, text: str) -> None:
        descriptor = os.open(self.path / f"{name}{_NEW}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            with open(descriptor, "w", closefd=False) as file:
                file.write(text)
            os.fsync(descriptor)
        except OSError:
            (self.path / f"{name}{_NEW}").unlink()
            raise
        finally:
            os.close(descriptor)

    def _read(self, path: Path) -> Record | None:
        try:
            text = path.read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PlatformUnavailable(f"{path} cannot be read: {error}") from error
        try:
            fields = json.loads(text)
            fields["tags"] = Tags(**fields["tags"])
            fields["state"] = PlatformState(fields["state"])
            return Record(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise PlatformError(
                f"{path} is not a record of this driver: {error}",
                remedy="restore the file; the volume's data is beside it and was not touched",
            ) from error
