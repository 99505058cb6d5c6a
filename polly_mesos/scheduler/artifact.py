"""The executor's artifact: one file of pure Python that an agent needs only Python to run.

It holds the executor half, the host sides of the configured drivers, and the pure-Python libraries that they import.
Byte code for this process's Python lies beside each source, so that agents with the same Python start quickly; others
use the source.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib._bootstrap_external as bootstrap
import importlib.util
import io
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from polly_mesos.errors import ConfigurationError

LIBRARIES = (
    "addict",
    "anyio",
    "attr",
    "attrs",
    "cattr",
    "cattrs",
    "certifi",
    "h11",
    "http_parser",
    "httpcore",
    "httpx",
    "idna",
    "kazoo",
    "pymesos",
    "six",
)
"""What the executor half imports, directly or not."""

_WHERE_INSTALLED = ("sniffio", "typing_extensions")

_OWN = tuple(
    f"polly_mesos/{name}.py" for name in ("__init__", "agent_api", "errors", "fault_catalogue", "faults", "model")
)
_OF_EVERY_DRIVER = ("drivers.base", "drivers.declaration")
_OWN_TREES = ("polly_mesos/executor", "polly_mesos/mesos")
_NOT_OURS = ("polly_mesos/mesos/local",)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAIN = b"""import sys

if sys.version_info < (3, 11):
    sys.exit(f"The Polly executor needs Python 3.11 or newer; this is {sys.version.split()[0]} ({sys.executable}). "
             "Install a newer one and name it in polly.yml as agents.python.")

from polly_mesos.executor.__main__ import main

main()
"""


class Artifact:
    """The file: ``name`` carries a digest of the contents, so that a new one is never taken for an old one.

    It is compiled and packed when somebody first wants its ``data``: after a restart the executors mostly run already.

    :param members: path in the file -> contents
    """

    def __init__(self, members: Mapping[str, bytes]) -> None:
        self._members = members
        self._lock = threading.Lock()
        self._data = b""
        digest = hashlib.sha256(b"".join(path.encode() + members[path] for path in sorted(members))).hexdigest()
        self.name = f"polly-executor-{digest[:16]}.pyz"

    @property
    def data(self) -> bytes:
        """The whole file."""
        with self._lock:
            if not self._data:
                self._data = _pack(self._members)
            return self._data


@functools.cache
def build(host_drivers: frozenset[str]) -> Artifact:
    """The artifact, once in the life of a process: its contents are what is installed.

    :param host_drivers: ``module:class`` of each host side to be carried
    :raises ConfigurationError: a library is missing, or is not pure Python
    """
    return Artifact({"__main__.py": _MAIN, **dict(_sources(host_drivers))})


def _pack(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(members):
            _write(archive, path, members[path])
            if path.endswith(".py") and path != "__main__.py":
                _write(archive, path + "c", _byte_code(path, members[path]))
    return b"#!/usr/bin/env python3\n" + buffer.getvalue()


def _write(archive: zipfile.ZipFile, path: str, data: bytes) -> None:
    info = zipfile.ZipInfo(path, _EPOCH)
    info.external_attr = 0o644 << 16
    archive.writestr(info, data, zipfile.ZIP_DEFLATED)


def _byte_code(path: str, source: bytes) -> bytes:
    code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    pack: Any = bootstrap._code_to_hash_pyc  # type: ignore[attr-defined]
    data: bytes = bytes(pack(code, importlib.util.source_hash(source), False))
    return data


def _sources(host_drivers: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    own = Path(__file__).resolve().parents[2]
    for name in _OWN:
        yield name, (own / name).read_bytes()
    for tree in _OWN_TREES:
        yield from _tree(own / tree, own, skip=_NOT_OURS)
    yield from _host_sides(host_drivers)
    for library in LIBRARIES:
        yield from _library(library)
    for library in _WHERE_INSTALLED:
        if importlib.util.find_spec(library) is not None:
            yield from _library(library)


def _host_sides(host_drivers: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The modules of host sides, and what they import of their own top-level package, directly or not.

    The controller side stays here: it may need a platform's SDK, and agents have no use for it.
    """
    waiting = [*_OF_EVERY_DRIVER, *(specification.partition(":")[0] for specification in sorted(host_drivers))]
    for module in waiting:
        if _source_of(module) is None:
            raise ConfigurationError(
                f"module {module!r} is needed in the executor's artifact and is not installed",
                field="services",
                value=module,
                remedy=f"install the distribution that provides {module}",
            )
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        source = _source_of(module)
        if source is None:
            continue
        is_package = source.name == "__init__.py"
        parts = module.split(".")
        yield "/".join(parts) + ("/__init__.py" if is_package else ".py"), source.read_bytes()
        waiting += [".".join(parts[:length]) for length in range(1, len(parts))]
        waiting += _imports(source, module if is_package else ".".join(parts[:-1]), parts[0])


def _imports(source: Path, package: str, top: str) -> Iterator[str]:
    """What a module imports below ``top``; names that are no modules may be among it.

    :param package: that relative imports of the module count from
    """
    for node in ast.walk(ast.parse(source.read_bytes())):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(origin, package) if node.level else origin
            found = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        yield from (name for name in found if name == top or name.startswith(f"{top}."))


def _source_of(module: str) -> Path | None:
    """A module's file, None where there is no such module, or where it is not written in Python."""
    try:
        specification = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    if specification is None or specification.origin is None or not specification.has_location:
        return None
    return Path(specification.origin) if specification.origin.endswith(".py") else None


def _library(name: str) -> Iterator[tuple[str, bytes]]:
    specification = importlib.util.find_spec(name)
    if specification is None or specification.origin is None:
        raise ConfigurationError(
            f"library {name!r} is needed in the executor's artifact and is not installed",
            field="libraries",
            value=name,
            remedy="install polly-mesos again",
        )
    origin = Path(specification.origin)
    if specification.submodule_search_locations:
        yield from _tree(origin.parent, origin.parent.parent, data=True)
    else:
        yield origin.name, origin.read_bytes()


def _tree(folder: Path, root: Path, *, skip: tuple[str, ...] = (), data: bool = False) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(root).as_posix()
        if "__pycache__" in relative or relative.startswith(skip or ("\0",)) or not path.is_file():
            continue
        if "/tests/" in relative or path.suffix in (".so", ".pyi", ".pyd"):
            continue
        if path.suffix == ".py" or (data and path.suffix in (".pem", ".typed")):
            yield relative, path.read_bytes()
