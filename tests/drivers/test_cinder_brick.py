"""How hosts that are no instances connect, with a stand-in for the Python that has os-brick: no cloud is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.cinder import brick, connections
from drivers.cinder.host import CinderHost
from drivers.cinder.host_records import HostRecord, HostRecords
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.testing.block_hosts import HostTree
from tests.leftovers import require_root

NODE = "192.0.2.1:5051"
SIZE = 4096
PASSWORD = "chap-and-secret"


class Host:
    """A host with disks, and an os-brick that answers what a test says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = HostTree(root / "tree")
        self.answers, self.asked = root / "answers", root / "asked"
        self.directory = root / "state"
        program = root / "python"
        program.write_text(f"#!/bin/sh\ncat >> {self.asked}; echo >> {self.asked}; . {self.answers}\n")
        program.chmod(0o755)
        self.settings = {"attach_by": "cinder", "os_brick_python": str(program), "host_root": str(root / "tree")}
        self.settings["host_directory"] = str(self.directory)
        self.answer({})

    @property
    def driver(self) -> CinderHost:
        """A fresh object, as after a restart of the executor."""
        return CinderHost(self.settings, NODE)

    def answer(self, answer: Any) -> None:
        self.script(f"cat <<'END'\n{json.dumps({'answer': answer})}\nEND\n")

    def script(self, text: str) -> None:
        self.answers.write_text(text)

    def plug(self, name: str, files: dict[str, str | bytes], size: int = SIZE) -> str:
        image = self.root / f"{name}.image"
        image.write_bytes(b"\0" * size)
        self.tree.plug(name, image, files)
        entry, away = self.root / "tree/sys/block" / name, self.root / f"{name}.away"
        answer = json.dumps({"answer": {"type": "block", "path": f"/dev/{name}"}})
        self.script(f"""case "$(tail -n 1 {self.asked})" in
*'"disconnect"'*) mv {entry} {away};;
*'"connect"'*) [ -d {away} ] && mv {away} {entry};;
esac
echo '{answer}'
""")
        return str(self.root / "tree/dev" / name)

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.asked.read_text().splitlines() if line]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    require_root()
    made = Host(tmp_path)
    with made.tree:
        yield made


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait_until(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30.0
    while not look():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def attachment(volume: str = "", **connection: Any) -> dict[str, Any]:
    return {
        "volume": volume or str(uuid.uuid4()),
        "attachment": str(uuid.uuid4()),
        "size": SIZE,
        "connection": {"driver_volume_type": "iscsi", "target_portal": "192.0.2.9:3260", **connection},
        connections.WITHHELD: [],
    }


@pytest.mark.root
class TestDisks:
    """A disk is verified after os-brick has connected it."""

    def test_the_disk_is_the_same_however_often_it_is_located(self, host: Host) -> None:
        place, one = host.plug("sda", {"device/wwid": "naa.6001"}), attachment()
        assert {host.driver.locate(one, 1.0) for _ in range(3)} == {place}
        assert host.driver.held() == {place: one}
        host.driver.release(one)
        assert host.driver.held() == {}
        assert [asked["do"] for asked in host.requests()] == ["connect", "disconnect"]
        assert host.requests()[-1]["device"] == {"type": "block", "path": "/dev/sda"}

    def test_a_disk_without_a_serial_is_asked_for_again(self, host: Host) -> None:
        place, one = host.plug("rbd0", {}), attachment(driver_volume_type="rbd")
        assert {host.driver.locate(one, 1.0) for _ in range(2)} == {place}
        assert [asked["do"] for asked in host.requests()] == ["connect"] * 2

    def test_a_disk_that_has_another_name_after_a_restart_is_found_by_its_serial(self, host: Host) -> None:
        one = attachment()
        host.plug("sda", {"device/wwid": "naa.6001"})
        host.driver.locate(one, 1.0)
        host.tree.unplug("sda")
        host.plug("sda", {"device/wwid": "naa.6002"})
        place = host.plug("sdb", {"device/wwid": "naa.6001"})
        assert host.driver.locate(one, 1.0) == place
        assert host.driver.held() == {place: one}

    def test_a_disk_that_is_too_small_is_another_one(self, host: Host) -> None:
        host.plug("sda", {}, size=SIZE // 2)
        with pytest.raises(HostError, match="2048 bytes"):
            host.driver.locate(attachment(), 1.0)

    def test_a_disk_that_was_exchanged_is_refused(self, host: Host) -> None:
        one = attachment()
        host.plug("sda", {"device/wwid": "naa.6001"})
        host.driver.locate(one, 1.0)
        host.tree.unplug("sda")
        host.plug("sda", {"device/wwid": "naa.6002"})
        with pytest.raises(HostError, match=r"identifies itself as naa\.6002"):
            host.driver.locate(one, 1.0)

    def test_one_disk_is_never_two_volumes(self, host: Host) -> None:
        host.plug("sda", {"device/wwid": "naa.6001"})
        first, second = attachment(), attachment()
        host.driver.locate(first, 1.0)
        with pytest.raises(HostError, match=f"is volume {first['volume']} here"):
            host.driver.locate(second, 1.0)

    @pytest.mark.parametrize(("file", "told"), [("uuid", "vol_uuid"), ("nguid", "volume_nguid")])
    def test_a_namespace_that_cinder_calls_by_name_must_have_it(self, host: Host, file: str, told: str) -> None:
        name = str(uuid.uuid4())
        place = host.plug("nvme1n1", {"wwid": "eui.6001", file: f"{name}\n"})
        right = attachment(**{told: name.replace("-", "").upper()})
        assert host.driver.locate(right, 1.0) == place
        host.driver.release(right)
        with pytest.raises(HostError, match=f"identifies itself as {name}, and should be"):
            host.driver.locate(attachment(**{told: str(uuid.uuid4())}), 1.0)

    def test_a_disk_with_a_file_system_that_is_in_use_is_not_taken_away(self, host: Host) -> None:
        place, one = host.plug("sda", {"device/wwid": "naa.6001"}), attachment()
        host.driver.locate(one, 1.0)
        descriptor = os.open(place, os.O_RDONLY | os.O_EXCL)  # as the kernel has it for a mount
        try:
            with pytest.raises(HostError, match="is in use"):
                host.driver.release(one)
        finally:
            os.close(descriptor)
        assert [asked["do"] for asked in host.requests()] == ["connect"]
        host.driver.release(one)
        assert host.driver.held() == {}

    def test_what_is_no_disk_of_this_host_is_not_found(self, host: Host) -> None:
        host.answer({"type": "block", "path": "/dev/sdz"})
        with pytest.raises(DeviceNotFound, match="no disk of this host"):
            host.driver.locate(attachment(), 1.0)

    def test_an_attachment_that_is_over_is_disconnected_before_the_next_one_connects(self, host: Host) -> None:
        host.plug("sda", {"device/wwid": "naa.6001"})
        volume = str(uuid.uuid4())
        first, second = attachment(volume), attachment(volume)
        host.driver.locate(first, 1.0)
        host.driver.locate(second, 1.0)
        assert [asked["do"] for asked in host.requests()] == ["connect", "disconnect", "connect"]
        assert list(host.driver.held().values()) == [second]

    def test_what_was_begun_and_not_finished_is_held_until_it_is_let_go_of(self, host: Host) -> None:
        host.answer({"type": "block", "path": "/dev/sdz"})
        one = attachment()
        with pytest.raises(DeviceNotFound):
            host.driver.locate(one, 1.0)
        ((place, held),) = host.driver.held().items()
        assert (held, Path(place).parent) == (one, host.directory / "records")
        host.driver.release(held)
        assert host.driver.held() == {}
        assert host.requests()[-1]["do"] == "disconnect"

    def test_another_agent_of_the_machine_is_left_alone(self, host: Host) -> None:
        host.plug("sda", {})
        host.driver.locate(attachment(), 1.0)
        assert CinderHost(host.settings, "192.0.2.1:5052").held() == {}

    def test_growth_is_left_to_os_brick(self, host: Host) -> None:
        host.plug("sda", {})
        one = attachment()
        host.driver.locate(one, 1.0)
        host.driver.rescan(one)
        assert host.requests()[-1]["do"] == "extend"

    def test_what_only_nova_can_read_is_refused(self, host: Host) -> None:
        with pytest.raises(HostError, match="encrypted"):
            host.driver.locate(attachment(encrypted=True), 1.0)
        assert not host.asked.exists()

    def test_a_record_that_somebody_else_has_broken_is_told(self, host: Host) -> None:
        host.plug("sda", {})
        one = attachment()
        host.driver.locate(one, 1.0)
        (host.directory / "records" / f"{one['volume']}.json").write_text("{")
        with pytest.raises(HostError, match="cannot be read"):
            host.driver.locate(one, 1.0)


@pytest.mark.root
class TestProgram:
    """What is asked of os-brick's Python, and what of its answers is believed."""

    def test_a_secret_goes_by_standard_input_alone_and_comes_back_in_no_error(self, host: Host) -> None:
        one = {**attachment(), connections.WITHHELD: ["auth_password"], connections.VALUES: {"auth_password": PASSWORD}}
        message = json.dumps({"error": f"iscsiadm -v {PASSWORD} failed", "kind": "ProcessExecutionError"})
        host.script(f"tr '\\0' '\\n' < /proc/$$/cmdline > {host.root}/cmdline\ncat <<'END'\n{message}\nEND\n")
        with pytest.raises(HostError) as caught:
            host.driver.locate(one, 1.0)
        assert PASSWORD not in f"{caught.value!r} {caught.value} {caught.value.as_json()}"
        assert "iscsiadm -v *** failed" in str(caught.value)
        assert host.requests()[0]["connection"]["auth_password"] == PASSWORD
        assert "-c" in (host.root / "cmdline").read_text()
        found = [
            path for path in host.root.rglob("*") if path.is_file() and PASSWORD in path.read_text(errors="ignore")
        ]
        assert set(found) == {host.asked, host.answers}

    def test_a_secret_that_did_not_come_is_named(self, host: Host) -> None:
        with pytest.raises(HostError, match="did not tell auth_password"):
            host.driver.locate({**attachment(), connections.WITHHELD: ["auth_password"]}, 1.0)
        assert not host.asked.exists()

    def test_a_program_that_does_not_end_is_ended_with_all_that_it_started(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(brick, "_SHORTEST", 0.5)
        host.script(f"sleep 600 & echo $! > {host.root}/child; wait\n")
        with pytest.raises(DeviceNotFound, match="did not connect"):
            host.driver.locate(attachment(), 0.1)
        wait_until(lambda: has_ended(int((host.root / "child").read_text())), "the child to end")

    @pytest.mark.parametrize("script", ["echo no json", "exit 1", "echo 'trouble' >&2"])
    def test_an_answer_that_is_none_is_told(self, host: Host, script: str) -> None:
        host.script(f"{script}\n")
        with pytest.raises(HostError, match="could not connect"):
            host.driver.locate(attachment(), 1.0)

    def test_a_device_that_is_no_path_is_refused(self, host: Host) -> None:
        host.answer({"path": None})
        with pytest.raises(HostError, match="no device"):
            host.driver.locate(attachment(), 1.0)

    @pytest.mark.parametrize("python", [sys.executable, "/nowhere/python3"])
    def test_without_os_brick_the_host_says_what_to_install_and_nothing_is_begun(self, host: Host, python: str) -> None:
        driver = CinderHost({**host.settings, "os_brick_python": python}, NODE)
        with pytest.raises(HostError) as caught:
            driver.identify()
        assert "python3-os-brick" in caught.value.remedy
        assert "os_brick_python" in caught.value.remedy
        with pytest.raises(HostError, match="os-brick"):
            driver.locate(attachment(), 1.0)
        assert driver.held() == {}

    def test_who_the_host_is_is_asked_once_by_each_executor(self, host: Host) -> None:
        host.answer({"initiator": "iqn.2026-11.org.example:host"})
        driver = host.driver
        first = driver.identify()
        assert first == driver.identify() == host.driver.identify()
        assert (first.host, json.loads(first.details["connector"])) == (
            "192.0.2.1",
            {"initiator": "iqn.2026-11.org.example:host"},
        )
        (asked, again) = host.requests()
        assert (asked["do"], asked["host"], asked["address"]) == ("connector", "192.0.2.1", "192.0.2.1")
        assert again == asked

    def test_it_ends_with_the_executor_that_asked(self, host: Host) -> None:
        """Else it would connect behind the back of the next one."""
        brick = host.root / "libraries/os_brick"
        brick.mkdir(parents=True)
        begun = host.root / "begun"
        (brick / "__init__.py").write_text(
            f"import os, time\nopen({str(begun)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
        )
        program = host.root / "python"
        program.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={brick.parent} exec {sys.executable} "$@"\n')
        asking = f"from drivers.cinder.host import CinderHost\nCinderHost({host.settings!r}, {NODE!r}).identify()"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen([sys.executable, "-c", asking], env=environment) as executor:
            wait_until(lambda: begun.exists() and bool(begun.read_text()), "os-brick to be asked")
            executor.kill()
        wait_until(lambda: has_ended(int(begun.read_text())), "os-brick's program to end")

    def test_a_directory_that_cannot_be_made_is_told(self, host: Host) -> None:
        (host.root / "file").touch()
        with pytest.raises(HostError, match="no directory") as caught:
            CinderHost({**host.settings, "host_directory": str(host.root / "file/state")}, NODE).identify()
        assert "host_directory" in caught.value.remedy


class TestConnections:
    """What is not known to be harmless is kept by nobody."""

    def test_passwords_keys_and_what_is_unknown_are_withheld(self) -> None:
        whole = {"driver_volume_type": "rbd", "keyring": PASSWORD, "auth_password": PASSWORD, "options": PASSWORD}
        whole |= {"invented_by_a_vendor": PASSWORD, "hosts": ["192.0.2.9"], "empty": None}
        assert connections.kept(whole) == {"driver_volume_type": "rbd", "hosts": ["192.0.2.9"]}
        withheld = connections.withheld(whole)
        assert sorted(withheld) == ["auth_password", "invented_by_a_vendor", "keyring", "options"]


def test_records_are_for_root_alone_and_whole(tmp_path: Path) -> None:
    records = HostRecords(tmp_path / "records")
    record = HostRecord(NODE, attachment(), {"path": "/dev/sda"}, "/dev/sda", "", ("naa.6001",))
    with records.alone(record.volume):
        records.put(record)
    assert records.all() == [record]
    assert os.stat(tmp_path / "records").st_mode & 0o077 == 0
    assert records.place(record.volume).stat().st_mode & 0o077 == 0
    records.drop(record.volume)
    assert records.get(record.volume) is None
