"""One real Mesos master or agent as this process.

``LIBMESOS master IP PORT [zk://...]`` or ``LIBMESOS agent IP PORT MASTER``, started with ``LD_LIBRARY_PATH`` set to the
library's directory. Every Mesos flag is an environment variable ``MESOS_<FLAG>``. It does what Mesos' own
``src/local/local.cpp``, ``src/master/main.cpp`` and ``src/slave/main.cpp`` do, and ends with the default action of the
signal it gets, as they do, or when the agent has ended itself. Runs without site-packages.
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
_MASTER = "_ZN5mesos8internal6master"
# Master::Master(allocator, registrar, files, contender, detector, authorizer, agent removal limiter, flags)
_MASTER_CONSTRUCTOR = (
    f"{_MASTER}6MasterC1EPNS_9allocator9AllocatorEPNS1_9RegistrarEPNS0_5FilesEPNS_6master9contender15MasterContenderE"
    "PNSA_8detector14MasterDetectorERK6OptionIPNS_10AuthorizerEERKSH_ISt10shared_ptrIN7process11RateLimiterEEE"
    "RKNS1_5FlagsE"
)
_DEFAULT_ALLOCATOR = f"{_MASTER}9allocator14MesosAllocatorINS2_28HierarchicalAllocatorProcessINS2_9DRFSorterES5_EEEC1Ev"
_REGISTRAR_CONSTRUCTOR = f"{_MASTER}9RegistrarC1ERKNS1_5FlagsEPNS_5state5StateE{_OPTIONAL_STRING}"
# Log::Log(quorum, path, peers, initialize itself, metrics prefix)
_LOG_CONSTRUCTOR = f"_ZN5mesos3log3LogC1EiRK{STRING}RKSt3setIN7process4UPIDESt4lessISC_ESaISC_EEbRK6OptionIS7_E"
_FILES_CONSTRUCTOR = f"_ZN5mesos8internal5FilesC1E{_OPTIONAL_STRING}RKS2_IPNS_10AuthorizerEE"
_DETECTOR_FACTORY = f"_ZN5mesos6master8detector14MasterDetector6createE{_OPTIONAL_STRING}SC_RKS3_I8DurationE"
_CONTENDER_FACTORY = f"_ZN5mesos6master9contender15MasterContender6createE{_OPTIONAL_STRING}SC_RKS3_I8DurationE"
_FOREVER = -(10**9)  # libprocess takes a negative time-out, in nanoseconds, as none


def start_master(mesos: Library) -> None:
    """``local::launch`` without agents: the master, its registry and a detector that appoints it."""
    flags = memory()
    local = "_ZN5mesos8internal5local"
    mesos.call(f"{local}5FlagsC1Ev", flags)
    mesos.load_flags(flags_base(flags), "MESOS_", ["mesos-local", "--num_slaves=0"], unknown_allowed=True)
    mesos.call(f"{local}6launchERKNS1_5FlagsEPNS_9allocator9AllocatorE", memory(), flags, None)


def start_elected_master(mesos: Library, zookeeper: str) -> int:
    """What the master's own main function assembles where a ZooKeeper elects it, with a registry that survives it.

    The replicated log has one replica, this master's: a second master would need a log of its own.

    :return: the address of its process id
    """
    flags = memory(1 << 18)
    mesos.call(f"{_MASTER}5FlagsC1Ev", flags)
    mesos.load_flags(flags_base(flags), "MESOS_", ["mesos-master"], unknown_allowed=True)

    allocator, log, storage, registrar, files = memory(), memory(), memory(), memory(), memory()
    mesos.call(_DEFAULT_ALLOCATOR, allocator)
    os.makedirs(os.environ["MESOS_WORK_DIR"], exist_ok=True)
    path = os.path.join(os.environ["MESOS_WORK_DIR"], "replicated_log")
    mesos.call(_LOG_CONSTRUCTOR, log, 1, string(path), _empty_set(), True, option("registrar/"))
    mesos.call("_ZN5mesos5state10LogStorageC1EPNS_3log3LogEm", storage, log, 0)
    # State's own constructor is inline: a virtual table, whose functions begin after two words, and the storage
    state = put(memory(64), mesos.address("_ZTVN5mesos5state8protobuf5StateE") + 16, storage)
    mesos.call(_REGISTRAR_CONSTRUCTOR, registrar, flags, state, option())
    mesos.call(_FILES_CONSTRUCTOR, files, option(), option())
    election = (option(zookeeper), option(), _session_timeout(mesos))
    contender = mesos.create("master contender", _CONTENDER_FACTORY, *election)
    detector = mesos.create("master detector", _DETECTOR_FACTORY, *election)

    master = memory(1 << 20)
    mesos.call(
        _MASTER_CONSTRUCTOR,
        *(master, allocator, registrar, files, contender, detector, option(), option(), flags),
    )
    return _spawn(mesos, master)


def _empty_set() -> int:
    """An empty ``std::set``: the comparison, then the tree's header, whose left and right are the header itself."""
    address = memory(64)
    header = address + 8
    return put(address, 0, 0, 0, header, header, 0)


def _session_timeout(mesos: Library) -> int:
    """``Option<Duration>`` of the flag, with Mesos' own default."""
    text = os.environ.get("MESOS_ZK_SESSION_TIMEOUT", "10secs")
    nanoseconds = mesos.create("zk_session_timeout", f"_ZN8Duration5parseERK{STRING}", string(text))
    return put(memory(64), 0, nanoseconds)


def start_agent(mesos: Library, name: str, master: str) -> int:
    """What the agent's own main function assembles, with everything optional left out.

    :return: the address of its process id
    """
    flags = memory(1 << 18)
    mesos.call(f"{_AGENT}5FlagsC1Ev", flags)
    mesos.load_flags(flags_base(flags), "MESOS_", ["mesos-agent"], unknown_allowed=True)

    fetcher, collector, updates, files = memory(), memory(), memory(), memory()
    mesos.call(f"{_AGENT}7FetcherC1ERKNS1_5FlagsE", fetcher, flags)
    mesos.call(f"{_AGENT}16GarbageCollectorC1ERK{STRING}", collector, string(os.environ["MESOS_WORK_DIR"]))
    mesos.call(_FILES_CONSTRUCTOR, files, option(), option())
    mesos.call(f"{_AGENT}23TaskStatusUpdateManagerC1ERKNS1_5FlagsE", updates, flags)
    secrets = mesos.create("secret resolver", f"_ZN5mesos14SecretResolver6createE{_OPTIONAL_STRING}", option())
    containerizer = mesos.create(
        "containerizer",
        f"{_AGENT}13Containerizer6createERKNS1_5FlagsEbPNS1_7FetcherEPNS1_16GarbageCollectorEPNS_14SecretResolverE"
        "PNS1_16VolumeGidManagerEPNS0_20PendingFutureTrackerEPNS1_9CSIServerE",
        *(flags, False, fetcher, collector, secrets, None, None, None),
    )
    detector = mesos.create("master detector", _DETECTOR_FACTORY, option(master), option(), _session_timeout(mesos))
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
    return _spawn(mesos, agent)


def _spawn(mesos: Library, actor: int) -> int:
    process_id = memory()
    process = actor + offset(word(actor) - 24)  # the virtual base ProcessBase
    mesos.call("_ZN7process5spawnEPNS_11ProcessBaseEb", process_id, process, False)
    return process_id


def main() -> None:
    """Run until a signal ends it, or it has ended itself."""
    library, role, ip, port, *master = sys.argv[1:]
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
        if role == "agent":
            process_id = start_agent(mesos, name, *master)
        elif master:
            process_id = start_elected_master(mesos, *master)
        else:
            start_master(mesos)
            while True:
                signal.pause()
    except (NativeError, OSError) as error:
        sys.exit(f"The Mesos {role} cannot start: {error}")
    # an agent ends itself after --recover=cleanup
    mesos.call_int("_ZN7process4waitERKNS_4UPIDERK8Duration", process_id, put(memory(64), _FOREVER))
    # libprocess' threads still run: nothing is to be torn down under them
    os._exit(0)
