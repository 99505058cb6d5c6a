"""Volumes that are encrypted with a key of the account's own, and a key that EC2 cannot use."""

from __future__ import annotations

import dataclasses
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from drivers.base import PlatformState
from polly_mesos.errors import InvalidRequest, PlatformDenied, PlatformError, UnknownVolume
from polly_mesos.ledger import Ledger
from polly_mesos.model import HostIdentity, Pool, Profile, Volume, VolumeKind, VolumeState
from polly_mesos.scheduler.controller import VolumeController
from polly_mesos.testing.ec2 import KEY, SECRET, Account, Ec2, Key, Policy
from polly_mesos.testing.ec2.permissions import DATA_KEY
from tests.drivers.ebs_platform import CLUSTER, GIB, controller, ec2, example, request, wire

__all__ = ["ec2", "wire"]


@pytest.fixture
def key(ec2: Ec2) -> Key:
    made = Key("11111111-2222-3333-4444-555555555555", ("alias/polly",))
    ec2.cloud.kms_keys.append(made)
    return made


def encrypted(name: str = "alias/polly") -> dict[str, object]:
    return {"encryption": True, "options": {"kms_key": name}}


@pytest.mark.parametrize("name", ["alias/polly", "11111111-2222-3333-4444-555555555555"])
def test_a_volume_has_its_key(ec2: Ec2, key: Key, name: str) -> None:
    driver = controller(ec2)
    volume = driver.create(request(**encrypted(name)))
    assert driver.get(volume.id).state is PlatformState.AVAILABLE
    assert ec2.cloud.key_of[volume.id] is key


@pytest.mark.parametrize("wrong", ["unknown", "Disabled", "PendingDeletion", *DATA_KEY])
def test_a_volume_that_ec2_takes_back_because_of_its_key_is_told_with_the_key(ec2: Ec2, key: Key, wrong: str) -> None:
    if wrong in DATA_KEY:
        ec2.accounts[KEY] = Account(SECRET, policy=Policy(example(without=wrong)))
    elif wrong != "unknown":
        key.state = wrong
    name = "alias/nobodys" if wrong == "unknown" else "alias/polly"
    driver, asked = controller(ec2), request(**encrypted(name))
    made = driver.create(asked)
    with pytest.raises(UnknownVolume):
        driver.get(made.id)
    driver._begun = {token: (volume, since - 1.0) for token, (volume, since) in driver._begun.items()}
    for _ in range(2):
        with pytest.raises(InvalidRequest) as error:
            driver.create(asked)
        assert (error.value.field, error.value.value) == ("options.kms_key", name)
        assert made.id in error.value.message
        assert "KMS key" in error.value.remedy
    assert driver.list().volumes == ()


def test_a_volume_that_is_taken_back_is_told_after_a_restart_too(ec2: Ec2) -> None:
    asked = request(**encrypted("alias/nobodys"))
    controller(ec2).create(asked)
    after = controller(ec2, consistency_timeout=3600.0)
    after.create(asked)
    began = dict(after._begun)
    after.create(asked)
    assert after._begun == began, "asking again does not begin the wait anew"
    after._begun = {token: (volume, since - 3600.0) for token, (volume, since) in began.items()}
    with pytest.raises(InvalidRequest, match="took it back"):
        after.create(asked)


@pytest.mark.parametrize("stays", [False, True])
def test_polly_fails_a_volume_that_ec2_could_not_encrypt_and_tells_the_key(
    ec2: Ec2, key: Key, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polly_mesos.scheduler.controller._UNKNOWN_SECONDS", 0.05)
    key.state, ec2.cloud.failed_volumes_stay = "Disabled", stays
    gold = Profile("gold", "aws", encryption=True, options={"kms_key": "alias/polly"})
    driver = controller(ec2, consistency_timeout=0.05)
    services = SimpleNamespace(profiles={"gold": gold}, controller=lambda service: driver)
    with Ledger.open(tmp_path / "ledger.db", CLUSTER) as ledger:
        ledger.set_pool(Pool("gold", "gold", "aws", "", 10 * GIB))
        wanted = Volume(str(uuid.uuid4()), "gold", "gold", "aws", VolumeKind.MOUNT, GIB, VolumeState.CREATING)
        volume = ledger.add_volume(wanted)
        looks = VolumeController(ledger, services, cluster=CLUSTER)  # type: ignore[arg-type]
        deadline = time.monotonic() + 30.0
        while ledger.volume(volume.id).state is VolumeState.CREATING:
            assert time.monotonic() < deadline
            looks.step(volume.id)
        failed = ledger.volume(volume.id)
        assert failed.state is VolumeState.FAILED
        assert "alias/polly" in failed.error or key.id in failed.error
        ledger.delete_volume(volume.id)
        while ledger.volume(volume.id).state is not VolumeState.DELETED:
            assert time.monotonic() < deadline
            looks.step(volume.id)
    assert driver.list().volumes == ()


def test_a_volume_that_stays_in_error_says_why(ec2: Ec2) -> None:
    ec2.cloud.failed_volumes_stay = True
    driver = controller(ec2)
    ec2.cloud.kms_keys.append(Key("off", ("alias/off",), "Disabled"))
    made = driver.get(driver.create(request(**encrypted("alias/off"))).id)
    assert made.state is PlatformState.ERROR
    assert "key/off" in made.reason
    fine = driver.create(request())
    assert driver.get(fine.id).reason == ""


@pytest.mark.parametrize("wrong", ["Disabled", "kms:CreateGrant"])
def test_a_volume_whose_key_cannot_be_used_is_not_attached_and_later_is(ec2: Ec2, key: Key, wrong: str) -> None:
    driver, host = controller(ec2), HostIdentity(ec2.instance("node").id)
    volume = driver.create(request(**encrypted()))
    if wrong == "Disabled":
        key.state = wrong
    else:
        ec2.accounts[KEY] = Account(SECRET, policy=Policy(example(without=wrong)))
    with pytest.raises(PlatformDenied, match="CustomerKeyHasBeenRevoked") as error:
        driver.attach(volume.id, host)
    assert "kms:CreateGrant" in error.value.remedy
    assert not error.value.outcome_unknown
    assert driver.get(volume.id).attached_to == ()
    key.state = "Enabled"
    ec2.accounts[KEY] = Account(SECRET)
    driver.attach(volume.id, host)


def test_the_example_policy_reaches_no_other_key(ec2: Ec2, key: Key) -> None:
    ec2.cloud.kms_keys.append(Key("99999999-2222-3333-4444-555555555555", ("alias/others",)))
    theirs = controller(ec2).create(request(**encrypted("alias/others")))
    ec2.accounts[KEY] = Account(SECRET, policy=Policy(example()))
    driver = controller(ec2)
    assert driver.get(driver.create(request(**encrypted())).id).state is PlatformState.AVAILABLE
    with pytest.raises(UnknownVolume):
        driver.get(driver.create(request(**encrypted("alias/others"))).id)
    with pytest.raises(PlatformDenied):
        driver.attach(theirs.id, HostIdentity(ec2.instance("node").id))


@pytest.mark.parametrize("own_key", [False, True])
def test_a_snapshot_keeps_the_key_and_restoring_needs_it(ec2: Ec2, key: Key, own_key: bool) -> None:
    driver = controller(ec2)
    volume = driver.create(request(**encrypted()))
    snapshot = driver.snapshot(volume.id, "token", volume.tags)
    asked = request(**encrypted()) if own_key else request()
    restored = driver.restore(snapshot.id, asked)
    assert ec2.cloud.key_of[restored.id] is key
    key.state = "Disabled"
    again = driver.restore(snapshot.id, dataclasses.replace(request(), options=asked.options, encryption=own_key))
    with pytest.raises(UnknownVolume):
        driver.get(again.id)


def test_a_clone_whose_snapshot_fails_says_why_leaves_nothing_and_can_be_made_later(ec2: Ec2, key: Key) -> None:
    driver, asked = controller(ec2), request(**encrypted())
    volume = driver.create(request(**encrypted()))
    key.state = "Disabled"
    assert driver.get_snapshot(driver.snapshot(volume.id, "token", volume.tags).id).state is PlatformState.ERROR
    for _ in range(2):
        with pytest.raises(PlatformError, match="Given key ID is not accessible"):
            driver.clone(volume.id, asked)
        assert len(ec2.cloud.snapshots) == 1
    key.state = "Enabled"
    assert driver.clone(volume.id, asked).state is PlatformState.AVAILABLE
