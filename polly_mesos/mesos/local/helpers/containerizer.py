"""``mesos-containerizer launch``: becomes the container, by Mesos' own ``MesosContainerizerLaunch::execute``.

The agent passes the flags in the environment (``MESOS_CONTAINERIZER_*``) and pipes as inherited descriptors. Of the
program's other subcommands the local cluster's isolators use none.
"""

from __future__ import annotations

import os
import signal
import sys

from polly_mesos.mesos.local.native import Library, NativeError, memory, offset, word

_LAUNCH = "_ZN5mesos8internal5slave24MesosContainerizerLaunch"
_FLAGS_OFFSET = 224  # of MesosContainerizerLaunch::flags


def main() -> int:
    """Run the container; returns only where that failed."""
    if sys.argv[1:2] != ["launch"]:
        print(f"mesos-containerizer: only 'launch' is known here, not {sys.argv[1:]}", file=sys.stderr)  # noqa: T201
        return 2
    # Mesos gives the container its own environment, but runs the preparing commands in this one
    library = os.environ.pop("POLLY_LIBMESOS")
    os.environ.pop("LD_LIBRARY_PATH", None)
    # Python ignores these two, and a program inherits what is ignored
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        mesos = Library(library)
        launch = memory()
        flags = launch + _FLAGS_OFFSET
        mesos.call(f"{_LAUNCH}5FlagsC1Ev", flags)
        base = flags + offset(word(flags) - 24)
        mesos.load_flags(base, "MESOS_CONTAINERIZER_", ["mesos-containerizer", *sys.argv[2:]], unknown_allowed=False)
        return mesos.call_int(f"{_LAUNCH}7executeEv", launch)
    except (NativeError, OSError) as error:
        print(f"mesos-containerizer: {error}", file=sys.stderr)  # noqa: T201
        return 1
