"""The host side and the settings of the Cinder driver, without a cloud."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from drivers.base import Tags
from drivers.cinder import DRIVER, GIB
from drivers.cinder.host import CinderHost, is_serial_of
from drivers.cinder.metadata import decode, encode
from drivers.cinder.settings import CinderSettings
from polly_mesos.config import load
from polly_mesos.errors import ConfigurationError, DeviceNotFound, HostError, InvalidRequest
from polly_mesos.model import Profile
from polly_mesos.testing.block_hosts import HostTree
from polly_mesos.testing.openstack.serving import Answer, Request, Server, as_json
from tests.leftovers import require_root

NODE = "192.0.2.1:5051"
SERVER = str(uuid.uuid4())
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def metadata() -> Iterator[Server]:
    def answer(request: Request) -> Answer:
        if request.path != "/192.0.2.1:5051/openstack/latest/meta_data.json":
            return Answer(404)
        return as_json(200, {"uuid": SERVER, "availability_zone": "rack-7"})

    server = Server(answer, "metadata")
    yield server
    server.close()


class TestIdentity:
    """An instance's id by the metadata service, then the config drive, then DMI."""

    def test_the_metadata_service_is_asked_first(self, metadata: Server) -> None:
        identity = CinderHost({"metadata_endpoint": f"{metadata.url}/{{node}}"}, NODE).identify()
        assert (identity.host, identity.zone) == (SERVER, "rack-7")

    def test_then_the_config_drive(self, tmp_path: Path) -> None:
        document = tmp_path / "openstack/latest/meta_data.json"
        document.parent.mkdir(parents=True)
        document.write_text(json.dumps({"uuid": SERVER}))
        settings = {"metadata_endpoint": NOBODY, "config_drive": str(tmp_path), "host_root": str(tmp_path)}
        assert CinderHost(settings, NODE).identify().host == SERVER

    def test_then_dmi(self, tmp_path: Path) -> None:
        uuid_file = tmp_path / "sys/class/dmi/id/product_uuid"
        uuid_file.parent.mkdir(parents=True)
        uuid_file.write_text(SERVER.upper() + "\n")
        assert CinderHost({"metadata_endpoint": NOBODY, "host_root": str(tmp_path)}, NODE).identify().host == SERVER

    def test_a_host_that_is_no_instance_says_what_was_tried(self, tmp_path: Path) -> None:
        with pytest.raises(HostError, match="does not know which instance") as caught:
            CinderHost({"metadata_endpoint": NOBODY, "host_root": str(tmp_path)}, NODE).identify()
        assert "config drive" in caught.value.remedy


class TestSerials:
    """A disk is taken only if its serial is the volume's."""

    VOLUME = "4d089824-a718-4d4b-b2b7-b5979a4093e1"

    @pytest.mark.parametrize(
        "serial", [VOLUME, VOLUME[:20], f"QEMU_HARDDISK_{VOLUME}", f"0QEMU    QEMU HARDDISK   {VOLUME}"]
    )
    def test_what_hypervisors_show(self, serial: str) -> None:
        assert is_serial_of(serial, self.VOLUME)

    @pytest.mark.parametrize("serial", ["", "4d089824", VOLUME[:19], VOLUME[:20] + "x", VOLUME[:-1], "x" + VOLUME])
    def test_what_is_not_enough(self, serial: str) -> None:
        assert not is_serial_of(serial, self.VOLUME)

    @pytest.mark.root
    def test_of_several_disks_the_right_one_is_found_and_two_that_claim_it_are_refused(self, tmp_path: Path) -> None:
        require_root()
        volume, other = str(uuid.uuid4()), str(uuid.uuid4())
        image = tmp_path / "image"
        image.write_bytes(b"\0" * 4096)
        host = CinderHost({"host_root": str(tmp_path / "host")}, NODE)
        with HostTree(tmp_path / "host") as tree:
            tree.plug("vdb", image, {"serial": other[:20]})
            with pytest.raises(DeviceNotFound):
                host.locate({"volume": volume}, 0.05)
            tree.plug("vdz", image, {"serial": volume[:20]})
            assert host.locate({"volume": volume}, 1.0) == str(tmp_path / "host/dev/vdz")
            tree.plug("vda", image, {"serial": volume[:20]})
            with pytest.raises(HostError, match="all say that they are"):
                host.locate({"volume": volume}, 1.0)


class TestMetadata:
    """Tags fit into Cinder's metadata, whatever they say."""

    @pytest.mark.parametrize("text", ["plain", "", " padded ", "percent:41", "\U0001f4be", "a\nb\t\x7f", "ä", "\ufffe"])
    def test_values_come_back(self, text: str) -> None:
        tags = Tags("cluster", "volume", "gold", 3, {"note": text, "Key With_Space/ä": "x"})
        metadata = encode(tags, "token", GIB)
        assert decode(metadata) == tags
        assert all(
            ord(character) < 0xFFF0 and character.isprintable() for value in metadata.values() for character in value
        )

    def test_what_is_too_long_is_refused_with_its_name(self) -> None:
        with pytest.raises(InvalidRequest, match="note"):
            encode(Tags("cluster", "volume", "gold", 1, {"note": "x" * 256}), "token", GIB)

    def test_labels_are_plain_and_cannot_pass_for_ours(self) -> None:
        labels = {"team": "storage", "polly:cluster": "theirs"}
        metadata = encode(Tags("ours", "volume", "gold", labels=labels), "token", GIB)
        assert metadata["team"] == "storage"
        assert decode(metadata).cluster == "ours"


LOGIN = {"auth_url": "https://keystone.example.org/v3", "user_name": "polly", "password": "secret"}


class TestSettings:
    """Mistakes are told by their field."""

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"auth_url": ""}, "auth_url"),
            ({"password": ""}, "password"),
            ({"attach_by": "magic"}, "attach_by"),
            ({"attach_timeout": 0.0}, "attach_timeout"),
            ({"os_brick_python": "python3"}, "os_brick_python"),
            ({"host_directory": "state"}, "host_directory"),
            ({"auth_type": "v2"}, "auth_type"),
        ],
    )
    def test_a_mistake_names_its_field(self, wrong: dict[str, Any], field: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            CinderSettings(**{**LOGIN, **wrong})
        assert caught.value.field == field

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [({"iops": 100}, "iops"), ({"tags": {"x": "y" * 256}}, "tags"), ({"tags": {"polly:x": ""}}, "tags")],
    )
    def test_a_profile_that_cinder_cannot_fulfil_is_refused(self, wrong: dict[str, Any], field: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            CinderSettings(**LOGIN).check_profile(Profile("gold", "cloud", **wrong))
        assert caught.value.field == field

    def test_what_only_nova_can_read_is_refused_where_cinder_attaches(self) -> None:
        profile = Profile("gold", "cloud", encryption=True)
        CinderSettings(**LOGIN).check_profile(profile)
        with pytest.raises(ConfigurationError) as caught:
            CinderSettings(**LOGIN, attach_by="cinder").check_profile(profile)
        assert caught.value.field == "encryption"

    def test_insecure_and_a_bundle_count_each_on_its_own(self) -> None:
        from drivers.cinder.login import _network

        assert _network(CinderSettings(**LOGIN, insecure=True))["verify"] is False
        assert _network(CinderSettings(**LOGIN, ca_cert="/ca.pem"))["cacert"] == "/ca.pem"
        assert _network(CinderSettings(**LOGIN, insecure=True, ca_cert="/ca.pem"))["verify"] is False

    def test_every_old_key_is_known(self) -> None:
        old = "authURL userID userName password tokenID tenantID tenantName domainID domainName regionName "
        old += "availabilityZoneName trustID attachTimeout createTimeout deleteTimeout snapshotTimeout CACert insecure"
        today = set(CinderSettings.__dataclass_fields__)
        assert set(old.split()) <= {*DRIVER.old_settings, *DRIVER.dropped_settings, *today}
        assert set(DRIVER.old_settings.values()) <= today

    @pytest.mark.parametrize("name", ["cinder", "openstack", "rackspace"])
    def test_a_file_of_rex_ray_is_read_with_notes(self, tmp_path: Path, name: str) -> None:
        old = {"authURL": "https://keystone.example.org/v3", "userName": "polly", "password": "${PASSWORD}"}
        old |= {"tenantName": "storage", "domainName": "Default", "regionName": "one", "attachTimeout": "2m"}
        old |= {"createTimeout": "5m", "CACert": "/ca.pem", "insecure": True}  # type: ignore[dict-item]
        text: dict[str, Any] = {"cluster": "old", "mesos": {"master": "127.0.0.1:5050"}, "ledger": {"path": "/l"}}
        text["services"] = {"cloud": {"driver": name, "capacity": "1TiB", name: old}}
        text["profiles"] = {"gold": {"service": "cloud", "minimum_size": "1GiB"}}
        path = tmp_path / "polly.yml"
        path.write_text(yaml.safe_dump(text))
        configuration = load(path, {"PASSWORD": "secret"})
        settings = configuration.services["cloud"].settings
        assert (settings.project_name, settings.domain_name, settings.region_name) == ("storage", "Default", "one")
        assert (settings.attach_timeout, settings.ca_cert, settings.insecure) == (120.0, "/ca.pem", True)
        assert any("authURL" in str(note) for note in configuration.notes)
        assert any("createTimeout" in str(note) for note in configuration.notes)
