"""polly.yml -> :class:`Configuration`, or all of its mistakes at once."""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from polly_mesos.config.configuration import Configuration
from polly_mesos.config.document import ConfigurationErrors, ConfigurationMistake, Document, read_document
from polly_mesos.config.profiles import read_profiles
from polly_mesos.config.quantities import Mistake
from polly_mesos.config.services import read_services
from polly_mesos.config.settings import (
    AgentSettings,
    CheckSettings,
    HttpSettings,
    LedgerSettings,
    MesosSettings,
    PlannerSettings,
    check_name,
)
from polly_mesos.config.validation import suggestion, validate

_SECTIONS = ("cluster", "mesos", "http", "ledger", "agents", "services", "profiles", "planner", "check")
_WRITTEN_PASSWORD = re.compile(r"zk://[^@/$]+@")
_OTHERS_MAY_READ = stat.S_IROTH | stat.S_IWOTH


def load(path: Path | str, environment: Mapping[str, str] | None = None) -> Configuration:
    """Read and validate a configuration file. Nothing is contacted, and no driver is started.

    :param environment: where ``${NAME}`` is looked up; the process's own if None
    :raises ConfigurationErrors: it cannot be read, or anything in it is wrong
    """
    path = Path(path)
    source = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise ConfigurationErrors(
            source, [ConfigurationMistake(0, "", "", message, "begin with a copy of examples/polly.yml")]
        ) from None
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise ConfigurationErrors(source, [ConfigurationMistake(line, "", "", "is not UTF-8 text")]) from None
    document = read_document(text, environment)
    configuration = _read(document, path) if document.values else None
    if document.mistakes or configuration is None:
        raise ConfigurationErrors(source, document.mistakes)
    return configuration


def _read(document: Document, path: Path) -> Configuration | None:
    """Every section is read, so that every mistake is found; None where one could not be."""
    for key in document.values:
        if key not in _SECTIONS:
            document.mistake_at_key((key,), "is not known here", suggestion(key, _SECTIONS))
    directory = path.absolute().parent
    cluster = _cluster(document)
    mesos = _mesos(document, directory)
    http = _http(document)
    ledger = validate(LedgerSettings, section(document, "ledger"), document, ("ledger",))
    agents = validate(AgentSettings, section(document, "agents"), document, ("agents",))
    services = read_services(document)
    profiles, capacities = read_profiles(document, services)
    planner = validate(PlannerSettings, section(document, "planner"), document, ("planner",))
    check = validate(CheckSettings, section(document, "check"), document, ("check",))
    if not (cluster and mesos and http and ledger and agents and planner and check):
        return None
    return Configuration(
        path=path,
        cluster=cluster,
        mesos=mesos,
        http=http,
        ledger=ledger.model_copy(update={"path": directory / ledger.path}),
        agents=agents,
        services={name: service for name, service in services.items() if service},
        profiles=profiles,
        planner=planner,
        check=check,
        capacities=capacities,
        notes=tuple(note.text(str(path)) for note in document.notes),
    )


def section(document: Document, name: str) -> Any:
    """A section's values; one that is left out or empty has no keys."""
    values = document.values.get(name)
    return {} if values is None else values


def _cluster(document: Document) -> str | None:
    name = document.values.get("cluster")
    if name is None:
        document.mistake(("cluster",), "is missing", "write cluster: NAME")
    elif not isinstance(name, str):
        document.mistake(("cluster",), "is not text", "put it in quotes")
    else:
        try:
            return check_name(name)
        except Mistake as mistake:
            document.mistake(("cluster",), mistake.message, mistake.remedy)
    return None


def _mesos(document: Document, directory: Path) -> MesosSettings | None:
    document.secret.add(("mesos", "secret"))
    settings = validate(MesosSettings, section(document, "mesos"), document, ("mesos",))
    if settings is None:
        return None
    if _WRITTEN_PASSWORD.match(document.written.get(("mesos", "master"), "")):
        document.mistake(("mesos", "master"), "has a password in the file", "write zk://USER:${NAME}@HOST:2181/mesos")
    secret = settings.secret
    if secret is not None and ("mesos", "secret") not in document.referred:
        document.mistake(
            ("mesos", "secret"), "must not stand in the file", "write secret: ${NAME} or secret_file: PATH"
        )
    if settings.secret_file is not None:
        if secret is not None:
            document.mistake(("mesos", "secret_file"), "is given beside secret", "keep one of the two")
        secret = _read_secret(directory / settings.secret_file, document, ("mesos", "secret_file"))
    if secret is not None and not settings.principal:
        document.mistake(("mesos", "principal"), "is missing, and a secret is given", "write principal: NAME")
    return settings.model_copy(update={"secret": secret})


def _read_secret(path: Path, document: Document, place: tuple[str, ...]) -> SecretStr | None:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        document.mistake(place, f"cannot be read: {reason}", "write the secret, and nothing else, into that file")
        return None
    if mode & _OTHERS_MAY_READ:
        document.mistake(place, "can be read or written by everybody on this machine", f"chmod 600 {path}")
    if not text:
        document.mistake(place, "is an empty file", "write the secret, and nothing else, into it")
    return SecretStr(text)


def _http(document: Document) -> HttpSettings | None:
    settings = validate(HttpSettings, section(document, "http"), document, ("http",))
    if settings is not None and not settings.advertise and not _is_loopback(settings.address[0]):
        document.mistake(
            ("http", "listen"),
            "is not a loopback address, and http.advertise is missing",
            "write advertise: http://HOST:PORT, the URL under which agents reach Polly",
        )
    return settings


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
