"""The form of EC2's questions and answers: the Query protocol and its XML.

Source: the Amazon EC2 API Reference, "Query requests" and "Error codes".
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from polly_mesos.testing.ec2.policy import Policy

Element = ElementTree.Element
Item = TypeVar("Item")

_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_SMALLEST_PAGE, _LARGEST_PAGE = 5, 1000
_STATUS = {"RequestLimitExceeded": 503, "DryRunOperation": 412, "UnauthorizedOperation": 403, "AuthFailure": 401}


class Refusal(Exception):
    """What EC2 answers instead of doing what it was asked.

    :param code: one of EC2's error codes
    """

    def __init__(self, code: str, message: str, status: int = 0) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status or _STATUS.get(code, 400)

    def body(self, request_id: str) -> bytes:
        """As EC2 writes it."""
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{self.code}</Code>'
            f"<Message>{escape(self.message)}</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>"
        ).encode()


class Parameters(Mapping[str, str]):
    """The parameters of one request.

    :ivar policy: what may be done by who asks; None for everything
    """

    policy: Policy | None = None

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def required(self, key: str) -> str:
        """A parameter without which nothing can be done."""
        if not self.get(key):
            raise Refusal("MissingParameter", f"The request must contain the parameter {key}")
        return self[key]

    def integer(self, key: str) -> int | None:
        """A whole number, None where it was not given."""
        text = self.get(key)
        if text is None:
            return None
        if not re.fullmatch(r"-?[0-9]+", text):
            raise Refusal("InvalidParameterValue", f"Value ({text}) for parameter {key} is invalid.")
        return int(text)

    def flag(self, key: str) -> bool:
        """True or false; false where it was not given."""
        return self.get(key, "false").lower() == "true"

    def several(self, prefix: str) -> list[str]:
        """``Prefix.1``, ``Prefix.2`` and so on."""
        found: list[str] = []
        while (key := f"{prefix}.{len(found) + 1}") in self._values:
            found.append(self[key])
        return found

    def filters(self, known: Iterable[str]) -> dict[str, list[str]]:
        """The filters by name; of tags any."""
        found: dict[str, list[str]] = {}
        number = 1
        while f"Filter.{number}.Name" in self._values:
            name = self[f"Filter.{number}.Name"]
            if name not in known and not name.startswith("tag:"):
                raise Refusal("InvalidParameterValue", f"The filter '{name}' is invalid")
            values = self.several(f"Filter.{number}.Value")
            if len(values) > 200:
                raise Refusal(
                    "FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200"
                )
            found[name] = values
            number += 1
        return found

    def tags(self, resource: str) -> dict[str, str]:
        """The tags of the one ``TagSpecification`` for this kind of resource."""
        if "TagSpecification.1.ResourceType" not in self._values:
            return {}
        if self["TagSpecification.1.ResourceType"] != resource:
            raise Refusal("InvalidParameterValue", f"tags can be given to a {resource} only")
        return self.listed_tags("TagSpecification.1.Tag")

    def listed_tags(self, prefix: str) -> dict[str, str]:
        """``Prefix.1.Key`` and ``Prefix.1.Value``, and so on."""
        found: dict[str, str] = {}
        number = 1
        while (place := f"{prefix}.{number}") + ".Key" in self._values:
            key = self[f"{place}.Key"]
            if key in found:
                raise Refusal("InvalidParameterValue", f"Duplicate tag key '{key}' specified.")
            found[key] = self[f"{place}.Value"]
            number += 1
        return found

    def check_known(self, known: Iterable[str]) -> None:
        """Refuse what the action does not have."""
        names = {key.partition(".")[0] for key in self._values} - {"Action", "Version", "DryRun"}
        for unknown in sorted(names - set(known)):
            raise Refusal("UnknownParameter", f"The parameter {unknown} is not recognized")

    def without(self, *prefixes: str) -> dict[str, str]:
        """All parameters but those that begin so."""
        return {key: value for key, value in self._values.items() if not key.startswith(prefixes)}


def page(
    parameters: Parameters, items: list[Item], order: Callable[[Item], int], *, with_ids: bool
) -> tuple[list[Item], str]:
    """One page of a list, and the token of the next, empty where there is none.

    :param order: a number that grows along the list, by which a token finds its place again
    """
    size, token = parameters.integer("MaxResults"), parameters.get("NextToken")
    if size is None and token is None:
        return items, ""
    if with_ids:
        raise Refusal("InvalidParameterCombination", "The parameter MaxResults cannot be used with ids in one request")
    if size is None:
        size = _LARGEST_PAGE
    if not _SMALLEST_PAGE <= size <= _LARGEST_PAGE:
        raise Refusal(
            "InvalidParameterValue",
            f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value between 5 and 1000.",
        )
    asked = json.dumps(sorted(parameters.without("NextToken", "MaxResults").items()))
    after = _place_of(token, asked) if token is not None else -1
    left = sorted((item for item in items if order(item) > after), key=order)
    if len(left) <= size:
        return left, ""
    shown = left[:size]
    return shown, base64.b64encode(json.dumps([order(shown[-1]), asked]).encode()).decode()


def _place_of(token: str, asked: str) -> int:
    try:
        place, asked_before = json.loads(base64.b64decode(token, validate=True))
    except ValueError:
        asked_before = place = None
    if asked_before != asked or not isinstance(place, int):
        raise Refusal("InvalidParameterValue", "Unable to parse pagination token")
    return place


def set_text(parent: Element, name: str, text: str) -> None:
    """Give a child its text; it is made where it is not there."""
    child = parent.find(name)
    if child is None:
        child = ElementTree.SubElement(parent, name)
    child.text = text


def add(parent: Element, name: str, **texts: str) -> Element:
    """A new child with children of its own."""
    child = ElementTree.SubElement(parent, name)
    for key, text in texts.items():
        ElementTree.SubElement(child, key).text = text
    return child


def text_of(parent: Element, name: str) -> str:
    """The text of a child, empty where there is none."""
    return parent.findtext(name) or ""


def written(root: Element, request_id: str) -> bytes:
    """An answer as EC2 writes it."""
    set_text(root, "requestId", request_id)
    root.set("xmlns", _NAMESPACE)
    body: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return body
