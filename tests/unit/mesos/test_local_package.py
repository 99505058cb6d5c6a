"""Mesos is assembled from an index, verified, installed whole or not at all, and then found without one."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import platform
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from polly_mesos.errors import DownloadFailed, UnsupportedPlatform
from polly_mesos.mesos.local import package
from polly_mesos.mesos.local.index import index_settings
from polly_mesos.mesos.local.package import Part, cache_directory, ensure_mesos
from polly_mesos.mesos.local.progress import Step

DEAD_INDEX = "http://127.0.0.1:1/simple/"


def driver_archive() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        entry = tarfile.TarInfo("./usr/lib/python/mesos/scheduler/_scheduler.so")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"mesos"))
    return stream.getvalue()


def wheel() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("thing/.libs/libthing-1234abcd.so.1.0", "library")
        archive.writestr("thing/module.so", "not a bundled library")
    return stream.getvalue()


@dataclass
class Index:
    """A package index on this machine.

    :param asked: the paths requested so far
    """

    url: str
    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    """The only index that pip is configured for; it has a small Mesos, which is the one wanted."""
    found = Index("", {"mesos.scheduler-1.tar.gz": driver_archive(), "thing-1-py3-none-any.whl": wheel()})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            name = self.path.strip("/").rpartition("/")[2]
            if self.path.startswith("/simple/"):
                names = [file for file in found.files if file.startswith(name.replace("-", "."))]
                content = "".join(f'<a href="/files/{file}">{file}</a>' for file in names).encode()
            else:
                content = found.files[name]
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/simple/"
        parts = (
            part("mesos.scheduler", "mesos.scheduler-1.tar.gz", found),
            replace(part("thing", "thing-1-py3-none-any.whl", found), sonames={"libthing.so.1": "libthing-"}),
        )
        monkeypatch.setattr(package, "PARTS", parts)
        monkeypatch.setattr(package, "check_platform", lambda: None)
        monkeypatch.setattr("polly_mesos.mesos.local.index._pip_configuration", dict)
        monkeypatch.setenv("PIP_INDEX_URL", found.url)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", DEAD_INDEX)
        monkeypatch.setenv("POLLY_MESOS_CACHE", str(tmp_path / "cache"))
        for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(proxy, raising=False)
        yield found
        server.shutdown()
        thread.join()


def part(project: str, filename: str, index: Index) -> Part:
    return Part(project, filename, hashlib.sha256(index.files[filename]).hexdigest())


def test_it_is_assembled_of_the_driver_and_bundled_libraries(index: Index) -> None:
    mesos = ensure_mesos()
    assert mesos.library.read_text() == "mesos"
    assert (mesos.libraries / "libthing-1234abcd.so.1.0").read_text() == "library"
    assert (mesos.libraries / "libthing.so.1").read_text() == "library"
    assert not (mesos.libraries / "module.so").exists()
    assert sorted(os.listdir(cache_directory())) == ["mesos-1.11.0", "mesos-1.11.0.lock"]


def test_progress_names_each_file_and_counts_its_bytes(index: Index) -> None:
    steps: list[Step] = []
    ensure_mesos(steps.append)
    size = len(index.files["mesos.scheduler-1.tar.gz"])
    assert Step("Downloading mesos.scheduler-1.tar.gz", size, size) in steps
    assert Step("Unpacking thing-1-py3-none-any.whl") in steps


def test_the_second_time_nothing_is_asked_of_the_index(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_mesos()
    index.asked.clear()
    monkeypatch.setenv("PIP_INDEX_URL", DEAD_INDEX)
    assert ensure_mesos() == first
    assert index.asked == []


def test_two_at_once_download_once(index: Index) -> None:
    threads = [threading.Thread(target=ensure_mesos) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path for path in index.asked if path.startswith("/files/")) == [
        "/files/mesos.scheduler-1.tar.gz",
        "/files/thing-1-py3-none-any.whl",
    ]


def test_a_damaged_installation_is_made_anew(index: Index) -> None:
    mesos = ensure_mesos()
    mesos.library.write_text("mes")
    assert ensure_mesos().library.read_text() == "mesos"


def test_a_file_with_other_contents_is_refused_and_removed(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    good = index.files["thing-1-py3-none-any.whl"]
    index.files["thing-1-py3-none-any.whl"] = b"something else"
    with pytest.raises(DownloadFailed, match=r"thing-1-py3-none-any\.whl is not the file .* sha256"):
        ensure_mesos()
    index.files["thing-1-py3-none-any.whl"] = good
    assert ensure_mesos().library.exists()


def test_an_interrupted_download_goes_on_with_what_is_missing(index: Index) -> None:
    hidden = index.files.pop("thing-1-py3-none-any.whl")
    with pytest.raises(DownloadFailed, match="not this one"):
        ensure_mesos()
    index.files["thing-1-py3-none-any.whl"] = hidden
    index.asked.clear()
    ensure_mesos()
    assert "/files/mesos.scheduler-1.tar.gz" not in index.asked


def test_a_failure_names_the_file_the_reason_and_what_to_do(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", DEAD_INDEX)
    monkeypatch.setattr("polly_mesos.mesos.local.index.RETRY_SECONDS", 0)
    with pytest.raises(DownloadFailed) as failed:
        ensure_mesos()
    assert "mesos.scheduler-1.tar.gz" in failed.value.message
    assert "Connection refused" in failed.value.message
    assert "run the same command again" in failed.value.remedy
    target = cache_directory() / "downloads" / "mesos.scheduler-1.tar.gz"
    assert f"put the file at {target}" in failed.value.remedy


def test_files_put_there_by_hand_need_no_network(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = cache_directory() / "downloads"
    downloads.mkdir(parents=True)
    for name, content in index.files.items():
        (downloads / name).write_bytes(content)
    monkeypatch.setenv("PIP_INDEX_URL", DEAD_INDEX)
    assert ensure_mesos().library.exists()


def test_the_extra_index_is_asked_where_the_first_has_it_not(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", DEAD_INDEX)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file:///nowhere {index.url}")
    monkeypatch.setattr("polly_mesos.mesos.local.index.RETRY_SECONDS", 0)
    assert ensure_mesos().library.exists()


def test_pips_configuration_file_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nindex-url = http://mirror/simple\ncert = /etc/authority.pem\n")
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = index_settings()
    assert settings.urls[0] == "http://mirror/simple"
    assert settings.certificates == "/etc/authority.pem"
    monkeypatch.setenv("PIP_INDEX_URL", "http://nearer/simple")
    assert index_settings().urls[0] == "http://nearer/simple"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"POLLY_MESOS_CACHE": "/a/cache", "XDG_CACHE_HOME": "/b"}, "/a/cache"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/polly-mesos"),
        ({}, "~/.cache/polly-mesos"),
    ],
)
def test_the_cache_is_where_people_expect_it(environment: dict[str, str], expected: str) -> None:
    assert cache_directory(environment) == Path(expected).expanduser()


def test_a_cache_that_cannot_be_written_is_told(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POLLY_MESOS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadFailed, match=r"could not be installed.*POLLY_MESOS_CACHE"):
        ensure_mesos()


@pytest.mark.parametrize(
    ("system", "machine", "libc", "said"),
    [
        ("Darwin", "arm64", "glibc 2.36", "Darwin on arm64"),
        ("Linux", "aarch64", "glibc 2.36", "Linux on aarch64"),
        ("Linux", "x86_64", "", "needs the GNU C library"),
        ("Linux", "x86_64", "glibc 2.31", r"glibc 2\.34 or newer, and this is glibc 2\.31"),
    ],
)
def test_another_platform_is_told_what_to_use_instead(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, libc: str, said: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(os, "confstr", lambda _name: libc)
    with pytest.raises(UnsupportedPlatform, match=rf"{said}.*mesos\.master"):
        package.check_platform()
