"""polly.yml -> validated settings, with the line of every mistake."""

from polly_mesos.config.configuration import Configuration, Service, describe
from polly_mesos.config.document import ConfigurationErrors, ConfigurationMistake
from polly_mesos.config.loading import load
from polly_mesos.config.settings import (
    AgentSettings,
    CheckSettings,
    Constraint,
    Fencing,
    HttpSettings,
    Isolation,
    LedgerSettings,
    MesosSettings,
    PlannerSettings,
    Policy,
)

__all__ = [
    "AgentSettings",
    "CheckSettings",
    "Configuration",
    "ConfigurationErrors",
    "ConfigurationMistake",
    "Constraint",
    "Fencing",
    "HttpSettings",
    "Isolation",
    "LedgerSettings",
    "MesosSettings",
    "PlannerSettings",
    "Policy",
    "Service",
    "describe",
    "load",
]
