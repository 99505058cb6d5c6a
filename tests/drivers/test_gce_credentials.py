"""By which credentials the driver comes in, what becomes of wrong ones, and that none of them is ever seen."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from google.auth import _exponential_backoff
from google.auth.compute_engine import _metadata
from google.oauth2 import credentials as user_credentials

from drivers.gce.controller import GceController
from drivers.gce.settings import GceSettings
from polly_mesos.errors import ConfigurationError, PlatformDenied, PlatformUnavailable, PollyError
from polly_mesos.testing.gce import FakeCompute
from polly_mesos.testing.gce.tokens import READ_ONLY
from tests.drivers.gce_platform import ZONE, Service

BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BY_ENVIRONMENT = "GOOGLE_APPLICATION_CREDENTIALS"
NODE = "scheduler:1"
INSTANCE = "node-scheduler-1"


@pytest.fixture(autouse=True)
def nothing_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine that Google's libraries know nothing of."""
    for name in (BY_ENVIRONMENT, "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True)
    monkeypatch.setattr(_exponential_backoff, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def compute(tmp_path: Path) -> Iterator[FakeCompute]:
    with FakeCompute(tmp_path / "platform") as compute:
        yield compute
    assert compute.violations == []


@pytest.fixture
def open_controller(compute: FakeCompute) -> Iterator[Callable[..., GceController]]:
    """Makes controller sides that come in by whatever is there."""
    opened: list[GceController] = []

    def make(**settings: Any) -> GceController:
        where = {"endpoint": compute.endpoint, "resource_manager_endpoint": compute.endpoint}
        opened.append(GceController(GceSettings(zone=ZONE, **{**where, **settings}), "test"))
        return opened[-1]

    yield make
    for controller in opened:
        controller.close()


@pytest.fixture
def on_instance(compute: FakeCompute, monkeypatch: pytest.MonkeyPatch) -> FakeCompute:
    """The scheduler half runs on an instance."""
    server = f"{compute.endpoint.removeprefix('http://')}/node/{NODE}"
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", server)
    monkeypatch.setenv("GCE_METADATA_IP", server)
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", False)
    return compute


@pytest.fixture
def as_user(compute: FakeCompute, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCompute:
    """``gcloud auth application-default login`` was run."""
    (tmp_path / "gcloud").mkdir()
    compute.access.tokens.write_user(tmp_path / "gcloud/application_default_credentials.json")
    monkeypatch.setattr(user_credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{compute.endpoint}/token")
    return compute


Open = Callable[..., GceController]


class TestKeyFile:
    """The key of a service account."""

    def test_it_is_taken_from_the_setting_or_the_environment_with_its_project(
        self, compute: FakeCompute, open_controller: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = str(compute.key_file(tmp_path / "key.json"))
        assert open_controller(key_file=path).list().volumes == ()
        with pytest.raises(PlatformDenied, match="no credentials"):
            open_controller()
        monkeypatch.setenv(BY_ENVIRONMENT, path)
        assert open_controller()._api.project == compute.project
        assert open_controller().list().volumes == ()
        monkeypatch.setenv(BY_ENVIRONMENT, "/nowhere")
        assert open_controller(key_file=path).list().volumes == ()

    def test_a_signed_request_is_exchanged_for_a_token(
        self, compute: FakeCompute, open_controller: Open, tmp_path: Path
    ) -> None:
        controller = open_controller(key_file=str(compute.key_file(tmp_path / "key.json")))
        checks = {check.name: check.passed for check in controller.check(())}
        assert checks["permission compute.disks.create"]
        assert compute.access.tokens.asked == {BEARER: 1}

    def test_a_key_that_was_revoked_is_denied_with_a_remedy(
        self, compute: FakeCompute, open_controller: Open, tmp_path: Path
    ) -> None:
        controller = open_controller(key_file=str(compute.key_file(tmp_path / "key.json")))
        compute.access.tokens.revoke()
        for call in (controller.list, lambda: controller._api.test_permissions(["compute.disks.get"])):
            with pytest.raises(PlatformDenied, match="credential") as caught:
                call()
            assert "key_file" in caught.value.remedy
            assert not caught.value.outcome_unknown

    def test_a_token_service_that_is_down_is_no_refusal(
        self, compute: FakeCompute, open_controller: Open, tmp_path: Path
    ) -> None:
        controller = open_controller(key_file=str(compute.key_file(tmp_path / "key.json")))
        compute.access.tokens.broken = True
        with pytest.raises(PlatformUnavailable, match="no token could be got") as caught:
            controller._api.test_permissions(["compute.disks.get"])
        assert caught.value.retryable
        assert not caught.value.outcome_unknown


class TestInstance:
    """The account of the instance on which the scheduler half runs."""

    def test_its_tokens_come_from_the_metadata_server(self, on_instance: FakeCompute, open_controller: Open) -> None:
        controller = open_controller()
        assert controller._api.project == on_instance.project
        assert controller.list().volumes == ()
        assert on_instance.access.tokens.asked == {"metadata": 1}

    def test_a_token_that_is_refused_is_asked_for_anew(self, on_instance: FakeCompute, open_controller: Open) -> None:
        controller = open_controller()
        controller.list()
        on_instance.access.tokens.expire()
        assert controller.list().volumes == ()
        assert on_instance.access.tokens.asked == {"metadata": 2}

    def test_an_instance_without_an_account_is_denied(self, on_instance: FakeCompute, open_controller: Open) -> None:
        on_instance.instances.launch(INSTANCE, ZONE, scopes=())
        with pytest.raises(PlatformDenied) as caught:
            open_controller().list()
        assert "service account" in caught.value.remedy

    def test_a_token_for_reading_changes_nothing_and_the_remedy_names_scopes(
        self, on_instance: FakeCompute, open_controller: Open, tmp_path: Path
    ) -> None:
        on_instance.instances.launch(INSTANCE, ZONE, scopes=(READ_ONLY,))
        controller = open_controller()
        assert controller.list().volumes == ()
        with pytest.raises(PlatformDenied, match="scopes") as caught:
            controller.create(Service(on_instance, tmp_path).request())
        assert "cloud-platform" in caught.value.remedy

    def test_a_metadata_server_that_is_down_is_no_refusal(
        self, on_instance: FakeCompute, open_controller: Open
    ) -> None:
        controller = open_controller()
        on_instance.guests.metadata.broken = True
        with pytest.raises(PlatformUnavailable, match="no token could be got") as caught:
            controller.list()
        assert caught.value.retryable
        on_instance.guests.metadata.broken = False
        assert controller.list().volumes == ()

    def test_polly_service_check_needs_no_setting_for_it(self, compute: FakeCompute, tmp_path: Path) -> None:
        server = f"{compute.endpoint.removeprefix('http://')}/node/{NODE}"
        service = {"driver": "gce", "zone": ZONE, "endpoint": compute.endpoint}
        service["resource_manager_endpoint"] = compute.endpoint
        known: dict[str, Any] = {"cluster": "c", "mesos": {"master": "m:5050"}, "services": {"google": service}}
        known["profiles"] = {"gold": {"service": "google", "minimum_size": "10GiB"}}
        path = tmp_path / "polly.yml"
        path.write_text(yaml.safe_dump(known))
        words = "from polly_mesos.cli.main import main; main()", "service", "check", "google", "--config", str(path)
        environment = {"GCE_METADATA_HOST": server, "GCE_METADATA_IP": server, "CLOUDSDK_CONFIG": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", *words],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert compute.project in done.stdout
        assert "permission compute.disks.create" in done.stdout
        assert compute.access.tokens.asked["metadata"] >= 1


class TestUser:
    """A person's own credentials, as gcloud writes them."""

    def test_they_are_refreshed_and_name_no_project(self, as_user: FakeCompute, open_controller: Open) -> None:
        assert open_controller(project=as_user.project).list().volumes == ()
        assert as_user.access.tokens.asked == {"refresh_token": 1}
        with pytest.raises(ConfigurationError, match="project") as caught:
            open_controller()
        assert caught.value.field == "project"

    def test_a_consent_that_was_withdrawn_is_denied_and_the_remedy_is_to_log_in(
        self, as_user: FakeCompute, open_controller: Open
    ) -> None:
        controller = open_controller(project=as_user.project)
        as_user.access.tokens.revoke()
        with pytest.raises(PlatformDenied, match="expired or revoked") as caught:
            controller.list()
        assert "gcloud auth application-default login" in caught.value.remedy
        (check,) = controller.check(())
        assert (check.name, check.passed) == ("credentials", False)


class TestElsewhere:
    """An identity of another provider's, which Google exchanges for a token (workload identity federation)."""

    @pytest.fixture
    def federated(self, compute: FakeCompute, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCompute:
        monkeypatch.setenv(BY_ENVIRONMENT, str(compute.access.tokens.write_external(tmp_path / "external.json")))
        return compute

    def test_it_is_exchanged(self, federated: FakeCompute, open_controller: Open) -> None:
        assert open_controller(project=federated.project).list().volumes == ()
        assert federated.access.tokens.asked == {EXCHANGE: 1}

    def test_one_that_google_does_not_accept_is_denied(self, federated: FakeCompute, open_controller: Open) -> None:
        federated.access.tokens.revoke()
        with pytest.raises(PlatformDenied, match="rejected"):
            open_controller(project=federated.project).list()

    def test_one_whose_file_is_gone_is_denied_with_its_name(
        self, federated: FakeCompute, open_controller: Open, tmp_path: Path
    ) -> None:
        (tmp_path / "external.subject").unlink()
        with pytest.raises(PlatformDenied, match=r"external\.subject"):
            open_controller(project=federated.project).list()


def wrong_files(compute: FakeCompute, directory: Path) -> Iterator[tuple[str, Path]]:
    """What may lie where a key file should, each with something that must not be shown."""
    key = json.loads(compute.key_file(directory / "key.json").read_text())
    hush = key["private_key"]
    texts = {
        "empty": "",
        "no JSON": f"{hush} is the key",
        "half": json.dumps(key)[: -len(hush) // 2],
        "a list": json.dumps([hush]),
        "null": "null",
        "no type": json.dumps({"private_key": hush}),
        "another type": json.dumps({"type": "magic", "private_key": hush}),
        "no key": json.dumps({name: value for name, value in key.items() if name != "private_key"}),
        "a broken key": json.dumps({**key, "private_key": hush[: len(hush) // 2]}),
        "a key that is a number": json.dumps({**key, "private_key": 7}),
    }
    for what, text in texts.items():
        path = directory / f"{what}.json"
        path.write_text(text)
        yield what, path
    (directory / "binary.json").write_bytes(b"\xff\xfe\x00")
    yield "binary", directory / "binary.json"
    yield "absent", directory / "absent.json"
    yield "a directory", directory


class TestWrongFiles:
    """One error, with the file's name and a remedy, and with nothing of what is in it."""

    @pytest.mark.parametrize("way", ["key_file", BY_ENVIRONMENT])
    def test_a_file_that_is_no_key_is_told_without_its_contents(
        self, compute: FakeCompute, open_controller: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
    ) -> None:
        secrets = compute.access.tokens.secrets
        for what, path in wrong_files(compute, tmp_path):
            settings = {"key_file": str(path)} if way == "key_file" else {}
            monkeypatch.setenv(BY_ENVIRONMENT, str(path) if way == BY_ENVIRONMENT else "")
            with pytest.raises(ConfigurationError) as caught:
                open_controller(**settings)
            assert (caught.value.field, caught.value.value) == (way, str(path)), what
            assert str(path) in caught.value.message, what
            assert caught.value.remedy, what
            shown = "".join(traceback.format_exception(caught.value))
            assert not [secret for secret in secrets if secret in shown], what

    def test_a_users_file_as_key_file_is_told_where_it_belongs(
        self, compute: FakeCompute, open_controller: Open, tmp_path: Path
    ) -> None:
        path = compute.access.tokens.write_user(tmp_path / "user.json")
        with pytest.raises(ConfigurationError, match="service account") as caught:
            open_controller(key_file=str(path))
        assert BY_ENVIRONMENT in caught.value.remedy


class TestSecrets:
    """Keys and tokens are seen nowhere."""

    def test_no_way_to_come_in_leaves_a_trace_of_its_secrets(
        self,
        as_user: FakeCompute,
        open_controller: Open,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        tokens = as_user.access.tokens
        shown = []
        with caplog.at_level(logging.DEBUG):
            for path in (
                as_user.key_file(tmp_path / "key.json"),
                tokens.write_user(tmp_path / "user.json"),
                tokens.write_external(tmp_path / "external.json"),
            ):
                monkeypatch.setenv(BY_ENVIRONMENT, str(path))
                controller = open_controller(project=as_user.project)
                controller.list()
                controller._api.test_permissions(["compute.disks.get"])
                shown += [repr(controller.__dict__), repr(controller._api.__dict__), repr(controller._settings)]
            tokens.revoke()
            with pytest.raises(PollyError) as caught:
                controller.list()
        shown += [caplog.text, str(caught.value.as_json()), "".join(traceback.format_exception(caught.value))]
        assert len(tokens.secrets) > 20
        assert not [secret for secret in tokens.secrets if any(secret in text for text in shown)]
