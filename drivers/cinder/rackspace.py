"""Login at an identity service of version 2 as Rackspace has it: with an API key, or with a password.

The request and the answer are those of Rackspace's Identity API 2.0, ``POST /v2.0/tokens``; the API key is its
extension ``RAX-KSKEY:apiKeyCredentials``.
"""

from __future__ import annotations

from typing import Any

from keystoneauth1 import access, exceptions
from keystoneauth1.identity.v2 import Auth

_VOLUMES = ("volumev3", "block-storage", "volume", "volumev2")


class RackspaceAuth(Auth):
    """A plugin of keystoneauth. Its catalogue calls the block storage ``volume``, as that of version 1 was called.

    :param secret: the API key, or the password
    """

    def __init__(self, auth_url: str, user: str, secret: str, *, is_key: bool, tenant: str = "") -> None:
        super().__init__(auth_url, tenant_id=tenant or None)
        self._user, self._secret, self._is_key = user, secret, is_key

    def get_auth_data(self, headers: Any = None) -> dict[str, Any]:
        """The part of the request that proves who asks."""
        if self._is_key:
            return {"RAX-KSKEY:apiKeyCredentials": {"username": self._user, "apiKey": self._secret}}
        return {"passwordCredentials": {"username": self._user, "password": self._secret}}

    def get_cache_id_elements(self) -> dict[str, Any]:
        """Nothing is cached beyond this process."""
        return {"auth_url": self.auth_url, "username": self._user}

    def get_auth_ref(self, session: Any, **kwargs: Any) -> access.AccessInfoV2:
        """Log in.

        :raises exceptions.InvalidResponse: the answer is none of the identity service's
        """
        body: dict[str, Any] = {"auth": self.get_auth_data()}
        if self.tenant_id:
            body["auth"]["tenantId"] = self.tenant_id
        headers = {"Accept": "application/json"}
        answer = session.post(
            f"{self.auth_url.rstrip('/')}/tokens", json=body, headers=headers, authenticated=False, log=False
        )
        try:
            told = answer.json()
            if "token" not in told["access"]:
                raise KeyError("token")
        except (ValueError, KeyError, TypeError) as error:
            raise exceptions.InvalidResponse(response=answer) from error
        return access.AccessInfoV2(told)


def volume_endpoint(auth: RackspaceAuth, session: Any, region: str) -> str | None:
    """Where the catalogue says that the block storage is, whatever it calls it."""
    catalogue = auth.get_access(session).service_catalog
    known = {entry.get("type") for entry in catalogue.catalog}
    for kind in _VOLUMES:
        if kind in known:
            return str(catalogue.url_for(service_type=kind, interface="public", region_name=region or None))
    return None
