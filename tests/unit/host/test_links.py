"""Directories are published by links that tell whose they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from polly_mesos.errors import MountFailed
from polly_mesos.executor.host import mounted, publish, unpublish
from polly_mesos.model import Filesystem, FormatState

VOLUME, OTHER = "3f0b7c52-1c1e-4a38-9a4c-2f5a3f1f6f10", "8a6d2c1b-5e4f-4d3c-8b2a-1f0e9d8c7b6a"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A volume's directory with a file in it."""
    (tmp_path / "platform" / "data").mkdir(parents=True)
    (tmp_path / "platform" / "data" / "file").write_text("kept")
    return tmp_path / "platform" / "data"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the agent looks for a persistent volume."""
    return tmp_path / "root" / "gold" / "volumes" / "roles" / "a b" / "marathon#db#1"


def link(target: Path, data: Path, volume: str = VOLUME) -> None:
    def never() -> None:
        raise AssertionError("a directory is never formatted")

    publish(str(target), volume, str(data), Filesystem.NONE, format_state=FormatState.NEVER, begin=never, done=never)


def everything(tmp_path: Path) -> list[str]:
    """All that is below the volume root but directories."""
    return sorted(path.name for path in (tmp_path / "root").rglob("*") if path.is_symlink() or not path.is_dir())


def test_the_data_is_at_the_target(target: Path, data: Path) -> None:
    link(target, data)
    assert (target / "file").read_text() == "kept"


def test_publishing_again_changes_nothing(tmp_path: Path, target: Path, data: Path) -> None:
    link(target, data)
    link(target, data)
    assert everything(tmp_path) == [f".polly-{VOLUME}", target.name]


def test_what_is_published_is_found_without_any_memory(tmp_path: Path, target: Path, data: Path) -> None:
    disk = tmp_path / "root" / "gold" / OTHER / "target"
    link(target, data)
    link(disk, data, OTHER)
    assert mounted(str(tmp_path / "root")) == {VOLUME: str(target), OTHER: str(disk)}


def test_unpublishing_leaves_the_data_and_nothing_else(tmp_path: Path, target: Path, data: Path) -> None:
    link(target, data)
    for _ in range(2):
        unpublish(str(target))
    assert everything(tmp_path) == []
    assert mounted(str(tmp_path / "root")) == {}
    assert (data / "file").read_text() == "kept"


def test_a_volume_whose_directory_moved_is_led_to_the_new_place(tmp_path: Path, target: Path, data: Path) -> None:
    link(target, data)
    moved = data.rename(tmp_path / "moved")
    link(target, moved)
    assert (target / "file").read_text() == "kept"


def test_a_volume_is_not_published_over_another(target: Path, data: Path) -> None:
    link(target, data)
    with pytest.raises(MountFailed, match=VOLUME):
        link(target, data, OTHER)


@pytest.mark.parametrize("what", ["directory", "file", "link"])
def test_what_is_not_ours_is_neither_replaced_nor_removed(tmp_path: Path, target: Path, data: Path, what: str) -> None:
    target.parent.mkdir(parents=True)
    if what == "directory":
        (target / "somebody's").mkdir(parents=True)
    elif what == "file":
        target.write_text("somebody's")
    else:
        target.symlink_to(tmp_path)
    with pytest.raises(MountFailed, match="not a link of ours"):
        link(target, data)
    if what == "link":
        with pytest.raises(MountFailed):
            unpublish(str(target))
    else:
        unpublish(str(target))
    assert target.is_symlink() == (what == "link")
    assert target.exists()


def test_links_that_a_crash_left_half_made_are_completed_or_removed(tmp_path: Path, target: Path, data: Path) -> None:
    link(target, data)
    target.unlink()
    link(target, data)
    assert (target / "file").read_text() == "kept"
    (target.parent / f".polly-{VOLUME}").unlink()
    assert mounted(str(tmp_path / "root")) == {VOLUME: str(target)}
    unpublish(str(target))
    assert everything(tmp_path) == []
