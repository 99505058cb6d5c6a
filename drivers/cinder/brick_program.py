"""A program for a Python that has os-brick: one request on standard input, one answer on standard output, both JSON.

It runs as root, apart from the executor, which has none of os-brick's libraries; so it imports nothing of ours. What
os-brick does as root it does in this process. What os-brick or a program below it prints is no answer and goes to
standard error.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1
_ON_A_SHARE = ("nfs", "glusterfs", "quobyte", "scality", "vzstorage")


def main() -> None:
    """Answer ``{"answer": …}``, or ``{"error": …, "kind": …}`` with the name of the exception's class."""
    answering = os.dup(1)
    os.dup2(2, 1)
    # An executor that is gone must not have its work done behind the back of the next one.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answer: dict[str, Any]
    try:
        answer = {"answer": _do(json.load(sys.stdin))}
    except ImportError as error:
        answer = {"error": str(error), "kind": "missing"}
    except Exception as error:  # noqa: BLE001 - whatever it is, whoever asked is told
        answer = {"error": str(error), "kind": type(error).__name__}
    with os.fdopen(answering, "w") as file:
        json.dump(answer, file)


def _do(request: dict[str, Any]) -> Any:
    """Do what is asked: connector, connect, disconnect or extend."""
    connectors = _prepared(request["locks"])
    if request["do"] == "connector":
        return connectors.get_connector_properties("", request["address"], False, False, host=request["host"])
    connection = request["connection"]
    protocol = str(connection["driver_volume_type"]).lower()
    options: dict[str, Any] = {"conn": connection}
    if protocol in _ON_A_SHARE:
        options[f"{protocol}_mount_point_base"] = request["mounts"]
    if protocol == "rbd":
        options["do_local_attach"] = True  # else it gives an object of librbd's in place of a device
    connector = connectors.InitiatorConnector.factory(protocol, "", use_multipath=False, **options)
    if request["do"] == "connect":
        return dict(connector.connect_volume(connection))
    if request["do"] == "disconnect":
        return connector.disconnect_volume(connection, request["device"])
    return connector.extend_volume(connection)


def _prepared(locks: str) -> Any:
    """os-brick's connectors, with its privileged functions in this process and its lock files in one directory."""
    brick = importlib.import_module("os_brick")
    privileged = importlib.import_module("os_brick.privileged")
    context = importlib.import_module("oslo_privsep.priv_context").PrivContext
    for found in vars(privileged).values():
        if isinstance(found, context):
            found.set_client_mode(False)
    _tell_of_missing_programs(importlib.import_module("os_brick.privileged.rootwrap"))
    importlib.import_module("oslo_concurrency.lockutils").set_defaults(locks)
    brick.setup(importlib.import_module("oslo_config.cfg").CONF)
    return importlib.import_module("os_brick.initiator.connector")


def _tell_of_missing_programs(rootwrap: Any) -> None:
    """Let os-brick hear of a program that is not there as of one that failed.

    It expects no other error: version 6.1 has no connector at all on a host without DMI and without ``dmidecode``.
    """
    failed = importlib.import_module("oslo_concurrency.processutils").ProcessExecutionError
    execute = rootwrap.custom_execute

    def told(*command: str, **options: Any) -> Any:
        try:
            return execute(*command, **options)
        except OSError as error:
            raise failed(cmd=command[0], description=str(error)) from error

    rootwrap.custom_execute = told


if __name__ == "__main__":
    main()
