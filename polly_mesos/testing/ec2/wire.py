"""moto's server as the wire: it knows the shape of EC2's answers, and runs in a process of its own."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from collections.abc import Mapping
from urllib.parse import urlencode
from xml.etree import ElementTree

from polly_mesos.testing.ec2.answers import Refusal

_PROGRAM = """
import logging, os, sys, threading
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
"""

_NAMESPACE = re.compile(rb' xmlns="[^"]*"')
_TIMEOUT = 60.0


class Wire:
    """A moto server from ``with`` to its end.

    :param region: the region that it is asked as
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self._types: dict[str, str] = {}

    def __enter__(self) -> Wire:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("moto's server did not start; what it said is above")
        self._port = int(line)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def ask(self, action: str, parameters: Mapping[str, str]) -> ElementTree.Element:
        """moto's answer, without its namespace.

        :raises Refusal: moto refused it in EC2's way
        """
        body = urlencode({"Version": "2016-11-15", **parameters, "Action": action})
        status, answer = self._post("/", body)
        if status == 200:
            return ElementTree.fromstring(_NAMESPACE.sub(b"", answer))
        error = re.search(rb"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>", answer)
        if error is None:
            raise RuntimeError(f"moto answered {action} with {status}: {answer[:500]!r}")
        raise Refusal(error[1].decode(), error[2].decode(), status)

    def instance_type(self, kind: str) -> ElementTree.Element | None:
        """What EC2 says of an instance type, None where there is none. moto reads it for seconds, so it is kept."""
        if kind not in self._types:
            answer = self.ask("DescribeInstanceTypes", {"Filter.1.Name": "instance-type", "Filter.1.Value.1": kind})
            item = answer.find("instanceTypeSet/item")
            self._types[kind] = "" if item is None else ElementTree.tostring(item, encoding="unicode")
        return ElementTree.fromstring(self._types[kind]) if self._types[kind] else None

    def reset(self) -> None:
        """Forget all that was made."""
        self._post("/moto-api/reset", "")

    def _post(self, path: str, body: str) -> tuple[int, bytes]:
        scope = f"AKIAWIRE/20260101/{self._region}/ec2/aws4_request"
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "Host": f"ec2.{self._region}.amazonaws.com",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
