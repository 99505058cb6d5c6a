"""What a host asks the platform about itself: its metadata service. Standard library only, as all that travels."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping

from polly_mesos.errors import HostError

_LARGEST_ANSWER = 1024 * 1024


def fetch(url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, timeout: float = 2.0) -> bytes:
    """The body of a metadata service's answer. No proxy is used: the address only means something on this host.

    :param timeout: seconds
    :raises HostError: nothing answers there, or it refuses
    """
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            body: bytes = answer.read(_LARGEST_ANSWER)
            return body
    except urllib.error.HTTPError as error:
        error.close()
        raise HostError(
            f"the platform's metadata service refuses {method} {url}: {error.code} {error.reason}",
            remedy="see whether the instance may use its metadata service, and whether metadata_endpoint is right",
        ) from error
    except (OSError, ValueError) as error:
        raise HostError(
            f"the platform's metadata service does not answer {method} {url}: {error}",
            remedy="this agent must be an instance of the platform; otherwise correct metadata_endpoint",
        ) from error


def fill(text: str, node: str) -> str:
    """A setting with ``{hostname}``, ``{port}`` and ``{node}`` replaced by the agent's, for several on one machine.

    :param node: ``host:port``
    """
    hostname, _, port = node.rpartition(":")
    return text.replace("{hostname}", hostname).replace("{port}", port).replace("{node}", node)
