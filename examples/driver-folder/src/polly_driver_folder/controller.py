"""The controller side. Every change of a volume is one rename: a crash leaves it before or after, never between.

::

    DIRECTORY/VOLUME/volume.json    size and tags
    DIRECTORY/VOLUME/free           the data, while no host holds it
    DIRECTORY/VOLUME/held-by-HOST   the data, while that host holds it
    DIRECTORY/VOLUME/deleted        the data, when nobody can have it any more
    DIRECTORY/.VOLUME               half made or half deleted; no volume, and may always be removed
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote

from drivers.base import Capacity, ControllerDriver, CreateRequest, Page, PlatformState, PlatformVolume, Tags
from polly_driver_folder.host import HELD, held_by
from polly_driver_folder.settings import FolderSettings, lacking
from polly_mesos.errors import (
    AlreadyExists,
    InvalidRequest,
    NotSupported,
    PlatformError,
    PlatformFull,
    PlatformUnavailable,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.model import Filesystem, HostIdentity, Json

RECORD, FREE, DELETED = "volume.json", "free", "deleted"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class FolderController(ControllerDriver):
    """It declares no capabilities: it copies nothing, grows nothing, limits nothing, and knows of no host's death."""

    def __init__(self, settings: FolderSettings, cluster: str) -> None:
        self._directory = Path(settings.directory)
        self._cluster = cluster

    def capacity(self, zone: str, platform_type: str) -> Capacity:
        if zone or platform_type:
            raise NotSupported(f"a share has no zones or types, and {zone or platform_type!r} was asked for")
        return Capacity(total=None)

    def create(self, request: CreateRequest) -> PlatformVolume:
        _check(request)
        with _platform_errors(f"making volume {request.token}"):
            found = self._find(request.token)
            if found is not None and (found.tags.cluster, found.size) != (self._cluster, request.size):
                raise AlreadyExists(f"{request.token} is a volume of {found.size} bytes of {found.tags.cluster!r}")
            if found is not None and found.state is PlatformState.DELETING:
                self.delete(request.token)
                found = None
            if found is None:
                self._make(request)
            _sync(self._directory)
        return self.get(request.token)

    def get(self, platform_id: str) -> PlatformVolume:
        with _platform_errors(f"looking for volume {platform_id}"):
            found = self._find(platform_id)
        if found is None or found.tags.cluster != self._cluster:
            raise UnknownVolume(f"there is no volume {platform_id!r} of {self._cluster!r} in {self._directory}")
        return found

    def list(self, page: str | None = None) -> Page:
        with _platform_errors("listing volumes"):
            found = [self._find(name) for name in sorted(os.listdir(self._directory))]
        return Page(tuple(volume for volume in found if volume and volume.tags.cluster == self._cluster))

    def delete(self, platform_id: str) -> None:
        folder, rubbish = self._directory / platform_id, self._directory / f".{platform_id}"
        with _platform_errors(f"deleting volume {platform_id}"):
            if self._find(platform_id) is not None:
                volume = self.get(platform_id)  # raises where it is another cluster's
                if not _rename(folder, FREE, DELETED) and volume.state is not PlatformState.ERROR:
                    raise VolumeInUse(f"volume {platform_id} is held by {', '.join(volume.attached_to)}")
                _remove(rubbish)
                os.rename(folder, rubbish)
                _sync(self._directory)
            if _NAME.fullmatch(platform_id):
                _remove(rubbish)

    def attach(self, platform_id: str, host: HostIdentity) -> Json:
        self.get(platform_id)
        with _platform_errors(f"attaching volume {platform_id}"):
            if _rename(self._directory / platform_id, FREE, held_by(host.host)):
                return {"volume": platform_id}
        volume = self.get(platform_id)
        if volume.attached_to:
            raise VolumeInUse(f"volume {platform_id} is held by {', '.join(volume.attached_to)}")
        raise WrongState(f"volume {platform_id} is in state {volume.state}", remedy="see what became of its folder")

    def detach(self, platform_id: str, host: HostIdentity, *, force: bool = False) -> None:
        # By force is no different: the data has another path from then on, which the host that held it does not find.
        with contextlib.suppress(UnknownVolume):
            self.get(platform_id)
            with _platform_errors(f"detaching volume {platform_id}"):
                _rename(self._directory / platform_id, held_by(host.host), FREE)

    def _find(self, name: str) -> PlatformVolume | None:
        """The volume, of whichever cluster; None where there is surely none."""
        if not _NAME.fullmatch(name):
            return None
        try:
            text = (self._directory / name / RECORD).read_bytes()
            names = os.listdir(self._directory / name)
        except (FileNotFoundError, NotADirectoryError):
            os.listdir(self._directory)  # raises where it is the share that is missing, which says nothing of volumes
            return None
        try:
            record = json.loads(text)
            size, tags = int(record["size"]), Tags(**record["tags"])
        except (ValueError, TypeError, KeyError) as error:
            raise PlatformError(
                f"{self._directory / name / RECORD} is damaged: {error}", remedy="restore it"
            ) from error
        holders = tuple(unquote(entry.removeprefix(HELD)) for entry in names if entry.startswith(HELD))
        state = PlatformState.DELETING if DELETED in names else PlatformState.ERROR
        return PlatformVolume(
            name, size, PlatformState.AVAILABLE if FREE in names or holders else state, tags, attached_to=holders
        )

    def _make(self, request: CreateRequest) -> None:
        """Make all of the volume under a name that is none, durable, and then give it its name."""
        part = self._directory / f".{request.token}"
        try:
            _remove(part)
            (part / FREE).mkdir(parents=True)
            with open(part / RECORD, "w") as file:
                json.dump({"size": request.size, "tags": asdict(request.tags)}, file)
                file.flush()
                os.fsync(file.fileno())
            _sync(part)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise PlatformFull(f"{self._directory} is full: {error}", remedy="free space there") from error
            raise
        os.rename(part, self._directory / request.token)


def _check(request: CreateRequest) -> None:
    if not _NAME.fullmatch(request.token):
        raise InvalidRequest(f"{request.token!r} cannot name a folder", field="token", value=request.token)
    if request.size <= 0:
        raise InvalidRequest(f"a volume cannot have {request.size} bytes", field="size", value=request.size)
    unknown = lacking(request) | ({} if request.filesystem is Filesystem.NONE else {"filesystem": request.filesystem})
    for name, value in unknown.items():
        raise NotSupported(f"a folder has no {name}, and {value!r} was asked for", remedy="take it out of the profile")


def _rename(folder: Path, before: str, after: str) -> bool:
    """Whether the data has the name ``after``: by this rename, or by an earlier one whose end was not heard of."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder / before, folder / after)
    _sync(folder)
    return (folder / after).is_dir()


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def _sync(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _platform_errors(doing: str) -> Iterator[None]:
    """What the share refused may have happened all the same: the caller must look, and try again."""
    try:
        yield
    except OSError as error:
        raise PlatformUnavailable(
            f"failed while {doing}: {error}",
            remedy="see that the share is mounted and that the user of polly serve may write there",
            outcome_unknown=True,
        ) from error
