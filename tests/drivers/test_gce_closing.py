"""When Polly stops, calls to Google end at once, whatever they wait for; and what may have happened is said so."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession

from drivers.gce import api
from drivers.gce.connections import Connections
from drivers.gce.controller import GceController
from drivers.gce.errors import SDK_ERRORS
from polly_mesos.errors import PlatformUnavailable
from polly_mesos.testing.gce import FakeCompute, Kind
from tests.drivers.gce_platform import Service

LONG = 600.0
"""Seconds that a call would take if nothing ended it."""
DEADLINE = 30.0


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(api, "_LOOK", LONG)
    with FakeCompute(tmp_path / "platform") as compute:
        yield Service(compute, tmp_path)
    assert compute.violations == []


class Caller:
    """A call in a thread of its own, which waits."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.errors: list[Exception] = []
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except Exception as error:
            self.errors.append(error)

    def ended(self) -> PlatformUnavailable:
        """How it ended; only closing can have ended it, as the platform still holds its answer."""
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "closing did not end the call"
        (error,) = self.errors
        assert isinstance(error, PlatformUnavailable)
        assert "Polly stops" in error.message
        return error


def patient(service: Service, **settings: Any) -> GceController:
    return service.restart(request_timeout=LONG, operation_timeout=LONG, **settings)


def test_a_wait_for_an_operation_ends_and_the_operation_goes_on(service: Service) -> None:
    controller, volume, host = patient(service), service.made(), service.host()
    service.compute.operations.pause()
    service.compute.operations.wait_limit = 0.0
    service.compute.faults.inject("zoneOperations.wait", Kind.HELD)
    caller = Caller(lambda: controller.attach(volume.id, host))
    assert service.compute.faults.held.acquire(timeout=DEADLINE)
    controller.close()
    assert caller.ended().outcome_unknown
    service.compute.operations.pause(False)
    service.settle()
    assert service.controller.get(volume.id).attached_to == (host.host,)


@pytest.mark.parametrize(
    ("method", "changes"), [("disks.insert", True), ("disks.aggregatedList", False), ("disks.get", False)]
)
def test_a_call_whose_answer_does_not_come_ends(service: Service, method: str, changes: bool) -> None:
    controller, volume, request = patient(service), service.made(), service.request()
    calls: dict[str, Callable[[], object]] = {
        "disks.insert": lambda: controller.create(request),
        "disks.aggregatedList": controller.list,
        "disks.get": lambda: controller.get(volume.id),
    }
    service.compute.faults.inject(method, Kind.HELD)
    caller = Caller(calls[method])
    assert service.compute.faults.held.acquire(timeout=DEADLINE)
    controller.close()
    assert caller.ended().outcome_unknown is changes
    service.compute.faults.released.set()
    service.settle()
    assert service.controller.create(request).id == f"zones/europe-west3-a/disks/polly-{request.token}"


def test_several_calls_end_together(service: Service) -> None:
    controller = patient(service)
    service.compute.faults.inject("disks.aggregatedList", Kind.HELD, times=4)
    callers = [Caller(controller.list) for _ in range(4)]
    for _ in callers:
        assert service.compute.faults.held.acquire(timeout=DEADLINE)
    controller.close()
    controller.close()
    for caller in callers:
        assert not caller.ended().outcome_unknown


def test_a_wait_for_a_token_ends(service: Service) -> None:
    controller = patient(service)
    service.compute.faults.inject("/token", Kind.HELD)
    caller = Caller(lambda: controller._api.test_permissions(["compute.disks.get"]))
    assert service.compute.faults.held.acquire(timeout=DEADLINE)
    controller.close()
    assert not caller.ended().outcome_unknown


def test_a_call_that_waits_for_its_turn_ends_and_is_not_made(service: Service) -> None:
    controller = patient(service, requests_per_second=0.001)
    for _ in range(20):  # as many as may come at once
        controller.list()
    caller = Caller(controller.list)
    controller.close()
    assert not caller.ended().outcome_unknown
    assert service.compute.faults.calls["disks.aggregatedList"] == 20


def test_nothing_is_asked_of_the_platform_once_it_is_closed(service: Service) -> None:
    controller, volume, host = service.restart(), service.made(), service.host()
    controller.list()
    controller.close()
    before = dict(service.compute.faults.calls)
    for call in (
        controller.list,
        lambda: controller.create(service.request()),
        lambda: controller.attach(volume.id, host),
        lambda: controller.fence(host),
    ):
        with pytest.raises(PlatformUnavailable, match="Polly stops") as caught:
            call()
        assert not caught.value.outcome_unknown
    assert service.compute.faults.calls == before


def test_a_change_that_was_accepted_is_not_called_one_that_was_not_begun(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, volume, host = patient(service), service.made(), service.host()
    service.compute.operations.pause()
    wait = controller._api.wait

    def close_first(operation: Any, what: str) -> Any:
        controller.close()
        return wait(operation, what)

    monkeypatch.setattr(controller._api, "wait", close_first)
    with pytest.raises(PlatformUnavailable, match="Polly stops") as caught:
        controller.attach(volume.id, host)
    assert caught.value.outcome_unknown
    service.compute.operations.pause(False)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(made.public_bytes(pem) + secret)
    return path


def test_an_encrypted_connection_is_ended_as_well(certificate: Path) -> None:
    connections, context = Connections(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    arrived = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def never_answer() -> None:
            accepted, _ = server.accept()
            with context.wrap_socket(accepted, server_side=True) as connection:
                connection.recv(65536)
                arrived.set()
                connection.recv(65536)

        threading.Thread(target=never_answer, daemon=True).start()
        session = AuthorizedSession(AnonymousCredentials())  # type: ignore[no-untyped-call]
        connections.cover(session)
        session.verify, session.trust_env = str(certificate), False
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        errors: list[Exception] = []

        def ask() -> None:
            try:
                session.get(url, timeout=LONG)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        assert arrived.wait(DEADLINE)
        connections.close()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        (error,) = errors
        assert isinstance(error, SDK_ERRORS), repr(error)
        with pytest.raises(SDK_ERRORS):
            session.get(url, timeout=LONG)
        session.close()
