"""With which credentials the API is called: a key file, or Application Default Credentials.

Google's libraries find those, in this order: the file that GOOGLE_APPLICATION_CREDENTIALS names, what ``gcloud auth
application-default login`` wrote, the account of the instance
(https://docs.cloud.google.com/docs/authentication/application-default-credentials).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import google.auth
from google.auth.credentials import with_scopes_if_required
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.oauth2 import service_account

from drivers.gce.errors import of_credentials
from polly_mesos.errors import ConfigurationError, PlatformDenied, PollyError

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError)
"""What the libraries raise on a file of another form. Their texts may have parts of the file in them."""

Found = tuple[Any, str]


def find(key_file: str) -> Found:
    """The credentials, and the project that they name, which may be empty.

    :param key_file: of a service account; empty for Application Default Credentials
    :raises ConfigurationError: the file that is named is none
    :raises PlatformDenied: there are no credentials
    """
    if key_file:
        return _of_file(key_file, "key_file", lambda: _service_account(key_file))
    named = os.environ.get(_FILE, "")
    if named:
        return _of_file(named, _FILE, _application_default)
    try:
        return _application_default()
    except DefaultCredentialsError as error:
        remedy = "write key_file, or set up Application Default Credentials"
        raise PlatformDenied(f"there are no credentials: {_first_of(error)}", remedy=remedy) from None
    except GoogleAuthError as error:
        raise of_credentials(error, "looking for credentials") from error
    except (OSError, *_MALFORMED) as error:
        message = f"Application Default Credentials cannot be read: {type(error).__name__}"
        raise ConfigurationError(message, remedy="write key_file", field="key_file", value="") from None


def _of_file(path: str, field: str, load: Callable[[], Found]) -> Found:
    kind = "the key file of a service account" if field == "key_file" else "a file of credentials"

    def wrong(why: str, remedy: str) -> PollyError:
        return ConfigurationError(f"{field} {path!r} {why}", remedy=remedy, field=field, value=path)

    try:
        return load()
    except OSError as error:
        remedy = "correct the path, or let the user that Polly runs as read the file"
        raise wrong(f"cannot be read: {error.strerror}", remedy) from None
    except (DefaultCredentialsError, *_MALFORMED) as error:
        # The causes are left out: a traceback shows their texts, too.
        why = f": {_first_of(error)}" if isinstance(error, DefaultCredentialsError) else ""
        remedy = f"name a file as Google gives it out; {_FILE} may name other kinds of credentials than key files"
        raise wrong(f"is not {kind}{why}", remedy) from None
    except GoogleAuthError as error:
        raise of_credentials(error, f"using {field} {path!r}") from error


def _service_account(path: str) -> Found:
    found = service_account.Credentials.from_service_account_file(path, scopes=_SCOPES)  # type: ignore[no-untyped-call]
    return found, found.project_id or ""


def _application_default() -> Found:
    # Without scopes: with them the library asks another API for the project of an identity from elsewhere.
    found, project = google.auth.default()
    return with_scopes_if_required(found, _SCOPES), project or ""  # type: ignore[no-untyped-call]


def _first_of(error: GoogleAuthError) -> str:
    """Its text without that of its cause."""
    return str(error.args[0]) if error.args else type(error).__name__
