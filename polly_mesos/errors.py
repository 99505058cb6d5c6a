"""Every error that Polly raises on purpose.

Each class has a stable ``code`` for programs, the HTTP status and the process exit code that it maps to, and whether
trying again can help. Each message names what was wrong; ``remedy`` says what to do about it.

::

    PollyError
    ├── ConfigurationError            polly.yml or a flag is wrong
    ├── InvalidRequest                a request's field is wrong
    ├── Unauthenticated · Forbidden   who are you · you may not
    ├── NotFound                      UnknownVolume UnknownPool UnknownAgent UnknownHost UnknownProfile UnknownDriver
    │                                 UnknownService UnknownOperation
    ├── Conflict                      VolumeInUse StaleGeneration AlreadyExists WrongState
    ├── InsufficientCapacity          the ledger has no such space to give
    ├── NotSupported                  the driver or platform declares that it cannot
    ├── PlatformError                 PlatformUnavailable PlatformThrottled PlatformDenied PlatformFull
    ├── HostError                     UnsafeFormat DeviceNotFound MountFailed MissingTool
    ├── SchedulerUnreachable          the scheduler half does not answer
    ├── LedgerError                   LedgerCorrupt LedgerTooNew LedgerOfAnotherCluster LedgerLocked
    └── MesosError                    MasterUnreachable FrameworkRefused AgentUnreachable ProviderGone LocalMesosError
                                      DownloadFailed UnsupportedPlatform
"""

from __future__ import annotations

from typing import ClassVar


class PollyError(Exception):
    """Base of all errors raised on purpose.

    :param message: what is wrong, naming the thing and the value
    :param remedy: what the reader can do about it; empty where nothing can be done but waiting
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    def as_json(self) -> dict[str, object]:
        """The error as the HTTP API and ``--format json`` show it."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy, "retryable": self.retryable}


class FieldError(PollyError):
    """An error that one named field caused.

    :param field: dotted path of the field
    :param value: what was given, as text
    """

    def __init__(self, message: str, *, remedy: str = "", field: str = "", value: object = None) -> None:
        super().__init__(message, remedy=remedy)
        self.field = field
        self.value = value

    def as_json(self) -> dict[str, object]:
        return {**super().as_json(), "field": self.field, "value": None if self.value is None else str(self.value)}


class ConfigurationError(FieldError):
    """polly.yml, an environment variable or a command-line flag is wrong."""

    code = "configuration"
    http_status = 422
    exit_code = 2


class InvalidRequest(FieldError):
    """A request cannot be understood or asks for something that is not allowed; nothing was changed."""

    code = "invalid-request"
    http_status = 400
    exit_code = 2


class Unauthenticated(PollyError):
    """The caller did not prove who it is."""

    code = "unauthenticated"
    http_status = 401
    exit_code = 4


class Forbidden(PollyError):
    """The caller is known and may not do this."""

    code = "forbidden"
    http_status = 403
    exit_code = 4


class NotFound(PollyError):
    """The thing named does not exist."""

    code = "not-found"
    http_status = 404
    exit_code = 3


class UnknownVolume(NotFound):
    """No such volume, in the ledger or on the platform."""

    code = "unknown-volume"


class UnknownPool(NotFound):
    """No such pool."""

    code = "unknown-pool"


class UnknownAgent(NotFound):
    """No such agent."""

    code = "unknown-agent"


class UnknownHost(NotFound):
    """The platform has no such host, or not any more."""

    code = "unknown-host"


class UnknownService(NotFound):
    """No service of that name is configured."""

    code = "unknown-service"


class UnknownProfile(NotFound):
    """No such profile."""

    code = "unknown-profile"


class UnknownDriver(NotFound):
    """No driver of that name is installed."""

    code = "unknown-driver"


class UnknownOperation(NotFound):
    """No such operation."""

    code = "unknown-operation"


class Conflict(PollyError):
    """The thing is in a state that does not allow this."""

    code = "conflict"
    http_status = 409
    exit_code = 5


class VolumeInUse(Conflict):
    """The volume is held by a host or a task."""

    code = "volume-in-use"


class StaleGeneration(Conflict):
    """The caller holds an older publication than the ledger knows: it lost the volume and must stop using it."""

    code = "stale-generation"


class AlreadyExists(Conflict):
    """Something of that name exists with other properties."""

    code = "already-exists"


class WrongState(Conflict):
    """The record is in another state than the step needs."""

    code = "wrong-state"


class InsufficientCapacity(PollyError):
    """The ledger has no such space to give."""

    code = "insufficient-capacity"
    http_status = 507
    exit_code = 6


class NotSupported(PollyError):
    """The driver or the platform declares that it cannot do this."""

    code = "not-supported"
    http_status = 501
    exit_code = 7


class PlatformError(PollyError):
    """A storage platform refused or failed.

    :param outcome_unknown: true where the call may have taken effect (a lost answer, a time-out): the caller must
        look before it does anything else, and never assume that nothing happened
    :param request_id: the platform's own name of the request, for its support
    """

    code = "platform"
    http_status = 502
    exit_code = 8

    def __init__(self, message: str, *, remedy: str = "", outcome_unknown: bool = False, request_id: str = "") -> None:
        super().__init__(f"{message} [request {request_id}]" if request_id else message, remedy=remedy)
        self.outcome_unknown = outcome_unknown
        self.request_id = request_id

    def as_json(self) -> dict[str, object]:
        return {**super().as_json(), "request_id": self.request_id} if self.request_id else super().as_json()


class PlatformUnavailable(PlatformError):
    """The platform cannot be reached or does not answer now."""

    code = "platform-unavailable"
    http_status = 503
    retryable = True


class PlatformThrottled(PlatformError):
    """The platform asks us to slow down."""

    code = "platform-throttled"
    http_status = 503
    retryable = True


class PlatformDenied(PlatformError):
    """The platform does not know the credentials, or they lack a permission; nothing was changed."""

    code = "platform-denied"


class PlatformFull(PlatformError):
    """The platform has no space left, or a quota is used up."""

    code = "platform-full"
    http_status = 507
    retryable = True


class HostError(PollyError):
    """A step on the agent's host failed."""

    code = "host"
    exit_code = 9


class UnsafeFormat(HostError):
    """The device holds something, or was formatted before: it is not formatted again.

    :param found: what was found on the device, in words
    """

    code = "unsafe-format"

    def __init__(self, message: str, *, found: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.found = found


class DeviceNotFound(HostError):
    """The attached volume did not appear on the host."""

    code = "device-not-found"
    retryable = True


class MountFailed(HostError):
    """Mounting or unmounting failed."""

    code = "mount-failed"
    retryable = True


class MissingTool(HostError):
    """A program that the host needs is not installed."""

    code = "missing-tool"


class SchedulerUnreachable(PollyError):
    """The scheduler half does not answer."""

    code = "scheduler-unreachable"
    http_status = 503
    exit_code = 12
    retryable = True


class LedgerError(PollyError):
    """The ledger cannot be used."""

    code = "ledger"
    exit_code = 10


class LedgerCorrupt(LedgerError):
    """The ledger's file is damaged, or its contents contradict each other."""

    code = "ledger-corrupt"


class LedgerTooNew(LedgerError):
    """A newer Polly wrote this ledger."""

    code = "ledger-too-new"


class LedgerOfAnotherCluster(LedgerError):
    """The ledger belongs to another cluster."""

    code = "ledger-of-another-cluster"


class LedgerLocked(LedgerError):
    """Another scheduler holds this ledger."""

    code = "ledger-locked"


class MesosError(PollyError):
    """Something about Mesos failed."""

    code = "mesos"
    http_status = 502
    exit_code = 11


class MasterUnreachable(MesosError):
    """No Mesos master answers."""

    code = "master-unreachable"
    retryable = True


class FrameworkRefused(MesosError):
    """The master refused the framework's registration."""

    code = "framework-refused"


class AgentUnreachable(MesosError):
    """The Mesos agent does not answer."""

    code = "agent-unreachable"
    retryable = True


class ProviderGone(MesosError):
    """The agent does not know the resource provider's id (any more)."""

    code = "provider-gone"


class LocalMesosError(MesosError):
    """The local Mesos could not be started or controlled."""

    code = "local-mesos"


class DownloadFailed(LocalMesosError):
    """A package could not be downloaded or verified."""

    code = "download-failed"
    retryable = True


class UnsupportedPlatform(LocalMesosError):
    """This machine cannot run the local Mesos."""

    code = "unsupported-platform"
