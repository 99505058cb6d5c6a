"""What polly.yml says about platforms beyond the common words: options, tags, names of old."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drivers.declaration import Driver, DriverSettings
from polly_mesos import plugins
from polly_mesos.config import Configuration, load
from polly_mesos.config.document import ConfigurationErrors
from polly_mesos.errors import ConfigurationError
from polly_mesos.model import MB, Profile

GIB = 1024 * MB


@dataclass(frozen=True)
class RackSettings(DriverSettings):
    """A driver's settings."""

    endpoint: str
    access_key: str = field(default="", repr=False, metadata={"secret": True})
    attach_timeout: float = field(default=60.0, metadata={"unit": "seconds"})

    def check_profile(self, profile: Profile) -> None:
        if profile.platform_type == "tape":
            raise ConfigurationError("is not a type of this platform", remedy="use disk", field="type")
        if profile.options.get("throughput", 0) > 100:
            raise ConfigurationError("is too much", remedy="write at most 100", field="options.throughput")


@dataclass(frozen=True)
class RackOptions:
    """A profile's options."""

    throughput: int = 0
    cache: bool = False


RACK = Driver(
    name="rack",
    controller="drivers.loop.controller:LoopController",
    host="drivers.loop.host:LoopHost",
    settings=f"{__name__}:RackSettings",
    options=f"{__name__}:RackOptions",
    granularity=GIB,
    minimum_size=2 * GIB,
    old_names=("rackspace",),
    old_settings={"authURL": "endpoint", "accessKey": "access_key", "attachTimeout": "attach_timeout"},
    dropped_settings={"maxRetries": "failed calls are repeated by Polly itself"},
)


@pytest.fixture(autouse=True)
def rack(monkeypatch: pytest.MonkeyPatch) -> None:
    known = plugins.find_driver
    monkeypatch.setattr(
        "polly_mesos.config.services.find_driver", lambda name: RACK if name in ("rack", "rackspace") else known(name)
    )
    monkeypatch.setattr(
        "polly_mesos.config.services.load_class", lambda spec: RackSettings if spec == RACK.settings else object
    )
    monkeypatch.setattr("polly_mesos.config.profiles.load_class", lambda spec: RackOptions)


def read(tmp_path: Path, services: str, profiles: str = "", **environment: str) -> Configuration:
    path = tmp_path / "polly.yml"
    path.write_text(
        "cluster: test\nmesos: {master: '127.0.0.1:5050'}\nservices:\n"
        f"{services}\nprofiles:\n  gold:\n    service: cloud\n{profiles}\n"
    )
    return load(path, environment)


def mistakes(tmp_path: Path, services: str, profiles: str = "", **environment: str) -> str:
    with pytest.raises(ConfigurationErrors) as caught:
        read(tmp_path, services, profiles, **environment)
    return str(caught.value)


TODAY = "  cloud: {driver: rack, endpoint: 'http://rack'}"


def test_names_of_old_are_read_and_noted(tmp_path: Path) -> None:
    old = "  cloud:\n    driver: rackspace\n    authurl: http://rack\n    attachTimeout: 2m\n    maxRetries: 10"
    found = read(tmp_path, old)
    settings = found.services["cloud"].settings
    assert (settings.endpoint, settings.attach_timeout) == ("http://rack", 120.0)
    assert [note.split(": ", 1)[1] for note in found.notes] == [
        "services.cloud.driver: is called rack today (write driver: rack)",
        "services.cloud.authurl: is called endpoint today (write endpoint: VALUE)",
        "services.cloud.attachTimeout: is called attach_timeout today (write attach_timeout: VALUE)",
        "services.cloud.maxRetries: means nothing any more: failed calls are repeated by Polly itself (leave it out)",
    ]
    assert f"{tmp_path / 'polly.yml'}:6: " in found.notes[1]


def test_a_section_of_old_is_read_as_libstorage_wrote_it(tmp_path: Path) -> None:
    found = read(tmp_path, "  cloud:\n    driver: rack\n    rackspace:\n      authURL: http://rack")
    assert found.services["cloud"].settings.endpoint == "http://rack"
    assert any("is a section of old" in note for note in found.notes)


def test_a_secret_under_its_name_of_old_must_not_stand_in_the_file_either(tmp_path: Path) -> None:
    told = mistakes(tmp_path, "  cloud:\n    driver: rack\n    endpoint: http://rack\n    accessKey: AKIA-SECRET")
    assert "must not stand in the file" in told
    assert ":7: " in told
    assert "AKIA-SECRET" not in told
    found = read(
        tmp_path, "  cloud:\n    driver: rack\n    endpoint: http://rack\n    accessKey: ${KEY}", KEY="AKIA-SECRET"
    )
    assert found.services["cloud"].settings.access_key == "AKIA-SECRET"
    assert "AKIA-SECRET" not in "".join(found.notes)


def test_an_old_name_beside_the_new_one_is_a_mistake(tmp_path: Path) -> None:
    assert "is given beside endpoint" in mistakes(
        tmp_path, "  cloud: {driver: rack, endpoint: 'http://rack', authURL: 'http://other'}"
    )


def test_options_and_tags_arrive_with_the_profile(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "  cloud: {driver: rack, endpoint: 'http://rack', tags: {team: storage, cost: a}}",
        "    options: {throughput: 50}\n    tags: {cost: b}",
    )
    gold = found.profiles["gold"]
    assert gold.options == {"throughput": 50}
    assert gold.tags == {"team": "storage", "cost": "b"}


def test_the_smallest_volume_is_the_platforms(tmp_path: Path) -> None:
    gold = read(tmp_path, TODAY).profiles["gold"]
    assert (gold.minimum_size, gold.granularity) == (2 * GIB, GIB)
    assert "is too small for a volume (write 2GiB or more)" in mistakes(tmp_path, TODAY, "    minimum_size: 1GiB")


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        ("    type: tape", "profiles.gold.type: 'tape' is not a type of this platform (use disk)"),
        ("    options: {throughput: 101}", "profiles.gold.options.throughput: '101' is too much"),
        ("    options: {througput: 1}", "did you mean throughput?"),
        ("    options: {throughput: fast}", "is not a whole number"),
    ],
)
def test_a_profile_that_the_platform_cannot_fulfil_is_told_with_its_line(
    tmp_path: Path, profile: str, told: str
) -> None:
    message = mistakes(tmp_path, TODAY, profile)
    assert told in message
    assert ":8: " in message


def test_a_driver_cannot_have_a_setting_that_every_service_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Taken:
        tags: str = ""

    monkeypatch.setattr("polly_mesos.config.services.load_class", lambda spec: Taken)
    told = mistakes(tmp_path, TODAY)
    assert "services.cloud.driver: 'rack' is not a driver that can be used: its settings have tags" in told
    assert "call the setting otherwise" in told
