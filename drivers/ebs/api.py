"""The calls to Amazon: one at a time as our rate allows, never made twice by the SDK, every error in our words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from drivers.ebs.failures import LOST, code_of, lost, refused
from drivers.ebs.settings import EbsSettings
from drivers.rate import RateLimiter
from polly_mesos.errors import ConfigurationError, PlatformThrottled
from polly_mesos.model import Json

_BURST = 50
_CONNECTIONS = 32
_READING = ("Describe", "Get", "List")


class Api:
    """EC2 and Service Quotas in one region."""

    def __init__(self, settings: EbsSettings) -> None:
        try:
            session = boto3.Session(
                aws_access_key_id=settings.access_key or None,
                aws_secret_access_key=settings.secret_key or None,
                aws_session_token=settings.session_token or None,
                region_name=settings.region or None,
                profile_name=settings.credentials_profile or None,
            )
        except BotoCoreError as error:
            raise ConfigurationError(str(error), field="credentials_profile") from error
        if not session.region_name:
            raise ConfigurationError(
                "no region is configured", remedy="write region, as eu-west-1, or set AWS_REGION", field="region"
            )
        self.region: str = session.region_name
        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=settings.call_timeout,
            read_timeout=settings.call_timeout,
            max_pool_connections=_CONNECTIONS,
            user_agent_extra="polly-mesos",
        )
        self._clients: dict[str, Any] = {
            "ec2": session.client("ec2", endpoint_url=settings.endpoint or None, config=config)
        }
        self._make_quotas: Callable[[], Any] = lambda: session.client(
            "service-quotas", endpoint_url=settings.quotas_endpoint or None, config=config
        )
        self._limiter = RateLimiter(settings.requests_per_second, _BURST)

    def call(self, action: str, what: str, *, service: str = "ec2", **parameters: Any) -> Json:
        """One call, once.

        :param action: as in the API reference
        :param what: what it is for, for people
        :raises PollyError: what :mod:`drivers.ebs.failures` makes of the SDK's errors
        """
        if service not in self._clients:
            self._clients[service] = self._make_quotas()
        method = getattr(self._clients[service], xform_name(action))
        changes = not action.startswith(_READING)
        self._limiter.acquire()
        try:
            answer: Json = method(**parameters)
        except ClientError as error:
            told = refused(error, what, changes=changes)
            if isinstance(told, PlatformThrottled) and code_of(error) != "VolumeModificationRateExceeded":
                self._limiter.throttled()
            raise told from error
        except LOST as error:
            raise lost(error, what, changes=changes) from error
        return answer

    def dry_run(self, action: str, **parameters: Any) -> str:
        """EC2's code for what would have been: ``DryRunOperation`` where it is allowed.

        :raises PollyError: nothing could be found out
        """
        method = getattr(self._clients["ec2"], xform_name(action))
        self._limiter.acquire()
        try:
            method(DryRun=True, **parameters)
        except ClientError as error:
            return code_of(error)
        except LOST as error:
            raise lost(error, f"asking whether {action} is allowed", changes=False) from error
        return "Performed"
