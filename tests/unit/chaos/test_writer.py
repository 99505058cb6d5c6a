"""What a task of the campaign says about a volume."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import writer


@pytest.fixture
def acks(tmp_path: Path) -> Path:
    (tmp_path / "acks").mkdir()
    return tmp_path / "acks"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


def run(acks: Path, volume: Path, *, task: str = "t1", writes: int = 2, name: str = "v") -> int:
    return writer.main([str(acks), "7", str(writes), "0", task, f"{name}={volume}"])


def test_what_was_written_is_acknowledged_and_found_again(acks: Path, volume: Path) -> None:
    assert run(acks, volume) == 0
    assert run(acks, volume, task="t2") == 0
    assert writer.acknowledged(acks, "v") == ["t1-0", "t1-1", "t2-0", "t2-1"]
    assert (acks / "v" / "verified").read_text() == "7\n7\n"


def test_a_missing_record_is_told(acks: Path, volume: Path) -> None:
    run(acks, volume)
    (volume / "t1-1").unlink()
    assert run(acks, volume, task="t2") == writer.LOST
    assert "t1-1 is missing" in (acks / "v" / "violations").read_text()


def test_a_damaged_record_is_told(acks: Path, volume: Path) -> None:
    run(acks, volume)
    (volume / "t1-0").write_bytes(b"x" * 32768)
    assert run(acks, volume, writes=0) == writer.LOST


def test_an_empty_volume_in_place_of_a_written_one_is_told(acks: Path, volume: Path, tmp_path: Path) -> None:
    run(acks, volume)
    (tmp_path / "empty").mkdir()
    assert run(acks, tmp_path / "empty") == writer.LOST


def test_a_volume_that_was_only_ever_looked_at_is_known_again(acks: Path, volume: Path) -> None:
    assert run(acks, volume, writes=0) == 0
    assert run(acks, volume, writes=0, name="another") == writer.FOREIGN
    assert "'v'" in (acks / "another" / "violations").read_text()


def test_a_volume_that_cannot_be_written_is_no_violation(acks: Path, tmp_path: Path) -> None:
    assert run(acks, tmp_path / "nowhere") == writer.TROUBLE
    assert not (acks / "v").exists()


def test_an_acknowledgement_that_is_being_written_does_not_count_yet(acks: Path) -> None:
    writer.note(acks, "v", "acked", "whole")
    with (acks / "v" / "acked").open("a") as file:
        file.write("hal")
    assert writer.acknowledged(acks, "v") == ["whole"]
