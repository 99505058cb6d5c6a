"""Apache Mesos 1.11.0 for x86-64 Linux, assembled out of packages on the configured Python index.

The distribution ``mesos.scheduler`` carries Mesos' native scheduler driver. That driver understands the master address
``local``, so its shared object holds the whole master and the whole agent. It was built on Ubuntu 16.04; the libraries
of that time which newer systems lack (OpenSSL 1.0, a libcurl without symbol versions, Subversion, APR, SASL) are taken
out of the wheels of other projects, which bundle them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polly_mesos.errors import DownloadFailed, UnsupportedPlatform
from polly_mesos.mesos.local.index import download, index_settings
from polly_mesos.mesos.local.locking import exclusive
from polly_mesos.mesos.local.progress import Progress, Step, ignore

VERSION = "1.11.0"
OLDEST_GLIBC = (2, 34)
_ELSEWHERE = "use a Mesos that runs elsewhere: name its master in polly.yml as mesos.master (host:port or zk://...)"


@dataclass(frozen=True)
class Part:
    """One package file that Mesos is made of.

    :param project: the distribution's name on the index
    :param filename: the file's name on the index
    :param sha256: what the file must hash to, hexadecimal
    :param sonames: name that the loader asks for -> how the bundled file's name begins
    """

    project: str
    filename: str
    sha256: str
    sonames: Mapping[str, str] = field(default_factory=dict)


PARTS = (
    Part(
        "mesos.scheduler",
        "mesos.scheduler-1.11.0.linux-x86_64.tar.gz",
        "1d376f20bca6d05ee8b90c1c123a452b28753497ccc2f1c80ea3ac94c12e8f6e",
    ),
    Part(
        "psycopg2-binary",
        "psycopg2_binary-2.7.5-cp36-cp36m-manylinux1_x86_64.whl",
        "a6d32c37f714c3f34158f3fa659f3a8f2658d5f53c4297d45579b9677cc4d852",
        {"libssl.so.1.0.0": "libssl-", "libcrypto.so.1.0.0": "libcrypto-"},
    ),
    Part(
        "pycurl",
        "pycurl-7.49.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "6f88539845d3bb2cf2ce0ccbc1bb8b9ed9e401a0d874798aeabc5f16f0f95c4d",
        {"libcurl.so.4": "libcurl-"},
    ),
    Part(
        "subvertpy",
        "subvertpy-0.11.1-cp311-cp311-manylinux_2_34_x86_64.whl",
        "e245f42f143e93b8294dddd9b6861f9a0a19452c96a20a43b4a21d9591903f0d",
        {
            "libsvn_delta-1.so.1": "libsvn_delta-1-",
            "libsvn_subr-1.so.1": "libsvn_subr-1-",
            "libapr-1.so.0": "libapr-1-",
            "libsasl2.so.2": "libsasl2-251d2f1b",
        },
    ),
)


@dataclass(frozen=True)
class Mesos:
    """An installed Mesos.

    :param libraries: the directory that holds ``libmesos.so`` and what it needs
    """

    libraries: Path

    @property
    def library(self) -> Path:
        """The shared object with the whole of Mesos in it."""
        return self.libraries / "libmesos.so"


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where Mesos is kept: ``POLLY_MESOS_CACHE``, else ``polly-mesos`` below ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := environment.get("POLLY_MESOS_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "polly-mesos"


def check_platform() -> None:
    """Make sure that this machine can run the Mesos that we can assemble.

    :raises UnsupportedPlatform: on anything but x86-64 Linux with a recent enough glibc
    """
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise UnsupportedPlatform(
            f"the local Mesos runs on x86-64 Linux only, and this is {system} on {machine}", remedy=_ELSEWHERE
        )
    version = _glibc_version()
    if version is None:
        raise UnsupportedPlatform(
            "the local Mesos needs the GNU C library, and this Python runs on another one", remedy=_ELSEWHERE
        )
    if tuple(int(number) for number in version.split(".")[:2]) < OLDEST_GLIBC:
        needed = ".".join(str(number) for number in OLDEST_GLIBC)
        raise UnsupportedPlatform(
            f"the local Mesos needs glibc {needed} or newer, and this is glibc {version}", remedy=_ELSEWHERE
        )


def _glibc_version() -> str | None:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError):
        return None
    return version if name == "glibc" else None


def ensure_mesos(progress: Progress = ignore, environment: Mapping[str, str] = os.environ) -> Mesos:
    """The installed Mesos; assembled first where this is the first time. Needs the network only then.

    :raises UnsupportedPlatform: this machine cannot run it
    :raises DownloadFailed: a package could not be had, or is not what it must be
    """
    check_platform()
    cache = cache_directory(environment)
    home = cache / f"mesos-{VERSION}"
    if _is_complete(home):
        return Mesos(home / "lib")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with exclusive(cache / f"mesos-{VERSION}.lock", what="another process is downloading Mesos", seconds=900):
            if not _is_complete(home):
                _install(home, cache / "downloads", progress)
    except OSError as error:
        raise DownloadFailed(
            f"Mesos could not be installed in {home}: {error}",
            remedy="make room there, or name another directory in POLLY_MESOS_CACHE, and run the command again",
        ) from error
    return Mesos(home / "lib")


def _is_complete(home: Path) -> bool:
    """Whether all files stand there in full: the manifest is written last and moves into place with them."""
    try:
        manifest: dict[str, int] = json.loads((home / "manifest.json").read_bytes())
        return all((home / "lib" / name).stat().st_size == size for name, size in manifest.items())
    except (OSError, ValueError):
        return False


def _install(home: Path, downloads: Path, progress: Progress) -> None:
    downloads.mkdir(exist_ok=True)
    archives = [downloads / part.filename for part in PARTS]
    # what is there was left by an earlier try, or put there by a person without network
    if missing := [(part, archive) for part, archive in zip(PARTS, archives, strict=True) if not archive.exists()]:
        settings = index_settings()
        for part, archive in missing:
            download(settings, part.project, part.filename, archive, progress)
    for part, archive in zip(PARTS, archives, strict=True):
        _verify(part, archive)
    with tempfile.TemporaryDirectory(prefix=f".{home.name}.", dir=home.parent) as temporary:
        staged = Path(temporary) / home.name
        libraries = staged / "lib"
        libraries.mkdir(parents=True)
        for part, archive in zip(PARTS, archives, strict=True):
            progress(Step(f"Unpacking {part.filename}"))
            _unpack(part, archive, libraries)
        manifest = {file.name: file.stat().st_size for file in sorted(libraries.iterdir())}
        (staged / "manifest.json").write_text(json.dumps(manifest, indent=1))
        shutil.rmtree(home, ignore_errors=True)
        staged.rename(home)
    shutil.rmtree(downloads, ignore_errors=True)


def _verify(part: Part, archive: Path) -> None:
    """Make sure that a file is the pinned one.

    :raises DownloadFailed: it is not; it is removed then
    """
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != part.sha256:
        archive.unlink()
        raise DownloadFailed(
            f"{part.filename} is not the file that Mesos {VERSION} is made of: its sha256 is {found}, "
            f"and {part.sha256} was expected",
            remedy="it was removed; run the command again, and if this comes back, ask who runs the package index",
        )


def _unpack(part: Part, archive: Path, libraries: Path) -> None:
    try:
        for name, source in _shared_objects(archive):
            (libraries / name).write_bytes(source)
    except (tarfile.TarError, zipfile.BadZipFile) as error:  # pragma: no cover  the digest was right
        raise DownloadFailed(f"{archive} cannot be unpacked: {error}", remedy="remove it and try again") from error
    for soname, prefix in part.sonames.items():
        bundled = next(file.name for file in sorted(libraries.iterdir()) if file.name.startswith(prefix))
        (libraries / soname).symlink_to(bundled)


def _shared_objects(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The driver of the one source archive as ``libmesos.so``; of a wheel, the libraries that it bundles."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for member in wheel.namelist():
                # auditwheel puts bundled libraries into <package>.libs/ or <package>/.libs/
                if "libs/" in member and ".so" in member:
                    yield Path(member).name, wheel.read(member)
        return
    with tarfile.open(archive) as tar:
        for entry in tar:
            if entry.name.endswith("_scheduler.so") and (content := tar.extractfile(entry)) is not None:
                yield "libmesos.so", content.read()
