"""Which microversion a service is asked in, found out from its own document of versions."""

from __future__ import annotations

from typing import Any

from keystoneauth1.discover import normalize_version_number

from drivers.cinder.failures import refused, request_id_of
from polly_mesos.errors import PlatformUnavailable

_OLDEST = (3, 0)
_NO_DOCUMENT = (400, 404, 405, 406, 410)


def newest_microversion(proxy: Any, doing: str) -> tuple[int, int]:
    """The newest that the block storage of a connection knows; 3.0 where it has no document of its versions.

    The SDK takes a document that it did not get for one that is not there, and would ask in 3.0 from then on. So
    where it has found none, it is asked for once more, and only the service's own word counts.

    :param proxy: the SDK's, of the block storage
    :raises PollyError: whether there is a document could not be found out
    :raises keystoneauth1.exceptions.ClientException: the service did not answer
    """
    data = proxy.get_endpoint_data()
    if data is None or data.status is None:
        url = str(proxy.get_endpoint()).removesuffix(f"/{proxy.get_project_id()}")
        answer = proxy.session.request(f"{url}/", "GET", raise_exc=False, connect_retries=0)
        if answer.status_code in _NO_DOCUMENT:
            return _OLDEST
        if not answer.ok:
            raise refused(answer, doing, change=False)
        return _told_by(answer, doing)
    return _numbers(data.max_microversion)


def _told_by(answer: Any, doing: str) -> tuple[int, int]:
    """What the document says of version 3 of the block storage."""
    try:
        versions = {str(one["id"]).partition(".")[0]: one.get("version") for one in answer.json()["versions"]}
        return _numbers(normalize_version_number(versions["v3"]) if versions["v3"] else None)
    except (ValueError, KeyError, TypeError) as error:
        raise PlatformUnavailable(
            f"{doing}: what tells the versions of the block storage is not in its format",
            remedy="see what answers at the address that the catalogue has",
            request_id=request_id_of(answer),
        ) from error


def _numbers(version: tuple[Any, ...] | None) -> tuple[int, int]:
    return (int(version[0]), int(version[1])) if version else _OLDEST
