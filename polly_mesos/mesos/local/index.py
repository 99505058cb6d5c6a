"""Files from the Python index that pip is configured for."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pypi_simple import PYPI_SIMPLE_ENDPOINT, DistributionPackage, NoSuchProjectError, PyPISimple
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from polly_mesos.errors import DownloadFailed
from polly_mesos.mesos.local.progress import Progress, Step

CONNECT_AND_READ_SECONDS = (10.0, 60.0)
RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class IndexSettings:
    """What pip would use.

    :param urls: the index first, then the extra ones, in pip's order
    :param certificates: a bundle of certificate authorities, or None for the usual ones
    """

    urls: tuple[str, ...]
    certificates: str | None = None


def index_settings(environment: Mapping[str, str] = os.environ) -> IndexSettings:
    """Read pip's own configuration: its environment variables before its files, and its default last."""
    options = _pip_configuration()

    def option(name: str) -> str:
        return environment.get("PIP_" + name.upper().replace("-", "_")) or options.get(name, "")

    index = option("index-url") or PYPI_SIMPLE_ENDPOINT
    return IndexSettings(urls=(index, *option("extra-index-url").split()), certificates=option("cert") or None)


def _pip_configuration() -> dict[str, str]:
    """The options in pip's configuration files; empty where there is no pip, which then has no configuration."""
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, str] = {}
    # `install` is the section for one command and wins over `global`
    for section in ("global.", "install."):
        for line in answer.stdout.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(section):
                found[key.removeprefix(section)] = str(ast.literal_eval(value))
    return found


def download(settings: IndexSettings, project: str, filename: str, target: Path, progress: Progress) -> None:
    """Download one file of a project; the file appears at the target complete or not at all. Its digest is not checked,
    since not every index gives one.

    :raises DownloadFailed: no configured index gave it, with each one's reason
    """
    reasons: list[str] = []
    for url in settings.urls:
        if not url.startswith(("http://", "https://")):
            continue
        try:
            _download_from(url, settings.certificates, project, filename, target, progress)
        # requests' exceptions are OSErrors, an unreadable page is a ValueError
        except (OSError, ValueError, LookupError, NoSuchProjectError) as error:
            reasons.append(f"{url}: {error}")
        else:
            return
    raise DownloadFailed(
        f"{filename} (project {project}) could not be downloaded: "
        + ("; ".join(reasons) or "pip is configured without an http or https index"),
        remedy="check the network and pip's index-url (PIP_INDEX_URL), then run the same command again: it goes on "
        f"with the missing file; without network, put the file at {target}",
    )


def _download_from(
    url: str, certificates: str | None, project: str, filename: str, target: Path, progress: Progress
) -> None:
    progress(Step(f"Looking for {filename}"))
    attempts = Retrying(
        retry=retry_if_exception_type(OSError),
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=RETRY_SECONDS),
        reraise=True,
    )
    part = target.with_name(target.name + ".part")
    with PyPISimple(url) as index:
        if certificates:
            index.s.verify = certificates

        def attempt() -> None:
            package = _find(index, project, filename)
            index.download_package(
                package,
                part,
                verify=False,
                progress=lambda size: _Tracker(progress, filename, size),
                timeout=CONNECT_AND_READ_SECONDS,
            )

        attempts(attempt)
    part.rename(target)


def _find(index: PyPISimple, project: str, filename: str) -> DistributionPackage:
    page = index.get_project_page(project, timeout=CONNECT_AND_READ_SECONDS)
    for package in page.packages:
        if package.filename == filename:
            return package
    raise LookupError(f"the index lists {len(page.packages)} files of {project}, but not this one")


class _Tracker:
    """pypi_simple's view of a progress bar."""

    def __init__(self, progress: Progress, filename: str, total: int | None) -> None:
        self._progress, self._text, self._total = progress, f"Downloading {filename}", total
        self._done = 0

    def __enter__(self) -> _Tracker:
        self.update(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def update(self, increment: int) -> None:
        self._done += increment
        self._progress(Step(self._text, self._done, self._total))
