"""``mesos-fetcher``: brings a task's URIs into its sandbox before it starts (Mesos' ``src/launcher/fetcher.cpp``).

The agent says what to do in ``MESOS_FETCHER_INFO`` (a ``FetcherInfo`` as JSON). Exit status 0: everything is there; 1:
something is not, and stderr, which is the sandbox's, says what and why. Runs without site-packages.
"""

from __future__ import annotations

# what the standard library would import only when it needs it is imported here: as the task's user, which this process
# becomes, the interpreter's own files may be out of reach
import encodings.idna  # noqa: F401
import gzip
import json
import lzma  # noqa: F401
import os
import pwd
import shutil
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

_STALL_SECONDS = 60.0
_TAR_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
_NET_SCHEMES = ("http", "https", "ftp")


class FetchError(Exception):
    """A URI cannot be fetched; the message says which part of it went wrong."""


def main() -> int:
    """Fetch everything that the agent asks for."""
    info = json.loads(os.environ["MESOS_FETCHER_INFO"])
    cache = _cache_directory(info)
    become(info.get("user"))
    for item in info.get("items", []):
        uri = item["uri"]
        try:
            fetch(item, Path(info["sandbox_directory"]), cache, _stall_seconds(info), info.get("frameworks_home"))
        except (FetchError, OSError) as error:
            _say(f"mesos-fetcher: cannot fetch {uri['value']}: {error}")
            return 1
        _say(f"mesos-fetcher: fetched {uri['value']}")
    return 0


def _cache_directory(info: dict[str, Any]) -> Path | None:
    if "cache_directory" not in info:
        return None
    cache = Path(info["cache_directory"])
    cache.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0 and (user := info.get("user")):
        shutil.chown(cache, user)
    return cache


def become(user: str | None) -> None:
    """Go on as the task's user, so that it gets nothing that it may not read; only root can."""
    if user is None or os.geteuid() != 0:
        return
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def fetch(
    item: dict[str, Any], sandbox: Path, cache: Path | None, stall_seconds: float, frameworks_home: str | None
) -> None:
    """Fetch one item into the sandbox: past the agent's cache, into and out of it, or out of it.

    :param item: ``FetcherInfo.Item``
    :raises FetchError: it cannot be had, or not be unpacked
    :raises OSError: a file cannot be written or read, or no connection be made
    """
    uri = item["uri"]
    target = _target(uri, sandbox)
    source = target
    if item.get("action", "BYPASS_CACHE") != "BYPASS_CACHE":
        if cache is None:
            raise FetchError("the agent named no cache directory")
        source = cache / item["cache_filename"]
    if item.get("action") != "RETRIEVE_FROM_CACHE":
        _download(uri["value"].lstrip(), source, stall_seconds, frameworks_home)
    if uri.get("executable"):
        _copy(source, target)
        target.chmod(0o755)
    elif uri.get("extract", True) and (extract := _extractor(source)):
        try:
            extract(source, sandbox)
        except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError) as error:
            raise FetchError(f"{source.name} is not the archive that its name says, or is damaged") from error
    else:
        _copy(source, target)


def _target(uri: dict[str, Any], sandbox: Path) -> Path:
    name: str = uri.get("output_file") or str(uri["value"]).rpartition("/")[2]
    if not name:
        raise FetchError("it names no file; give the URI an output_file")
    target = sandbox / name
    if not target.resolve().is_relative_to(sandbox.resolve()):
        raise FetchError(f"its output_file {name} is outside the sandbox")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _download(uri: str, target: Path, stall_seconds: float, frameworks_home: str | None) -> None:
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        path = Path(rest.removeprefix("localhost") if separator else uri)
        if not path.is_absolute():
            if not frameworks_home:
                raise FetchError("it is a relative path, and the agent has no frameworks_home")
            path = Path(frameworks_home) / path
        shutil.copyfile(path, target)
    elif scheme in _NET_SCHEMES:
        _download_from_net(uri, target, stall_seconds)
    else:
        raise FetchError(f"{scheme}: is not supported here; use {', '.join(_NET_SCHEMES)} or file")


def _download_from_net(uri: str, target: Path, stall_seconds: float) -> None:
    try:
        with _opener(uri).open(uri, timeout=stall_seconds) as answer, target.open("wb") as file:
            status = answer.status if uri.startswith("http") else 200
            if status != 200:
                raise FetchError(f"the server answered with status {status}")
            shutil.copyfileobj(answer, file)
            promised = answer.headers.get("Content-Length")
            if promised is not None and file.tell() != int(promised):
                raise FetchError(f"the connection ended after {file.tell()} of {promised} bytes")
    except urllib.error.HTTPError as error:
        with error:
            raise FetchError(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise FetchError(str(error.reason)) from error


def _opener(uri: str) -> urllib.request.OpenerDirector:
    """Opens by way of the environment's proxies, but reaches this machine itself directly."""
    local = urllib.parse.urlsplit(uri).hostname in ("localhost", "127.0.0.1", "::1")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))


def _copy(source: Path, target: Path) -> None:
    if source != target:
        shutil.copyfile(source, target)


def _extractor(archive: Path) -> Callable[[Path, Path], None] | None:
    """What unpacks a file of that name; None where it is not an archive and is left as it is."""
    if archive.name.endswith(_TAR_SUFFIXES):
        return _extract_tar
    return {".zip": _extract_zip, ".gz": _extract_gzip}.get(archive.suffix)


def _extract_tar(archive: Path, directory: Path) -> None:
    with tarfile.open(archive) as tar:
        # Python 3.11.0 to 3.11.3 have no filters; the task's user, who we are, could write there anyway
        tar.extraction_filter = getattr(tarfile, "tar_filter", lambda member, _path: member)
        tar.extractall(directory)


def _extract_zip(archive: Path, directory: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            path = Path(content.extract(member, directory))
            mode = member.external_attr >> 16 & 0o777  # the permissions that zipfile does not restore
            if mode and not member.is_dir():
                path.chmod(mode)


def _extract_gzip(archive: Path, directory: Path) -> None:
    with gzip.open(archive) as content, (directory / archive.stem).open("wb") as file:
        shutil.copyfileobj(cast(BinaryIO, content), file)


def _stall_seconds(info: dict[str, Any]) -> float:
    nanoseconds = info.get("stall_timeout", {}).get("nanoseconds")
    return _STALL_SECONDS if nanoseconds is None else int(nanoseconds) / 1e9


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  the sandbox's stderr is where people look
