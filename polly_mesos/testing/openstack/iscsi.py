"""A host with an iSCSI initiator, and one target: for a kernel that has none.

What os-brick runs sees a ``/sys`` and a ``/dev`` of this module's, in a mount namespace of its own, and finds here a
strict ``iscsiadm`` and the writes to sysfs by which the kernel scans for disks and removes them. The target lets nobody
in without its password. Exit codes and words are those of open-iscsi (``iscsi_err.h``). Needs root.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PORTAL, IQN, LUN = "192.0.2.9:3260", "iqn.2010-10.org.openstack:volume-of-the-tests", 3
USER = "polly"
DISK, WWN = "sda", "6001405abcdef0123456789abcdef012"

_PROGRAM = '''#!{python}
import json, os, shutil, sys
from pathlib import Path

STATE = Path("{state}")
TARGET = json.loads((STATE / "target").read_text())
NODE, SESSION, LOG, BROKEN = (STATE / name for name in ("node", "session", "asked", "broken"))
HOST = "sys/class/{{}}/host7"
ROOT = Path("/")


def end(code, text=""):
    if text:
        print("iscsiadm: " + text, file=sys.stderr)
    sys.exit(code)


def iscsiadm(words):
    with LOG.open("a") as log:
        print(json.dumps(words), file=log)
    if BROKEN.exists():
        end(6, "database failure")
    if words == ["-m", "discoverydb", "-o", "show", "-P", "1"]:
        print("SENDTARGETS:\\nNo targets found.\\niSNS:\\nNo targets found.\\nSTATIC:\\nNo targets found.")
        return
    if words == ["-m", "session"]:
        if not SESSION.exists():
            end(21, "No active sessions.")
        print("tcp: [1] {{portal}},1 {{iqn}} (non-flash)".format(**TARGET))
        return
    if words == ["-m", "node"]:
        if not NODE.exists():
            end(21, "No records found")
        print("{{portal}},1 {{iqn}}".format(**TARGET))
        return
    if words[:6] != ["-m", "node", "-T", TARGET["iqn"], "-p", TARGET["portal"]]:
        end(8, "cannot make connection to another target: connection timed out")
    words = words[6:]
    if words == ["--interface", "default", "--op", "new"]:
        NODE.write_text("{{}}")
        return
    if not NODE.exists():
        end(21, "No records found")
    node = json.loads(NODE.read_text())
    if words[:3] == ["--op", "update", "-n"] and words[4] == "-v" and len(words) == 6:
        NODE.write_text(json.dumps({{**node, words[3]: words[5]}}))
    elif words == ["--op", "delete"]:
        NODE.unlink()
    elif words == ["--login"]:
        login(node)
    elif words == ["--logout"]:
        if not SESSION.exists():
            end(21, "No matching sessions found")
        SESSION.unlink()
        for kind in ("iscsi_host", "scsi_host"):
            shutil.rmtree(ROOT / HOST.format(kind), ignore_errors=True)
    elif words:
        end(7, "invalid arguments " + " ".join(words))


def login(node):
    if SESSION.exists():
        end(15, "session exists")
    given = [node.get("node.session.auth." + name) for name in ("authmethod", "username", "password")]
    if given != ["CHAP", TARGET["user"], TARGET["password"]]:
        end(24, "initiator reported error (24 - iSCSI login failed due to authorization failure)")
    SESSION.write_text("")
    for kind in ("iscsi_host", "scsi_host"):
        (ROOT / HOST.format(kind) / "device/session1/target7:0:0").mkdir(parents=True)
    (ROOT / HOST.format("scsi_host") / "scan").write_text("")
    if node.get("node.session.scan") != "manual":
        plug()


def plug():
    lun = ROOT / HOST.format("scsi_host") / "device/session1/target7:0:0/7:0:0:{{lun}}".format(**TARGET)
    (lun / "block" / TARGET["disk"]).mkdir(parents=True, exist_ok=True)
    entry = ROOT / "sys/block" / TARGET["disk"]
    if entry.exists():
        return
    draft = entry.with_name(".draft")
    (draft / "device").mkdir(parents=True)
    for name in ("dev", "size", "device/wwid", "device/delete"):
        (draft / name).write_text(TARGET[name])
    os.mknod(ROOT / "dev" / TARGET["disk"], 0o60600, os.makedev(*map(int, TARGET["dev"].split(":"))))
    os.symlink("../../" + TARGET["disk"], ROOT / "dev/disk/by-id" / ("scsi-3" + TARGET["wwn"]))
    draft.rename(entry)


def tee(path, words):
    """The kernel's part of what is written to files of sysfs."""
    if path == "/" + HOST.format("scsi_host") + "/scan":
        if words.split()[2] == str(TARGET["lun"]):
            plug()
    elif path == "/sys/block/{{disk}}/device/delete".format(**TARGET) and words.strip() == "1":
        shutil.rmtree(ROOT / "sys/block" / TARGET["disk"])
        (ROOT / "dev" / TARGET["disk"]).unlink()
        shutil.rmtree(ROOT / HOST.format("scsi_host") / "device/session1/target7:0:0")
    else:
        end(1, "nothing to write at " + path)


if Path(sys.argv[0]).name == "tee":
    tee(sys.argv[2], sys.stdin.read())
else:
    iscsiadm(sys.argv[1:])
'''

_PYTHON = """#!/bin/sh
PATH={programs}:$PATH exec unshare --mount --propagation private sh -c '
mount --bind {root}/sys /sys && mount --bind {root}/dev /dev && exec "$@"' sh {python} "$@"
"""


class IscsiHost:
    """A host whose initiator knows one target, with one disk. Its device is gone after the block.

    :ivar root: where the host's /sys and /dev are seen
    :ivar python: an interpreter that has what ``python`` has, and the initiator
    """

    def __init__(self, directory: Path, python: str, image: Path, password: str) -> None:
        self.root, self._state = directory / "root", directory / "initiator"
        programs = directory / "programs"
        for made in (self.root / "sys/block", self.root / "dev/disk/by-id", programs, self._state):
            made.mkdir(parents=True)
        for name in ("null", "zero", "urandom"):
            os.mknod(self.root / "dev" / name, 0o666 | stat.S_IFCHR, os.stat(f"/dev/{name}").st_rdev)
        program = programs / "iscsiadm"
        program.write_text(_PROGRAM.format(python=sys.executable, state=self._state))
        program.chmod(0o755)
        (programs / "tee").symlink_to(program)
        self.python = str(directory / "python")
        Path(self.python).write_text(_PYTHON.format(programs=programs, root=self.root, python=python))
        Path(self.python).chmod(0o755)
        self._image, self._password, self._device = image, password, ""

    def __enter__(self) -> Self:
        command = ["losetup", "--find", "--show", str(self._image)]
        self._device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        number = os.stat(self._device).st_rdev
        target = {
            "portal": PORTAL,
            "iqn": IQN,
            "lun": LUN,
            "user": USER,
            "password": self._password,
            "disk": DISK,
            "wwn": WWN,
            "dev": f"{os.major(number)}:{os.minor(number)}",
            "size": str(self._image.stat().st_size // 512),
            "device/wwid": f"naa.{WWN}",
            "device/delete": "",
        }
        (self._state / "target").write_text(json.dumps(target))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["losetup", "--detach", self._device], check=True, capture_output=True)

    @property
    def has_session(self) -> bool:
        """Whether the initiator is logged in."""
        return (self._state / "session").exists()

    def break_down(self, *, broken: bool = True) -> None:
        """The initiator's database cannot be read any more, or can again."""
        if broken:
            (self._state / "broken").touch()
        else:
            (self._state / "broken").unlink()

    def asked(self) -> list[list[str]]:
        """What ``iscsiadm`` was called with."""
        return [json.loads(line) for line in (self._state / "asked").read_text().splitlines()]

    def connection(self, **changes: Any) -> dict[str, Any]:
        """What Cinder tells of the way to the target, in place of the way to a share."""
        return {
            "driver_volume_type": "iscsi",
            "target_discovered": False,
            "target_portal": PORTAL,
            "target_iqn": IQN,
            "target_lun": LUN,
            "auth_method": "CHAP",
            "auth_username": USER,
            "auth_password": self._password,
            **dict.fromkeys(("export", "name", "format", "options", "mount_point_base")),
            **changes,
        }
