"""What a Mesos agent tells an executor in its environment (``executorEnvironment`` in src/slave/slave.cpp)."""

from __future__ import annotations

from collections.abc import Mapping

from polly_mesos.errors import ConfigurationError
from polly_mesos.mesos.event_stream import join_address, split_address

_DEFAULT_PORT = 5051
_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "secs": 1.0,
    "mins": 60.0,
    "hrs": 3600.0,
    "days": 86400.0,
    "weeks": 604800.0,
}


def required(environment: Mapping[str, str], name: str) -> str:
    """The value of a variable that every executor has.

    :raises ConfigurationError: it is not set
    """
    value = environment.get(name)
    if not value:
        raise ConfigurationError(
            f"the environment variable {name} is not set",
            remedy="Only a Mesos agent can start an executor.",
            field=name,
        )
    return value


def agent_address(environment: Mapping[str, str]) -> tuple[str, str]:
    """The agent's address (host:port) and what its HTTP paths begin with.

    The beginning is the name in its libprocess PID, ``slave(1)@10.0.0.1:5051`` for example: ``/slave(1)``.

    :raises ConfigurationError: no address is given, or what is given is none
    """
    name, _, pid_address = environment.get("MESOS_SLAVE_PID", "").rpartition("@")
    variable = "MESOS_AGENT_ENDPOINT"
    address = environment.get(variable)
    if not address and pid_address:
        address, variable = pid_address, "MESOS_SLAVE_PID"
    try:
        endpoint = join_address(*split_address(address or required(environment, variable), _DEFAULT_PORT))
    except ValueError as error:
        raise ConfigurationError(
            f"{variable} is {address or pid_address!r}, not an agent's host:port", field=variable, value=address
        ) from error
    return endpoint, f"/{name}" if name else ""


def duration(environment: Mapping[str, str], name: str, default: float) -> float:
    """Seconds in a duration as Mesos writes them, such as ``15mins`` (3rdparty/stout/include/stout/duration.hpp).

    :param default: seconds where the variable is not set
    :raises ConfigurationError: it is not a duration
    """
    text = environment.get(name, "").strip()
    if not text:
        return default
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        return float(number) * _UNITS[text.removeprefix(number)]
    except (ValueError, KeyError) as error:
        raise ConfigurationError(f"{name} is {text!r}, not a duration", field=name, value=text) from error
