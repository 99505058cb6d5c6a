"""Refusals, in the two formats in which Compute Engine tells them: of a request, and of an operation."""

from __future__ import annotations

from http import HTTPStatus

from polly_mesos.model import Json


class ApiError(Exception):
    """A request that is refused; nothing was changed.

    :param status: HTTP status
    :param reason: Google's reason, as ``notFound`` or ``quotaExceeded``
    """

    def __init__(self, status: int, reason: str, message: str, *, location: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.location = location

    def as_json(self) -> Json:
        """The body of the answer."""
        told: Json = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location:
            told |= {"location": self.location, "locationType": "parameter"}
        return {"error": {"code": self.status, "message": self.message, "errors": [told]}}


class OperationError(Exception):
    """An operation that fails after it was accepted.

    :param code: as ``RESOURCE_IN_USE_BY_ANOTHER_RESOURCE``
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def as_json(self) -> Json:
        """What the operation has more than others."""
        return {
            "error": {"errors": [{"code": self.code, "message": self.message}]},
            "httpErrorStatusCode": self.status,
            "httpErrorMessage": HTTPStatus(self.status).phrase.upper(),
        }


def invalid(message: str, *, location: str = "") -> ApiError:
    """What is not allowed by itself, whatever else there is."""
    return ApiError(400, "invalid", message, location=location)


def invalid_field(field: str, value: object, why: str) -> ApiError:
    """A field of the body that is not allowed."""
    return invalid(f"Invalid value for field '{field}': '{value}'. {why}")


def not_found(link: str) -> ApiError:
    """The resource, named from ``projects/`` on, is not there."""
    return ApiError(404, "notFound", f"The resource '{link}' was not found")
