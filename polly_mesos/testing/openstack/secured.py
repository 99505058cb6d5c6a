"""The services of a cloud behind TLS, as a region of the catalogue: what a load balancer does before them."""

from __future__ import annotations

import ssl
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from polly_mesos.testing.openstack.proxy import Proxy

if TYPE_CHECKING:
    from polly_mesos.testing.openstack.cloud import OpenStack


class SecuredRegion:
    """Keystone, Cinder and Nova by https. Ends with its block; the region stays in the catalogue and is away then.

    :param name: the region's, which no other one has
    :param keystone: the certificate of the identity service
    :param cinder: that of Cinder, and ``nova`` that of Nova; the same where none is given
    :ivar identity_url: Keystone, version 3
    :ivar cinder: what stands before Cinder, and counts what is asked there; ``nova`` before Nova
    """

    def __init__(
        self,
        cloud: OpenStack,
        name: str,
        keystone: ssl.SSLContext,
        *,
        cinder: ssl.SSLContext | None = None,
        nova: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self._stack = ExitStack()
        self.keystone = self._front(cloud.identity_url.removesuffix("/v3"), keystone)
        self.cinder = self._front(cloud.volume_url.removesuffix("/v3"), cinder or keystone)
        self.nova = self._front(cloud.nova.url, nova or keystone)
        self.identity_url = f"{self.keystone.url}/v3"
        identity: Any = cloud.connect().identity
        identity.create_region(id=name)
        for kind, url in (
            ("block-storage", f"{self.cinder.url}/v3/%(project_id)s"),
            ("compute", f"{self.nova.url}/v2.1"),
        ):
            (service,) = identity.services(type=kind)
            identity.create_endpoint(service_id=service.id, interface="public", url=url, region_id=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def login(self, cloud: OpenStack, **changes: Any) -> dict[str, Any]:
        """The settings of a service of Polly's in this region, without what makes it trust the certificates."""
        return cloud.login(auth_url=self.identity_url, region_name=self.name, **changes)

    def _front(self, target: str, certificate: ssl.SSLContext) -> Proxy:
        front = Proxy(target, certificate)
        self._stack.callback(front.close)
        return front
