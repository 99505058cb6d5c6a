"""Rackspace's identity service, version 2, as its public cloud had it: login by API key or password, and a catalogue.

It gives out tokens of the cloud's own Keystone, so that they are good at the Cinder behind it.
"""

from __future__ import annotations

import secrets

import httpx

from polly_mesos.testing.openstack.serving import Answer, Request, Server, as_json

_API_KEY = "RAX-KSKEY:apiKeyCredentials"


class RackspaceIdentity:
    """Knows one user.

    :ivar url: as in ``auth_url``, with the version
    :ivar api_key: the user's
    """

    def __init__(self, keystone: str, cinder: str, user: str, project: str, password: str, region: str) -> None:
        self._keystone, self._cinder, self._region = keystone, cinder, region
        self._user, self._project, self._password = user, project, password
        self.api_key = secrets.token_hex(16)
        self._server = Server(self._answer, "rackspace-identity")
        self.url = f"{self._server.url}/v2.0"

    def close(self) -> None:
        """Serve no more."""
        self._server.close()

    def _answer(self, request: Request) -> Answer:
        if request.method != "POST" or request.path != "/v2.0/tokens":
            return as_json(404, {"itemNotFound": {"code": 404, "message": "Resource Not Found"}})
        asked = request.json().get("auth")
        if not isinstance(asked, dict) or len([key for key in asked if key in (_API_KEY, "passwordCredentials")]) != 1:
            return as_json(400, {"badRequest": {"code": 400, "message": "Invalid request body"}})
        if not self._is_right(asked):
            told = "Unable to authenticate user with credentials provided."
            return as_json(401, {"unauthorized": {"code": 401, "message": told}})
        return self._log_in()

    def _is_right(self, asked: dict[str, dict[str, str]]) -> bool:
        if _API_KEY in asked:
            given = asked[_API_KEY]
            return given.get("username") == self._user and given.get("apiKey") == self.api_key
        given = asked["passwordCredentials"]
        return given.get("username") == self._user and given.get("password") == self._password

    def _log_in(self) -> Answer:
        default = {"id": "default"}
        user = {"name": self._user, "domain": default, "password": self._password}
        asked = {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": self._project, "domain": default}},
        }
        answer = httpx.post(f"{self._keystone}/auth/tokens", json={"auth": asked}, timeout=30.0, trust_env=False)
        answer.raise_for_status()
        token = answer.json()["token"]
        tenant = token["project"]["id"]
        endpoint = {"region": self._region, "tenantId": tenant, "publicURL": f"{self._cinder}/{tenant}"}
        access = {
            "token": {
                "id": answer.headers["X-Subject-Token"],
                "expires": token["expires_at"],
                "tenant": {"id": tenant, "name": tenant},
                "RAX-AUTH:authenticatedBy": ["APIKEY"],
            },
            "serviceCatalog": [
                {"name": "cloudBlockStorage", "type": "volume", "endpoints": [endpoint]},
            ],
            "user": {
                "id": token["user"]["id"],
                "name": self._user,
                "roles": [],
                "RAX-AUTH:defaultRegion": self._region,
            },
        }
        return as_json(200, {"access": access})
