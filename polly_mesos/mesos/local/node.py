"""One real Mesos master or agent as this process.

``LIBMESOS master IP PORT`` or ``LIBMESOS agent IP PORT MASTER``, started with ``LD_LIBRARY_PATH`` set to the library's
directory. Every Mesos flag is an environment variable ``MESOS_<FLAG>``. It does what Mesos' own ``src/local/local.cpp``
and ``src/slave/main.cpp`` do, and ends with the default action of the signal it gets, as they do. Runs without
site-packages.
"""

from __future__ import annotations

import os
import signal
import sys

from polly_mesos.mesos.local.native import (
    STRING,
    Library,
    NativeError,
    flags_base,
    memory,
    offset,
    option,
    put,
    string,
    word,
)

_AGENT = "_ZN5mesos8internal5slave"
_OPTIONAL_STRING = f"RK6OptionI{STRING}E"
# Slave::Slave(id, flags, detector, containerizer, files, garbage collector, status updates, resource estimator,
# QoS controller, secret generator, volume gid manager, future tracker, CSI server, domain socket, authorizer)
_AGENT_CONSTRUCTOR = (
    f"{_AGENT}5SlaveC1ERK{STRING}RKNS1_5FlagsEPNS_6master8detector14MasterDetectorEPNS1_13ContainerizerE"
    "PNS0_5FilesEPNS1_16GarbageCollectorEPNS1_23TaskStatusUpdateManagerEPNS_5slave17ResourceEstimatorE"
    "PNSQ_13QoSControllerEPNS_15SecretGeneratorEPNS1_16VolumeGidManagerEPNS0_20PendingFutureTrackerE"
    "ON7process5OwnedINS1_9CSIServerEEERK6OptionINS11_7network8internal6SocketINS17_4unix7AddressEEEERK"
    "S16_IPNS_10AuthorizerEE"
)
_SECOND = 10**9  # Mesos' Duration counts nanoseconds


def start_master(mesos: Library) -> None:
    """``local::launch`` without agents: the master, its registry and a detector that appoints it."""
    flags = memory()
    local = "_ZN5mesos8internal5local"
    mesos.call(f"{local}5FlagsC1Ev", flags)
    mesos.load_flags(flags_base(flags), "MESOS_", ["mesos-local", "--num_slaves=0"], unknown_allowed=True)
    mesos.call(f"{local}6launchERKNS1_5FlagsEPNS_9allocator9AllocatorE", memory(), flags, None)


def start_agent(mesos: Library, name: str, master: str) -> None:
    """What the agent's own main function assembles, with everything optional left out."""
    flags = memory(1 << 18)
    mesos.call(f"{_AGENT}5FlagsC1Ev", flags)
    mesos.load_flags(flags_base(flags), "MESOS_", ["mesos-agent"], unknown_allowed=True)

    fetcher, collector, updates, files = memory(), memory(), memory(), memory()
    mesos.call(f"{_AGENT}7FetcherC1ERKNS1_5FlagsE", fetcher, flags)
    mesos.call(f"{_AGENT}16GarbageCollectorC1ERK{STRING}", collector, string(os.environ["MESOS_WORK_DIR"]))
    mesos.call(f"_ZN5mesos8internal5FilesC1E{_OPTIONAL_STRING}RKS2_IPNS_10AuthorizerEE", files, option(), option())
    mesos.call(f"{_AGENT}23TaskStatusUpdateManagerC1ERKNS1_5FlagsE", updates, flags)
    secrets = mesos.create("secret resolver", f"_ZN5mesos14SecretResolver6createE{_OPTIONAL_STRING}", option())
    containerizer = mesos.create(
        "containerizer",
        f"{_AGENT}13Containerizer6createERKNS1_5FlagsEbPNS1_7FetcherEPNS1_16GarbageCollectorEPNS_14SecretResolverE"
        "PNS1_16VolumeGidManagerEPNS0_20PendingFutureTrackerEPNS1_9CSIServerE",
        *(flags, False, fetcher, collector, secrets, None, None, None),
    )
    detector = mesos.create(
        "master detector",
        f"_ZN5mesos6master8detector14MasterDetector6createE{_OPTIONAL_STRING}SC_RKS3_I8DurationE",
        *(option(master), option(), put(memory(64), 0, 10 * _SECOND)),
    )
    estimator = mesos.create(
        "resource estimator", f"_ZN5mesos5slave17ResourceEstimator6createE{_OPTIONAL_STRING}", option()
    )
    controller = mesos.create("QoS controller", f"_ZN5mesos5slave13QoSController6createE{_OPTIONAL_STRING}", option())

    agent = memory(1 << 20)
    mesos.call(
        _AGENT_CONSTRUCTOR,
        *(agent, string(name), flags, detector, containerizer, files, collector, updates, estimator, controller),
        *(None, None, None, memory(64), option(), option()),
    )
    process = agent + offset(word(agent) - 24)  # the virtual base ProcessBase
    mesos.call("_ZN7process5spawnEPNS_11ProcessBaseEb", memory(), process, False)


def main() -> None:
    """Run until a signal ends it."""
    library, role, ip, port = sys.argv[1:5]
    # the loader has read it; left in, every executor and task would load these old libraries
    os.environ.pop("LD_LIBRARY_PATH", None)
    os.environ.update(LIBPROCESS_IP=ip, LIBPROCESS_PORT=port)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    name = "master" if role == "master" else "slave(1)"
    try:
        mesos = Library(library)
        mesos.call(
            f"_ZN7process10initializeE{_OPTIONAL_STRING}S9_S9_",
            *(option(name), option(f"mesos-{role}-readwrite"), option(f"mesos-{role}-readonly")),
        )
        if role == "master":
            start_master(mesos)
        else:
            start_agent(mesos, name, sys.argv[5])
    except (NativeError, OSError) as error:
        sys.exit(f"The Mesos {role} cannot start: {error}")
    while True:
        signal.pause()
