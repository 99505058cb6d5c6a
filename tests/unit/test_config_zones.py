"""What polly.yml says about zones: where volumes are made, and whose hosts can have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from polly_mesos.config import Configuration, load
from polly_mesos.config.document import ConfigurationErrors
from polly_mesos.model import MB, Profile, profile_of

GIB = 1024 * MB
EBS = "{driver: ebs, region: eu-west-1, capacity: 30GiB}"
GCE = "{driver: gce, project: ours, capacity: 3TiB}"
CINDER = "{driver: cinder, cloud: ours, availability_zone: rack, cross_az_attach: false, capacity: 30GiB}"


def _load(directory: Path, service: str, **profiles: str) -> Configuration:
    written = "".join(f"  {name}: {{service: platform, {text}}}\n" for name, text in profiles.items())
    file = directory / "polly.yml"
    file.write_text(
        f"cluster: test\nmesos: {{master: '127.0.0.1:5050'}}\nservices:\n  platform: {service}\nprofiles:\n{written}"
    )
    return load(file)


def _mistake(directory: Path, service: str, **profiles: str) -> str:
    with pytest.raises(ConfigurationErrors) as caught:
        _load(directory, service, **profiles)
    (mistake,) = caught.value.mistakes
    return f"{mistake.field}: {mistake.message}: {mistake.remedy}"


def test_a_profile_of_several_zones_has_a_pool_in_each_and_they_share_its_capacity(tmp_path: Path) -> None:
    zones = "zones: [eu-west-1a, eu-west-1b, eu-west-1c]"
    configuration = _load(tmp_path, EBS, database=f"{zones}, capacity: 15GiB", general="zone: eu-west-1a")
    found = {pool: (profile.name, profile.zone, profile.reach) for pool, profile in configuration.profiles.items()}
    expected = {
        f"database.eu-west-1{letter}": ("database", f"eu-west-1{letter}", (f"eu-west-1{letter}",)) for letter in "abc"
    }
    assert found == {**expected, "general.eu-west-1a": ("general", "eu-west-1a", ("eu-west-1a",))}
    capacities = [configuration.pool_capacity(profile) for profile in configuration.profiles.values()]
    assert capacities == [5 * GIB, 5 * GIB, 5 * GIB, 15 * GIB]


def test_profiles_without_a_zone_are_in_the_zone_of_their_service(tmp_path: Path) -> None:
    service = EBS.replace("capacity", "zone: eu-west-1b, capacity")
    (profile,) = _load(tmp_path, service, general="").profiles.values()
    assert (profile.pool, profile.reach) == ("general.eu-west-1b", ("eu-west-1b",))
    assert not profile.is_reached_from("eu-west-1a")


def test_a_regional_disk_can_be_had_in_both_its_zones(tmp_path: Path) -> None:
    options = "options: {replica_zones: [europe-west3-a, europe-west3-b]}, minimum_size: 200GiB"
    (profile,) = _load(tmp_path, GCE, safe=options).profiles.values()
    assert (profile.zone, profile.reach) == ("europe-west3-a", ("europe-west3-a", "europe-west3-b"))
    assert profile.is_reached_from("europe-west3-b")


@pytest.mark.parametrize(
    ("change", "reach"),
    [
        ("cross_az_attach: false", ("rack",)),
        ("cross_az_attach: true", ()),
        ("cross_az_attach: false, attach_by: cinder", ()),
    ],
    ids=["zones mean the same", "Nova's are others", "hosts have none"],
)
def test_zones_of_cinder_bind_hosts_only_where_they_are_those_of_nova(
    tmp_path: Path, change: str, reach: tuple[str, ...]
) -> None:
    (profile,) = _load(tmp_path, CINDER.replace("cross_az_attach: false", change), gold="").profiles.values()
    assert (profile.pool, profile.reach) == ("gold.rack", reach)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("zones: []", "profiles.gold.zones: is empty"),
        ("zones: [eu-west-1a, eu-west-1a], capacity: 1GiB", "profiles.gold.zones: has a zone twice"),
        ("zones: [eu-west-1a], zone: eu-west-1b", "profiles.gold.zone: is given beside zones"),
        (
            "zones: [eu-west-1a, us-east-1b], capacity: 2GiB",
            "profiles.gold.zones[1]: zone 'us-east-1b' is not in region",
        ),
        ("zones: [eu-west-1a, '-']", "profiles.gold.zones[1]: is not a zone's name"),
        ("zones: eu-west-1a", "profiles.gold.zones: is not a list"),
    ],
)
def test_wrong_zones_are_told_at_their_place(tmp_path: Path, text: str, told: str) -> None:
    assert told in _mistake(tmp_path, EBS, gold=text)


def test_of_several_zones_each_needs_its_limit(tmp_path: Path) -> None:
    service = EBS.replace(", capacity: 30GiB", "")
    told = _mistake(tmp_path, service, gold="zones: [eu-west-1a, eu-west-1b]")
    assert "profiles.gold.capacity: is missing, and service platform has several zones" in told
    assert "write a capacity here" in told


def test_the_profile_of_a_platform_volume_is_found_by_its_zone() -> None:
    profiles = {f"gold.{zone}": Profile("gold", "platform", zone=zone) for zone in "ab"}
    profiles["tape"] = Profile("tape", "platform")
    assert profile_of(profiles, "gold", "b") is profiles["gold.b"]
    assert profile_of(profiles, "gold", "c") is None
    assert profile_of(profiles, "tape", "anywhere") is profiles["tape"]
    assert profile_of(profiles, "silver", "a") is None
