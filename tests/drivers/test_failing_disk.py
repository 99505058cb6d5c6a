"""A disk that is full or broken below the embedded drivers: an error, nothing leaked, and the next call succeeds."""

from __future__ import annotations

import errno
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.base import CreateRequest, PlatformState, Tags
from drivers.directory.controller import DirectoryController
from drivers.directory.host import DirectoryHost
from drivers.directory.settings import DirectorySettings
from drivers.loop.controller import LoopController
from drivers.loop.settings import LoopSettings
from drivers.recorded import RecordedController
from drivers.records import platform_errors
from polly_mesos.errors import HostError, PlatformError, PlatformFull, UnknownVolume
from polly_mesos.executor.host import mounts
from polly_mesos.model import MB, Filesystem, HostIdentity
from tests.drivers.failures import fail_at_every_call
from tests.leftovers import require_root

HOST = HostIdentity("192.0.2.1:5051")
ERRORS = [(errno.ENOSPC, PlatformFull), (errno.EIO, PlatformError)]

Make = Callable[[], RecordedController]


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    return tmp_path / "platform"


@pytest.fixture(params=["loop", "directory"])
def make(request: pytest.FixtureRequest, platform: Path) -> Make:
    """A fresh controller side, as after a restart. The loop driver's needs no root."""
    if request.param == "loop":
        return lambda: LoopController(LoopSettings(str(platform)), "test")
    return lambda: DirectoryController(DirectorySettings(str(platform), 64 * MB), "test")


@pytest.fixture
def filesystem(make: Make) -> Filesystem:
    return Filesystem.EXT4 if isinstance(make(), LoopController) else Filesystem.NONE


@pytest.fixture
def asked(filesystem: Filesystem) -> CreateRequest:
    return new_request(filesystem)


def new_request(filesystem: Filesystem) -> CreateRequest:
    token = str(uuid.uuid4())
    return CreateRequest(token, 2 * MB, Tags("test", token, "gold"), filesystem=filesystem)


def files(platform: Path) -> list[str]:
    return sorted(str(path.relative_to(platform)) for path in platform.glob("*/*"))


def nothing_is_half_made(controller: RecordedController) -> None:
    volumes, snapshots = controller.list().volumes, controller.list_snapshots()
    assert {found.state for found in (*volumes, *snapshots)} <= {PlatformState.AVAILABLE, PlatformState.DELETING}


@pytest.mark.parametrize(("error", "refused"), ERRORS)
class TestEveryCall:
    """Each call that the kernel can refuse, refused."""

    def test_create(
        self, make: Make, platform: Path, asked: CreateRequest, error: int, refused: type[Exception]
    ) -> None:
        for _ in fail_at_every_call(error, lambda: make().create(asked), refused):
            nothing_is_half_made(make())
            assert make().create(asked).state is PlatformState.AVAILABLE
            make().delete(asked.token)
            assert files(platform) == []

    def test_attach_and_detach(self, make: Make, asked: CreateRequest, error: int, refused: type[Exception]) -> None:
        def attach_and_detach() -> None:
            make().attach(asked.token, HOST)
            make().detach(asked.token, HOST)

        make().create(asked)
        for _ in fail_at_every_call(error, attach_and_detach, refused):
            assert make().get(asked.token).attached_to in ((), (HOST.host,))
            make().attach(asked.token, HOST)
            make().detach(asked.token, HOST)
            assert make().get(asked.token).attached_to == ()

    def test_detach_by_force(self, make: Make, asked: CreateRequest, error: int, refused: type[Exception]) -> None:
        controller = make()
        controller.create(asked)
        controller.attach(asked.token, HOST)
        for _ in fail_at_every_call(error, lambda: make().detach(asked.token, HOST, force=True), refused):
            nothing_is_half_made(make())
            make().detach(asked.token, HOST, force=True)
            assert make().get(asked.token).attached_to == ()
            make().attach(asked.token, HOST)

    def test_clone(
        self,
        make: Make,
        platform: Path,
        asked: CreateRequest,
        filesystem: Filesystem,
        error: int,
        refused: type[Exception],
    ) -> None:
        source = make().create(new_request(filesystem)).id
        before = files(platform)
        for _ in fail_at_every_call(error, lambda: make().clone(source, asked), refused):
            nothing_is_half_made(make())
            assert make().clone(source, asked).state is PlatformState.AVAILABLE
            make().delete(asked.token)
            assert files(platform) == before

    def test_snapshot(
        self, make: Make, platform: Path, asked: CreateRequest, error: int, refused: type[Exception]
    ) -> None:
        tags = make().create(asked).tags
        before = files(platform)
        for _ in fail_at_every_call(error, lambda: make().snapshot(asked.token, "snapshot", tags), refused):
            nothing_is_half_made(make())
            assert make().snapshot(asked.token, "snapshot", tags).state is PlatformState.AVAILABLE
            make().delete_snapshot("snapshot")
            assert files(platform) == before

    def test_expand(self, make: Make, asked: CreateRequest, error: int, refused: type[Exception]) -> None:
        sizes = iter(range(2, 64, 2))
        make().create(asked)
        for number in fail_at_every_call(
            error, lambda: make().expand(asked.token, asked.size + MB * next(sizes)), refused
        ):
            size = asked.size + MB * (2 * number + 3)
            assert make().get(asked.token).state is PlatformState.AVAILABLE
            assert make().expand(asked.token, size).size == size
            assert make().create(asked).id == asked.token


def test_what_could_not_be_created_leaves_nothing_on_a_full_disk(
    make: Make, platform: Path, asked: CreateRequest
) -> None:
    for _ in fail_at_every_call(errno.ENOSPC, lambda: make().create(asked), PlatformFull):
        if not make().list().volumes:
            assert files(platform) == []
        make().delete(asked.token)


def test_what_a_broken_disk_did_not_delete_is_deleted_later(make: Make, platform: Path, asked: CreateRequest) -> None:
    make().create(asked)
    for _ in fail_at_every_call(errno.EIO, lambda: make().delete(asked.token), PlatformError):
        nothing_is_half_made(make())
        make().delete(asked.token)
        assert files(platform) == []
        make().create(asked)


def test_only_a_full_disk_surely_left_nothing() -> None:
    for number, full in ((errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False), (errno.EROFS, False)):
        with pytest.raises(PlatformError, match="while trying") as caught, platform_errors("trying"):
            raise OSError(number, os.strerror(number))
        assert isinstance(caught.value, PlatformFull) is full
        assert caught.value.outcome_unknown is not full


@pytest.mark.root
@pytest.mark.parametrize("option", ["size=4M", "nr_inodes=12"])
def test_a_small_file_system_that_fills_while_a_directory_is_copied(tmp_path: Path, option: str) -> None:
    require_root()
    small = tmp_path / "small"
    small.mkdir()
    mounts.mount("small", str(small), "tmpfs", [option])
    try:
        controller = DirectoryController(DirectorySettings(str(small), 64 * MB), "test")
        volume = controller.create(new_request(Filesystem.NONE))
        data = Path(controller.attach(volume.id, HOST)["data"])
        controller.detach(volume.id, HOST)
        (data / "file").write_bytes(bytes(2 * MB))
        (data / "another").touch()
        with pytest.raises(PlatformFull):
            [controller.clone(volume.id, new_request(Filesystem.NONE)) for _ in range(4)]
        nothing_is_half_made(controller)
        assert sorted(path.name for path in (small / "volumes").iterdir() if path.is_dir()) == [
            found.id for found in controller.list().volumes
        ]
    finally:
        mounts.unmount(str(small))


def test_a_host_that_cannot_write_its_lease_says_so_and_leaves_nothing(platform: Path) -> None:
    DirectoryController(DirectorySettings(str(platform)), "test")
    host = DirectoryHost({"directory": str(platform)}, HOST.host)
    for _ in fail_at_every_call(errno.ENOSPC, host.identify, HostError):
        assert files(platform) == []


class TestOthersAtWork:
    """Another process changes the directory while this one looks."""

    @pytest.fixture
    def some(self, make: Make, filesystem: Filesystem) -> list[str]:
        return sorted(make().create(new_request(filesystem)).id for _ in range(7))

    def test_what_goes_or_comes_between_two_pages_hides_and_doubles_nothing(
        self, make: Make, some: list[str], asked: CreateRequest
    ) -> None:
        controller = make()
        controller.page_size = 2
        first = controller.list()
        make().delete(some[1])
        make().delete(some[4])
        make().create(replace(asked, token="zzz"))
        found, page = [volume.id for volume in first.volumes], first.next
        while page is not None:
            following = controller.list(page)
            found += [volume.id for volume in following.volumes]
            page = following.next
        assert found == [*some[:4], *some[5:], "zzz"]

    def test_a_volume_that_goes_while_it_is_listed_is_listed_or_not(
        self, make: Make, filesystem: Filesystem, some: list[str]
    ) -> None:
        stop, mistakes = threading.Event(), []

        def come_and_go() -> Iterator[None]:
            controller, asked = make(), new_request(filesystem)
            while not stop.is_set():
                volume = controller.create(asked)
                controller.snapshot(volume.id, "snapshot", volume.tags)
                controller.delete_snapshot("snapshot")
                controller.delete(volume.id)
                yield

        def work() -> None:
            try:
                for _ in come_and_go():
                    pass
            except Exception as error:
                mistakes.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            controller = make()
            for _ in range(200):
                assert {volume.id for volume in controller.list().volumes} >= set(some)
                controller.list_snapshots()
        finally:
            stop.set()
            thread.join()
        assert mistakes == []

    def test_a_volume_deleted_by_another_is_unknown(self, make: Make, some: list[str]) -> None:
        controller = make()
        make().delete(some[0])
        for call in (controller.get, lambda name: controller.attach(name, HOST)):
            with pytest.raises(UnknownVolume):
                call(some[0])
