"""The SDK's connection for a service: who logs in, and that nothing is tried again behind our back."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import openstack
import urllib3
from keystoneauth1 import exceptions, session
from openstack import exceptions as sdk_exceptions
from openstack.config import OpenStackConfig

from drivers.cinder.rackspace import RackspaceAuth, volume_endpoint
from drivers.cinder.settings import CinderSettings
from polly_mesos.errors import ConfigurationError, PlatformDenied

_LOGIN = (
    "auth_url",
    "user_id",
    "password",
    "token",
    "application_credential_id",
    "application_credential_name",
    "application_credential_secret",
    "project_id",
    "project_name",
    "user_domain_id",
    "user_domain_name",
    "project_domain_id",
    "project_domain_name",
    "trust_id",
)


def connect(settings: CinderSettings) -> openstack.connection.Connection:
    """The SDK's connection. Nothing is asked of the cloud yet, but at Rackspace for the catalogue.

    :raises ConfigurationError: clouds.yaml has no such cloud, or the certificates to trust cannot be read
    """
    if settings.ca_cert and not settings.insecure:
        _check_bundle(settings.ca_cert, "ca_cert", settings.ca_cert)
    if settings.uses_identity_v2:
        return _at_rackspace(settings)
    options: dict[str, Any] = {"load_envvars": False, "app_name": "polly", **_network(settings)}
    login = _login(settings)
    if settings.cloud:
        return _from_file(settings, options, login)
    options["auth_type"] = _auth_type(settings)
    return openstack.connect(load_yaml_config=False, auth=login, **options)


def _network(settings: CinderSettings) -> dict[str, Any]:
    """Where to, and whom to trust. ``insecure`` counts with and without a bundle of certificates."""
    options: dict[str, Any] = {"interface": settings.interface, "api_timeout": settings.request_timeout}
    if settings.region_name:
        options["region_name"] = settings.region_name
    if settings.insecure:
        options["verify"] = False
    elif settings.ca_cert:
        options["cacert"] = str(Path(settings.ca_cert).expanduser())
    return options


def _login(settings: CinderSettings) -> dict[str, str]:
    login = {name: getattr(settings, name) for name in _LOGIN if getattr(settings, name)}
    if settings.user_name:
        login["username"] = settings.user_name
    if settings.token:
        login.pop("password", None)  # a token stands for its user
    for kind in ("id", "name"):
        if common := getattr(settings, f"domain_{kind}"):
            for whose in ("user", "project"):
                if not any(f"{whose}_domain_{either}" in login for either in ("id", "name")):
                    login[f"{whose}_domain_{kind}"] = common
    if settings.token:
        for name in ("username", "user_id", "user_domain_id", "user_domain_name"):
            login.pop(name, None)
    if settings.trust_id or settings.application_credential_secret:
        for name in ("project_id", "project_name", "project_domain_id", "project_domain_name"):
            login.pop(name, None)  # both are for one project already, and Keystone refuses to be told another
    return login


def _auth_type(settings: CinderSettings) -> str:
    if settings.application_credential_secret:
        return "v3applicationcredential"
    return "v3token" if settings.token else "v3password"


def _from_file(
    settings: CinderSettings, options: dict[str, Any], login: dict[str, str]
) -> openstack.connection.Connection:
    files = [settings.clouds_file] if settings.clouds_file else None
    try:
        config = OpenStackConfig(config_files=files, load_envvars=False)
        region = config.get_one(cloud=settings.cloud, auth=login, **options)
    except (sdk_exceptions.ConfigException, exceptions.auth_plugins.MissingRequiredOptions) as error:
        raise ConfigurationError(
            f"cloud {settings.cloud!r} cannot be used: {error}",
            remedy="name a cloud of clouds.yaml with all that its login needs, or set auth_url and credentials here",
            field="cloud",
            value=settings.cloud,
        ) from error
    if settings.insecure:
        region.config["cacert"] = None  # the SDK would warn of what was asked for
    elif region.config.get("cacert") and region.config.get("verify", True) and not settings.ca_cert:
        _check_bundle(region.config["cacert"], "cloud", settings.cloud)
    return openstack.connection.Connection(config=region)


def _at_rackspace(settings: CinderSettings) -> openstack.connection.Connection:
    auth = RackspaceAuth(
        settings.auth_url,
        settings.user_name or settings.user_id,
        settings.api_key or settings.password,
        is_key=bool(settings.api_key),
        tenant=settings.project_id,
    )
    network = _network(settings)
    verify = network.get("verify", network.get("cacert", True))
    if settings.insecure:
        urllib3.disable_warnings()  # as the SDK does: it was asked for, and would be told with every request
    logged_in = session.Session(auth=auth, verify=verify, timeout=settings.request_timeout)
    url = volume_endpoint(auth, logged_in, settings.region_name)
    if url is None:
        raise PlatformDenied(
            f"the catalogue of {settings.auth_url} has no block storage for {settings.user_name}",
            remedy="ask the provider to enable it for the account, or correct region_name",
        )
    return openstack.connection.Connection(session=logged_in, block_storage_endpoint_override=url, **network)


def _check_bundle(path: str, field: str, value: str) -> None:
    """:raises ConfigurationError: no certificates can be read there."""
    bundle = Path(path).expanduser()
    try:
        if not bundle.is_dir():  # a directory is asked for a certificate when there is one to be verified
            ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise ConfigurationError(
            f"{field}: no certificates can be read from {path}: {error.strerror or error}",
            remedy="name a file of certificates in PEM",
            field=field,
            value=value,
        ) from error
