"""From plain values to settings: what pydantic finds wrong becomes mistakes in our words, at their lines."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails

from polly_mesos.config.document import Document, Path
from polly_mesos.config.quantities import Mistake
from polly_mesos.config.settings import Duration, Size

M = TypeVar("M", bound=BaseModel)

_UNITS = {"bytes": Size, "seconds": Duration}

_MESSAGES = {
    "string_type": ("is not text", "put it in quotes"),
    "int_type": ("is not a whole number", ""),
    "int_parsing": ("is not a whole number", ""),
    "int_from_float": ("is not a whole number", ""),
    "float_type": ("is not a number", ""),
    "float_parsing": ("is not a number", ""),
    "bool_type": ("is neither true nor false", "write true or false"),
    "bool_parsing": ("is neither true nor false", "write true or false"),
    "string_too_short": ("is empty", "write something there, or leave the key out"),
    "tuple_type": ("is not a list", "write [ITEM, ITEM], or each item on its own line after '- '"),
    "list_type": ("is not a list", "write [ITEM, ITEM], or each item on its own line after '- '"),
    "dict_type": ("is not a mapping of keys to values", "indent its keys below it"),
    "model_type": ("is not a mapping of keys to values", "indent its keys below it"),
    "too_short": ("is empty", "name at least one"),
    "string_pattern_mismatch": ("has characters that are not allowed here", "use letters, digits and _ . : = / + -"),
    "finite_number": ("is not a number", ""),
    "path_type": ("is not a path", "put it in quotes"),
}


def validate(model: type[M], values: Any, document: Document, path: Path) -> M | None:
    """The section at ``path`` as its model; what is wrong in it goes to the document.

    Where something is wrong, the rest comes back all the same, so that it can be checked further: wrong values are
    replaced by their defaults, or by None. None where nothing of it can be used.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    for detail in details:
        _report(detail, model, document, path)
    if not isinstance(values, dict):
        return None
    names = {field.alias or name: name for name, field in model.model_fields.items()}
    wrong = {str(detail["loc"][0]) for detail in details if detail["loc"]}
    replaced: dict[str, Any] = {
        names[key]: (
            Any,
            None if model.model_fields[names[key]].is_required() else model.model_fields[names[key]].default,
        )
        for key in wrong & names.keys()
    }
    draft = create_model(model.__name__, __base__=model, **replaced)
    try:
        return draft.model_validate({key: value for key, value in values.items() if key not in wrong})
    except ValidationError:
        return None


def settings_model(kind: type[Any]) -> type[BaseModel]:
    """A model with the fields of a driver's settings dataclass.

    A field with ``metadata={"unit": "bytes"}`` or ``{"unit": "seconds"}``, and any that is called ``capacity``, is
    written with a unit in polly.yml.
    """
    hints = typing.get_type_hints(kind)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        unit = field.metadata.get("unit", "bytes" if field.name == "capacity" else None)
        annotation = _with_unit(hints[field.name], _UNITS[unit]) if unit else hints[field.name]
        if field.default_factory is not dataclasses.MISSING:
            fields[field.name] = (annotation, field.default_factory())
        else:
            fields[field.name] = (annotation, ... if field.default is dataclasses.MISSING else field.default)
    config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    model: type[BaseModel] = create_model(kind.__name__, __config__=config, **fields)
    return model


def _with_unit(hint: Any, quantity: Any) -> Any:
    return quantity | None if type(None) in typing.get_args(hint) else quantity


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown word."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"


def _report(detail: ErrorDetails, model: type[BaseModel], document: Document, path: Path) -> None:
    kind, location, context = detail["type"], detail["loc"], detail.get("ctx", {})
    place: Path = (*path, *location)
    if kind == "missing":
        document.mistake(place, "is missing", f"write {place[-1]}: VALUE")
        return
    while len(place) > len(path) and place not in document.lines:
        # Of a type with alternatives pydantic names the alternative too, which is nothing that stands in the file.
        place = place[:-1]
    if kind == "extra_forbidden":
        document.mistake_at_key(place, "is not known here", suggestion(str(place[-1]), _keys(model, location[:-1])))
    elif kind in ("enum", "literal_error"):
        choices = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        document.mistake(place, "is not one of the choices", f"use one of {choices}")
    elif kind == "value_error" and isinstance(context.get("error"), Mistake):
        document.mistake(place, context["error"].message, context["error"].remedy)
    elif kind in _MESSAGES:
        document.mistake(place, *_MESSAGES[kind])
    else:
        document.mistake(place, f"is refused: {detail['msg'][:1].lower()}{detail['msg'][1:]}")


def _keys(model: type[BaseModel], location: Path) -> list[str]:
    """The keys that may stand at a location inside a model."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            inner = _models_in(model.model_fields[part].annotation)
            model = inner[0] if inner else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]
