"""The programs of Keystone and Cinder, in a virtual environment of their own that is made once and kept.

It is made beside its final place and moved there when it is complete, so what is there is whole. The directory is
named by what is in the lock file and by the Python that runs it: another lock file makes another one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from polly_mesos.errors import DownloadFailed, UnsupportedPlatform
from polly_mesos.mesos.local.locking import exclusive
from polly_mesos.mesos.local.progress import Progress, Step, ignore

LOCK = Path(__file__).with_name("lock.txt")
OLDEST, NEWEST = (3, 11), (3, 13)
PROGRAMS = {
    "rabbitmq-server": "rabbitmq-server",
    "qemu-img": "qemu-utils",
    "mount.nfs": "nfs-common",
    "mkfs.xfs": "xfsprogs",
    "losetup": "mount",
    "runuser": "util-linux",
    "sudo": "sudo",
}
"""Program -> the Debian package that has it."""

_INSTALL_SECONDS = 1200.0
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path() -> str:
    """PATH with the directories of system programs, which an ordinary shell may lack."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN])


def check_possible() -> None:
    """Whether the services can run here.

    :raises UnsupportedPlatform: not root, another Python than the locked packages are for, or programs are missing
    """
    if os.geteuid() != 0:
        raise UnsupportedPlatform("the real OpenStack needs root: its volumes stand on a loop-mounted file system")
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise UnsupportedPlatform(
            f"the locked OpenStack runs on Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}, and this is "
            f"{sys.version_info[0]}.{sys.version_info[1]}",
            remedy="name another Python with make PYTHON=...",
        )
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program, path=search_path())]
    if missing:
        raise UnsupportedPlatform(
            f"the real OpenStack needs Debian's {', '.join(missing)}", remedy=f"apt-get install {' '.join(missing)}"
        )


def cache_directory() -> Path:
    """Where environments are kept: ``POLLY_MESOS_CACHE``, or the user's cache directory."""
    if named := os.environ.get("POLLY_MESOS_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polly-mesos"


def ensure_environment(progress: Progress = ignore) -> Path:
    """The directory of the virtual environment; it is made where it is not there yet, which takes minutes.

    :raises DownloadFailed: the packages could not be downloaded or installed; nothing is left of the attempt
    """
    key = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    place = cache_directory() / f"openstack-{key}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    waiting = "the OpenStack of the tests is being installed by another process"
    with exclusive(place.parent / f"openstack-{key}.lock", what=waiting, seconds=_INSTALL_SECONDS):
        if not place.is_dir():
            _make(place, progress)
    return place


def _make(place: Path, progress: Progress) -> None:
    # Its scripts name the path where they were made; so they are only ever run as arguments of its python.
    part = Path(tempfile.mkdtemp(prefix=".openstack-part-", dir=place.parent))
    try:
        progress(Step("making a virtual environment for Keystone and Cinder"))
        _run([sys.executable, "-m", "venv", str(part / "venv")])
        count = sum("==" in line for line in LOCK.read_text().splitlines())
        progress(Step(f"installing Keystone, Cinder and {count - 2} packages that they need; this is done once"))
        pip = [str(part / "venv/bin/python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        _run([*pip, "install", "--quiet", "--no-deps", "--requirement", str(LOCK)])
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _run(command: list[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        last = "\n".join((ran.stderr or ran.stdout).strip().splitlines()[-5:])
        raise DownloadFailed(
            f"the OpenStack of the tests could not be installed: {last}",
            remedy="see whether `pip download cinder` works here (pip's configuration, proxy, network), and try again",
        )
