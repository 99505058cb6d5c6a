"""The programs that stand in one directory per cluster: the node itself and the helpers that an agent looks for.

Each is a few lines that find this package again with the same interpreter, whatever environment they are started in:
an agent gives its helpers, and these their tasks, an environment of its own choosing.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import polly_mesos

NODE = "mesos-node"


def write_launcher(directory: Path, libraries: Path) -> None:
    """Write all programs into an existing directory (Mesos' ``--launcher_dir``).

    :param libraries: the directory of ``libmesos.so``
    """
    package = str(Path(polly_mesos.__file__).resolve().parent.parent)
    # pure standard library: starts in a third of the time
    bare = [sys.executable, "-I", "-S"]
    full = [sys.executable, "-I"]
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    native = {"LD_LIBRARY_PATH": str(libraries)}

    def program(name: str, module: str, interpreter: list[str], environment: dict[str, str]) -> None:
        script = directory / f"{name}.py"
        path = [package] if interpreter is bare else [package, *inherited]
        script.write_text(
            f"import sys\n\nsys.path[:0] = {path!r}\n"
            f"from polly_mesos.mesos.local.{module} import main\n\nsys.exit(main())\n"
        )
        assignments = [f"{key}={shlex.quote(value)}" for key, value in environment.items()]
        command = " ".join([*assignments, "exec", shlex.join([*interpreter, str(script)]), '"$@"'])
        wrapper = directory / name
        wrapper.write_text(f"#!/bin/sh\n{command}\n")
        wrapper.chmod(0o755)

    library = {"POLLY_LIBMESOS": str(libraries / "libmesos.so")}
    program(NODE, "node", bare, native)
    program("mesos-containerizer", "helpers.containerizer", bare, native | library)
    program("mesos-fetcher", "helpers.fetcher", bare, {})
    program("mesos-executor", "helpers.command_executor", full, {})
    program("mesos-docker-executor", "helpers.docker_executor", bare, {})
