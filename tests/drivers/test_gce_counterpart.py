"""The counterpart of Compute Engine is strict, and the page of the driver says what it counts."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.auth import crypt, jwt

from polly_mesos.testing.gce import FakeCompute
from polly_mesos.testing.gce.errors import ApiError
from polly_mesos.testing.gce.schema import SchemaViolation, discovery
from polly_mesos.testing.gce.state import check_labels
from polly_mesos.testing.gce.tokens import CLOUD_PLATFORM
from tests.drivers.gce_platform import GIB, REPLICAS, ZONE, Service

PAGE = Path(__file__).parents[2] / "docs/drivers/gce.md"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DISKS = f"zones/{ZONE}/disks"


@pytest.fixture
def compute(tmp_path: Path) -> Iterator[FakeCompute]:
    with FakeCompute(tmp_path / "platform") as compute:
        yield compute


@pytest.fixture
def ask(compute: FakeCompute) -> Iterator[Callable[..., requests.Response]]:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {compute.access.tokens.issue()}"
        base = f"{compute.endpoint}/compute/v1/projects/{compute.project}"
        yield lambda verb, path, **more: session.request(verb, f"{base}/{path}", timeout=10, **more)


def reason(answer: requests.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return answer.status_code, error["errors"][0]["reason"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "required")),
        ({"name": "Upper"}, (400, "invalid")),
        ({"name": "x" * 64}, (400, "invalid")),
        ({"name": "a", "sizeGb": "much"}, (400, "invalid")),
        ({"name": "a", "sizeGb": "9"}, (400, "invalid")),
        ({"name": "a", "sizeGB": "10"}, (400, "invalid")),
        ({"name": "a", "sizeGb": "10", "status": "READY"}, (400, "invalid")),
        ({"name": "a", "sizeGb": "10", "accessMode": "SOMETIMES"}, (400, "invalid")),
        ({"name": "a", "sizeGb": "10", "labels": {"Key": "x"}}, (400, "invalid")),
        ({"name": "a", "sizeGb": "10", "description": "x" * 2049}, (400, "invalid")),
        ({"name": "a", "sizeGb": "5000"}, (403, "quotaExceeded")),
        ({"name": "a", "sizeGb": "10", "sourceSnapshot": "global/snapshots/none"}, (404, "notFound")),
    ],
)
def test_a_disk_that_google_would_refuse_is_refused(
    ask: Callable[..., requests.Response], body: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert reason(ask("POST", DISKS, json=body)) == expected
    assert ask("GET", DISKS).json()["items"] == []


def test_unknown_paths_and_parameters_are_refused(ask: Callable[..., requests.Response]) -> None:
    assert reason(ask("GET", "zones/here/discs"))[0] == 404
    assert reason(ask("GET", DISKS, params={"colour": "red"})) == (400, "invalid")
    assert reason(ask("GET", DISKS, params={"maxResults": "many"})) == (400, "invalid")
    assert reason(ask("GET", DISKS, params={"filter": "name ~ x"})) == (400, "invalid")
    assert reason(ask("GET", "zones/nowhere/disks")) == (400, "invalid")


def test_who_brings_no_token_is_not_let_in(compute: FakeCompute) -> None:
    answer = requests.get(f"{compute.endpoint}/compute/v1/projects/{compute.project}/{DISKS}", timeout=10)
    assert reason(answer) == (401, "authError")


def test_one_request_id_is_one_operation_and_one_request(ask: Callable[..., requests.Response]) -> None:
    again = {"requestId": str(uuid.uuid4())}
    first = ask("POST", DISKS, json={"name": "a", "sizeGb": "10"}, params=again).json()
    assert ask("POST", DISKS, json={"name": "a", "sizeGb": "10"}, params=again).json()["name"] == first["name"]
    assert reason(ask("POST", DISKS, json={"name": "b", "sizeGb": "10"}, params=again)) == (400, "invalid")
    assert reason(ask("POST", DISKS, json={"name": "a", "sizeGb": "10"})) == (409, "alreadyExists")


def test_labels_are_set_by_who_has_seen_them(ask: Callable[..., requests.Response]) -> None:
    ask("POST", DISKS, json={"name": "a", "sizeGb": "10"})
    stale = {"labels": {"a": "b"}, "labelFingerprint": "AAAA"}
    assert reason(ask("POST", f"{DISKS}/a/setLabels", json=stale)) == (412, "conditionNotMet")


def test_a_list_comes_in_pages_and_a_token_belongs_to_its_filter(ask: Callable[..., requests.Response]) -> None:
    for name in "abc":
        ask("POST", DISKS, json={"name": name, "sizeGb": "10"})
    first = ask("GET", DISKS, params={"maxResults": "2"}).json()
    assert [one["name"] for one in first["items"]] == ["a", "b"]
    token = first["nextPageToken"]
    second = ask("GET", DISKS, params={"maxResults": "2", "pageToken": token}).json()
    assert [one["name"] for one in second["items"]] == ["c"]
    other = ask("GET", DISKS, params={"filter": 'name = "a"', "pageToken": token})
    assert reason(other) == (400, "invalid")


def test_its_own_answers_are_held_against_the_document() -> None:
    document = discovery("compute.v1")
    with pytest.raises(SchemaViolation):
        document.check_answer(document.by_id["compute.disks.get"], {"status": "SLEEPING"})
    with pytest.raises(SchemaViolation):
        document.check_answer(document.by_id["compute.disks.get"], {"sizeGb": 10})


@pytest.mark.parametrize("key", ["", "1a", "a b", "Ä", "x" * 64])
def test_label_keys_follow_the_grammar(key: str) -> None:
    with pytest.raises(ApiError):
        check_labels({key: ""})


def test_the_metadata_server_wants_its_header(compute: FakeCompute) -> None:
    url = f"{compute.endpoint}/node/192.0.2.1:1/computeMetadata/v1/instance/name"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=10)
    caught.value.close()
    assert caught.value.code == 403


def test_the_page_has_the_calls_that_each_operation_takes(tmp_path: Path) -> None:
    """The table in docs/drivers/gce.md, as it is measured here."""
    with FakeCompute(tmp_path / "platform") as compute:
        service = Service(compute, tmp_path)
        measured = dict(_measure(service))
    page = PAGE.read_text()
    for what, calls in measured.items():
        assert f"| {what} | {calls} |" in page, f"| {what} | {calls} |"


def _measure(service: Service) -> Iterator[tuple[str, str]]:
    controller, calls = service.controller, service.compute.faults.calls
    request, host = service.request(), service.host()
    # Operations take a moment, as Google's do: none is done when it is answered.
    service.compute.operations.latency = 0.05

    def count(what: str, step: Callable[[], Any]) -> tuple[str, str]:
        service.settle()
        calls.clear()
        step()
        told = ", ".join(f"{name}{f' x{number}' if number > 1 else ''}" for name, number in calls.items())
        service.settle()
        return what, told

    volume_id = f"zones/{ZONE}/disks/polly-{request.token}"
    snapshot_id = "polly-snap"
    yield count("create", lambda: controller.create(request))
    yield count("create again, made before", lambda: controller.create(request))
    yield count("get", lambda: controller.get(volume_id))
    yield count("list, for each 500 volumes", controller.list)
    yield count("capacity", lambda: controller.capacity(ZONE, ""))
    yield count("attach", lambda: controller.attach(volume_id, host))
    yield count("attach again, attached before", lambda: controller.attach(volume_id, host))
    yield count("expand", lambda: controller.expand(volume_id, 20 * GIB))
    yield count("detach", lambda: controller.detach(volume_id, host))
    yield count("detach again, detached before", lambda: controller.detach(volume_id, host))
    yield count("fence", lambda: controller.fence(host))
    yield count("snapshot", lambda: controller.snapshot(volume_id, "snap", request.tags))
    yield count("restore", lambda: controller.restore(snapshot_id, service.request(20 * GIB)))
    yield count("clone", lambda: controller.clone(volume_id, service.request(20 * GIB)))
    yield count("delete a snapshot", lambda: controller.delete_snapshot(snapshot_id))
    yield count("delete", lambda: controller.delete(volume_id))
    regional = service.request(options={"replica_zones": REPLICAS})
    yield count("create, regional", lambda: controller.create(regional))


class TestTokenService:
    """The counterpart gives a token only to whom Google would give one."""

    @pytest.fixture
    def key(self, compute: FakeCompute, tmp_path: Path) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(compute.key_file(tmp_path / "key.json").read_text())
        return made

    def ask(self, compute: FakeCompute, assertion: str | bytes, **fields: str) -> tuple[int, str]:
        form = {"grant_type": BEARER, "assertion": assertion, **fields}
        answer = requests.post(f"{compute.endpoint}/token", data=form, timeout=10)
        return answer.status_code, answer.json().get("error", "")

    def signed(self, key: dict[str, Any], key_id: str = "", **claims: Any) -> bytes:
        now = int(time.time())
        told = {"iss": key["client_email"], "iat": now, "exp": now + 3600, "scope": CLOUD_PLATFORM}
        told["aud"] = "https://oauth2.googleapis.com/token"
        signer = crypt.RSASigner.from_string(key["private_key"], key_id or key["private_key_id"])
        return jwt.encode(signer, {**told, **claims})  # type: ignore[no-untyped-call,no-any-return]

    def test_what_the_account_has_signed_is_a_token(self, compute: FakeCompute, key: dict[str, Any]) -> None:
        assert self.ask(compute, self.signed(key)) == (200, "")

    @pytest.mark.parametrize(
        ("claims", "error"),
        [
            ({"aud": "https://elsewhere.example/token"}, "invalid_grant"),
            ({"iss": "other@acme.iam.gserviceaccount.com"}, "invalid_grant"),
            ({"iat": 1_000_000_000, "exp": 1_000_003_600}, "invalid_grant"),
            ({"exp": 4_000_000_000}, "invalid_grant"),
            ({"iat": 4_000_000_000, "exp": 4_000_003_600}, "invalid_grant"),
            ({"scope": ""}, "invalid_scope"),
            ({"scope": "https://www.googleapis.com/auth/everything"}, "invalid_scope"),
            ({"key_id": "another"}, "invalid_grant"),
        ],
    )
    def test_a_claim_that_is_wrong_is_refused(
        self, compute: FakeCompute, key: dict[str, Any], claims: dict[str, Any], error: str
    ) -> None:
        assert self.ask(compute, self.signed(key, **claims)) == (400, error)

    def test_another_key_and_other_forms_are_refused(self, compute: FakeCompute, key: dict[str, Any]) -> None:
        good = self.signed(key)
        head, _, signature = good.rpartition(b".")
        assert self.ask(compute, head + b"." + signature[::-1]) == (400, "invalid_grant")
        assert self.ask(compute, "no.jwt.atall") == (400, "invalid_grant")
        assert self.ask(compute, good, grant_type="password") == (400, "unsupported_grant_type")
        answer = requests.post(f"{compute.endpoint}/token", json={"grant_type": BEARER}, timeout=10)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")

    def test_a_token_for_another_api_opens_nothing_here(self, compute: FakeCompute, key: dict[str, Any]) -> None:
        url = f"{compute.endpoint}/compute/v1/projects/{compute.project}/zones/{ZONE}"
        for claims, status in (
            ({"aud": "https://compute.googleapis.com/", "sub": key["client_email"]}, 200),
            ({"aud": "https://storage.googleapis.com/", "sub": key["client_email"]}, 401),
            ({"aud": "https://compute.googleapis.com/", "sub": "other"}, 401),
        ):
            token = self.signed(key, **claims).decode()
            answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
            assert answer.status_code == status, claims
