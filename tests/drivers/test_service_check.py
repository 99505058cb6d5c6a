"""``polly service check`` on a platform that lacks something: it says exactly what, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from polly_mesos.model import HostIdentity
from polly_mesos.testing.ec2 import KEY, SECRET, Account, Ec2, Policy
from polly_mesos.testing.ec2.wire import Wire
from tests.drivers.ebs_platform import controller, example, request
from tests.unit.cli.test_cli import run


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire("us-east-1") as wire:
        yield wire


@pytest.fixture
def ec2(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ec2]:
    with Ec2(wire=wire) as ec2:
        monkeypatch.setenv("EBS_KEY", KEY)
        monkeypatch.setenv("EBS_SECRET", SECRET)
        yield ec2


def config(tmp_path: Path, ec2: Ec2, *, zone: str = "us-east-1a", kind: str = "gp3") -> str:
    settings = ec2.settings
    path = tmp_path / "polly.yml"
    path.write_text(
        "cluster: test\nmesos: {master: '127.0.0.1:5050'}\nservices:\n  cloud:\n    driver: ec2\n"
        "    accessKey: ${EBS_KEY}\n    secret_key: ${EBS_SECRET}\n    region: us-east-1\n"
        f"    endpoint: {settings['endpoint']}\n    quotas_endpoint: {settings['quotas_endpoint']}\n"
        f"profiles:\n  gold: {{service: cloud, zone: {zone}, type: {kind}, capacity: 100GiB}}\n"
    )
    return str(path)


def test_all_that_is_needed_is_there(
    tmp_path: Path, ec2: Ec2, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(monkeypatch, capsys, "service", "check", "cloud", "--config", config(tmp_path, ec2))
    assert status == 0, out
    assert "permission ec2:CreateVolume" in out
    assert SECRET not in out
    assert not ec2.cloud.volumes


def test_the_permission_that_is_missing_is_named(
    tmp_path: Path, ec2: Ec2, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = controller(ec2)
    driver.attach(driver.create(request()).id, HostIdentity(ec2.instance("node").id))
    ec2.accounts[KEY] = Account(SECRET, policy=Policy(example("test", without="ec2:AttachVolume")))
    words = ("service", "check", "--config", config(tmp_path, ec2), "--format", "json")
    status, out, _ = run(monkeypatch, capsys, *words)
    assert status == 3
    assert [row["name"] for row in json.loads(out) if row["passed"] is False] == ["permission ec2:AttachVolume"]


def test_a_zone_that_is_not_there_is_named(
    tmp_path: Path, ec2: Ec2, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("service", "check", "--config", config(tmp_path, ec2, zone="us-east-1z"))
    status, out, _ = run(monkeypatch, capsys, *words)
    assert status == 3
    assert "us-east-1z" in out
    assert "MISSING" in out
    assert not ec2.cloud.volumes


def test_wrong_credentials_are_told_without_showing_them(
    tmp_path: Path, ec2: Ec2, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EBS_SECRET", "wrong-and-still-secret")
    status, out, err = run(monkeypatch, capsys, "service", "check", "--config", config(tmp_path, ec2))
    assert status == 3
    assert "credentials" in out
    assert "wrong-and-still-secret" not in out + err
