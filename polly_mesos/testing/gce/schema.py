"""Google's own description of its APIs as the judge of every request and of every answer.

It is read at run time from the installed google-api-python-client, which carries the discovery documents
(https://developers.google.com/discovery/v1/reference/apis).
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import unquote

from polly_mesos.model import Json
from polly_mesos.testing.gce.errors import ApiError, invalid, invalid_field

_WHOLE = re.compile(r"-?\d+")
_RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}


class SchemaViolation(AssertionError):
    """An answer of the counterpart that Google's API could not give: a mistake in the counterpart itself."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the API.

    :param id: as ``compute.disks.insert``
    :param pattern: of the path below the service's, with a group for each parameter
    :param segments: slashes in that path
    """

    id: str
    verb: str
    pattern: re.Pattern[str]
    segments: int
    parameters: Mapping[str, Json]
    request: str
    response: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is as the document wants it."""

    method: Method
    path: Mapping[str, str]
    query: Json
    body: Json


class Discovery:
    """One API's document.

    :param name: as ``compute.v1``
    """

    def __init__(self, name: str) -> None:
        place = resources.files("googleapiclient") / "discovery_cache" / "documents" / f"{name}.json"
        self._document: Json = json.loads(place.read_text(encoding="utf-8"))
        self._schemas: Mapping[str, Json] = self._document["schemas"]
        self._global: Mapping[str, Json] = self._document["parameters"]
        self.service_path: str = "/" + self._document["servicePath"]
        self.by_id = {method.id: method for method in self._read(self._document["resources"])}
        self._shapes: dict[tuple[str, int], list[Method]] = {}
        for method in self.by_id.values():
            self._shapes.setdefault((method.verb, method.segments), []).append(method)

    def _read(self, found: Mapping[str, Json]) -> Iterator[Method]:
        for resource in found.values():
            for method in resource.get("methods", {}).values():
                path = method["flatPath"] if "{+" in method["path"] else method["path"]
                yield Method(
                    method["id"],
                    method["httpMethod"],
                    _pattern(path),
                    path.count("/"),
                    method.get("parameters", {}),
                    method.get("request", {}).get("$ref", ""),
                    method.get("response", {}).get("$ref", ""),
                )
            yield from self._read(resource.get("resources", {}))

    def accept(self, verb: str, path: str, query: Mapping[str, list[str]], body: bytes) -> Call:
        """The call that a request means.

        :raises ApiError: 404 where there is no such method, 400 where a parameter or the body is not as it must be
        """
        below = path.removeprefix(self.service_path)
        for method in self._shapes.get((verb, below.count("/")), ()):
            if match := method.pattern.fullmatch(below):
                values = {name: unquote(value) for name, value in match.groupdict().items()}
                self._check_path(method, values)
                return Call(method, values, self._query(method, query), self._body(method, body))
        raise ApiError(404, "notFound", f"The requested URL {path} was not found on this server.")

    def _check_path(self, method: Method, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            pattern = method.parameters[name].get("pattern", "") if name in method.parameters else ""
            if pattern and not re.fullmatch(pattern.removeprefix("^").removesuffix("$"), value):
                raise invalid(f"Invalid value '{value}'. Values must match the following regular expression: {pattern}")

    def _query(self, method: Method, query: Mapping[str, list[str]]) -> Json:
        known = {name: one for name, one in method.parameters.items() if one["location"] == "query"}
        known |= self._global
        values: Json = {}
        for name, given in query.items():
            if name not in known:
                raise invalid(f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.')
            if len(given) > 1 and not known[name].get("repeated"):
                raise invalid(f"Parameter {name} is given {len(given)} times", location=name)
            values[name] = _parameter(name, given[-1], known[name])
        for name, one in known.items():
            if one.get("required") and name not in values:
                raise ApiError(400, "required", f"Required parameter: {name}", location=name)
        return values

    def _body(self, method: Method, body: bytes) -> Json:
        if not method.request:
            if body.strip() not in (b"", b"{}"):
                raise invalid("Invalid JSON payload received: this method takes no body")
            return {}
        try:
            value = json.loads(body or b"{}")
        except ValueError as error:
            raise ApiError(400, "parseError", f"Parse Error: {error}") from None
        self._check({"$ref": method.request}, value, "resource", method.id, answer=False)
        return dict(value)

    def check_answer(self, method: Method, answer: Json) -> None:
        """Hold an answer against the document.

        :raises SchemaViolation: Google could not have said this
        """
        try:
            self._check({"$ref": method.response}, answer, "answer", method.id, answer=True)
        except ApiError as error:
            raise SchemaViolation(f"{method.id}: {error.message}") from None

    def _check(self, schema: Json, value: Any, place: str, method: str, *, answer: bool) -> None:
        if "$ref" in schema:
            schema = self._schemas[schema["$ref"]]
        kind = schema.get("type", "any")
        if kind == "object":
            self._check_object(schema, value, place, method, answer=answer)
        elif kind == "array":
            if not isinstance(value, list):
                raise invalid_field(place, value, "It is not a list.")
            for number, item in enumerate(value):
                self._check(schema["items"], item, f"{place}[{number}]", method, answer=answer)
        elif kind != "any":
            _check_scalar(schema, value, place, answer=answer)

    def _check_object(self, schema: Json, value: Any, place: str, method: str, *, answer: bool) -> None:
        if not isinstance(value, dict):
            raise invalid_field(place, value, "It is not an object.")
        properties = schema.get("properties", {})
        for name, item in value.items():
            known = properties.get(name, schema.get("additionalProperties"))
            if known is None:
                raise invalid(
                    f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."
                )
            if not answer and known.get("readOnly"):
                raise invalid_field(f"{place}.{name}", item, "It is only in answers.")
            self._check(known, item, f"{place}.{name}", method, answer=answer)
        for name, known in properties.items():
            if not answer and method in known.get("annotations", {}).get("required", ()) and name not in value:
                raise ApiError(400, "required", f"Required field '{place}.{name}' not specified")


@functools.cache
def discovery(name: str) -> Discovery:
    """The document, read once: it has five million characters."""
    return Discovery(name)


def _pattern(path: str) -> re.Pattern[str]:
    """Of a path like ``projects/{project}/zones/{zone}/disks`` or ``v1/projects/{resource}:verb``."""
    parts = re.split(r"\{\+?(\w+)\}", path)
    text = "".join(re.escape(part) if number % 2 == 0 else f"(?P<{part}>[^/:]+)" for number, part in enumerate(parts))
    return re.compile(text)


def _parameter(name: str, text: str, schema: Json) -> Any:
    kind = schema.get("type")
    if kind == "boolean":
        if text not in ("true", "false"):
            raise invalid(f"Invalid value '{text}' for {name}: it is true or false", location=name)
        return text == "true"
    if kind == "integer":
        lowest, highest = _RANGES[schema.get("format", "int32")]
        lowest, highest = int(schema.get("minimum", lowest)), int(schema.get("maximum", highest))
        if not _WHOLE.fullmatch(text) or not lowest <= int(text) <= highest:
            raise invalid(f"Invalid value '{text}'. Values must be within the range: [{lowest}, {highest}]")
        return int(text)
    _check_scalar(schema, text, name, answer=False)
    return text


def _check_scalar(schema: Json, value: Any, place: str, *, answer: bool) -> None:
    kind, form = schema["type"], schema.get("format", "")
    if kind == "boolean":
        good = isinstance(value, bool)
    elif kind == "integer" or (kind == "string" and form in _RANGES):
        lowest, highest = _RANGES[form or "int32"]
        is_text = isinstance(value, str) and bool(_WHOLE.fullmatch(value))
        is_number = isinstance(value, int) and not isinstance(value, bool)
        good = (is_text if kind == "string" else is_number) if answer else is_text or is_number
        good = good and lowest <= int(value) <= highest
    elif kind == "number":
        good = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        good = isinstance(value, str)
    if not good:
        raise invalid_field(place, value, f"It is not a {form or kind}.")
    if "enum" in schema and value not in schema["enum"]:
        raise invalid_field(place, value, f"It is not one of {', '.join(schema['enum'])}.")
    if "pattern" in schema and not re.fullmatch(schema["pattern"].removeprefix("^").removesuffix("$"), str(value)):
        raise invalid_field(place, value, f"Must be a match of regex '{schema['pattern']}'")
    if form == "byte":
        try:
            base64.b64decode(value, altchars=b"-_", validate=True)
        except binascii.Error:
            raise invalid_field(place, value, "It is not in base64.") from None
