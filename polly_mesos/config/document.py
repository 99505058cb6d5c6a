"""A YAML document whose every value still knows its line.

The node tree is composed first and turned into plain values here, so that duplicate keys are seen, environment
references are filled in, and each path of keys leads back to the line where it was written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from polly_mesos.errors import ConfigurationError

Path = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PASSWORD = re.compile(r"//[^/@\s]+@")
_MOST_VALUES = 100_000


@dataclass(frozen=True, slots=True)
class ConfigurationMistake:
    """One mistake in a configuration file.

    :param line: counted from 1; 0 where the file as a whole is meant
    :param field: dotted path, as ``profiles.gold.filesystem``; empty where the file as a whole is meant
    :param value: what was written there, as text; empty where nothing was, or where it is a secret
    """

    line: int
    field: str
    value: str
    message: str
    remedy: str = ""

    def text(self, source: str) -> str:
        """The mistake as one line; ``source`` names the file."""
        place = f"{source}:{self.line}" if self.line else source
        subject = f"{self.field}: " if self.field else ""
        value = f"{self.value!r} " if self.value else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{place}: {subject}{value}{self.message}{remedy}"


class ConfigurationErrors(ConfigurationError):
    """Everything that is wrong with a configuration file, in the order of its lines.

    :param source: the file's name as it was given
    """

    def __init__(self, source: str, mistakes: list[ConfigurationMistake]) -> None:
        self.source = source
        self.mistakes = sorted(mistakes, key=lambda mistake: (mistake.line, mistake.field))
        first = self.mistakes[0]
        text = "\n".join(mistake.text(source) for mistake in self.mistakes)
        super().__init__(text, field=first.field, value=first.value or None)

    def as_json(self) -> dict[str, object]:
        mistakes = [
            {"line": m.line, "field": m.field, "value": m.value, "message": m.message, "remedy": m.remedy}
            for m in self.mistakes
        ]
        return {**super().as_json(), "mistakes": mistakes}


@dataclass(slots=True)
class Document:
    """The values of a file, where each stands, and what is wrong with its YAML.

    :param lines: path -> line of the key (or list item) that it is written at
    :param written: path -> the text of a scalar before environment references were filled in
    :param referred: paths whose whole value is one environment reference
    :param secret: paths whose values no message may show
    :param wrong: paths that have a mistake
    :param notes: what is understood, and should be written differently
    """

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    written: dict[Path, str] = field(default_factory=dict)
    referred: set[Path] = field(default_factory=set)
    secret: set[Path] = field(default_factory=set)
    wrong: set[Path] = field(default_factory=set)
    mistakes: list[ConfigurationMistake] = field(default_factory=list)
    notes: list[ConfigurationMistake] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of a path, or of the nearest thing around it that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def mistake(self, path: Path, message: str, remedy: str = "") -> None:
        """Record a mistake about the value at a path. Only the first counts: what follows from it is not another."""
        if path not in self.wrong:
            self.wrong.add(path)
            value = "" if path in self.secret else _PASSWORD.sub("//***@", self.written.get(path, ""))
            self.mistakes.append(ConfigurationMistake(self.line(path), dotted(path), value, message, remedy))

    def note(self, path: Path, message: str, remedy: str = "") -> None:
        """Record what is understood, and should be written differently; what it holds is not shown."""
        self.notes.append(ConfigurationMistake(self.line(path), dotted(path), "", message, remedy))

    def rename(self, path: Path, new: Path) -> None:
        """Let a value, and all that is in it, count as if it stood at another path; its line stays."""
        length = len(path)
        for table in (self.lines, self.written):
            moved = {(*new, *key[length:]): found for key, found in table.items() if key[:length] == path}
            table.update(moved)  # type: ignore[arg-type]
        self.referred |= {(*new, *key[length:]) for key in self.referred if key[:length] == path}

    def mistake_at_key(self, path: Path, message: str, remedy: str = "") -> None:
        """Record a mistake about the key itself; what it holds does not matter, and may be a secret."""
        self.wrong.add(path)
        self.mistakes.append(ConfigurationMistake(self.line(path), dotted(path), "", message, remedy))


def dotted(path: Path) -> str:
    """A path as text: ``agents.constraints[0].equals``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def read_document(text: str, environment: Mapping[str, str] | None = None) -> Document:
    """Read YAML text; whatever is wrong with it stands in the document's ``mistakes``."""
    document = Document()
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                document.mistake((), "is empty", "begin with the lines of examples/polly.yml")
            elif not isinstance(root, yaml.MappingNode):
                document.mistake((), "is not a mapping of keys to values", "begin with the line 'cluster: NAME'")
            else:
                document.values = _Reader(loader, document, os.environ if environment is None else environment).mapping(
                    root, ()
                )
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        document.mistakes.extend(_syntax_mistakes(text, error))
    return document


def _syntax_mistakes(text: str, error: yaml.YAMLError) -> list[ConfigurationMistake]:
    tabs = [number for number, line in enumerate(text.splitlines(), 1) if re.match(r" *\t", line)]
    if tabs:
        return [
            ConfigurationMistake(number, "", "", "is indented with a tab, which YAML does not allow", "use spaces")
            for number in tabs
        ]
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return [ConfigurationMistake(line, "", "", f"has a character that YAML does not allow: {error.reason}")]
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else 0
        return [ConfigurationMistake(line, "", "", f"is not YAML: {problem}", "check quotes, colons and indentation")]
    return [ConfigurationMistake(0, "", "", f"is not YAML: {error}")]


class _Reader:
    """Turns nodes into values and notes where they stood."""

    def __init__(self, loader: yaml.SafeLoader, document: Document, environment: Mapping[str, str]) -> None:
        self._loader = loader
        self._document = document
        self._environment = environment
        self._open: set[int] = set()
        self._checked: set[int] = set()
        self._values = 0

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        self._note_duplicates(node, path)
        self._loader.flatten_mapping(node)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.mistakes.append(
                    ConfigurationMistake(line, dotted(path), "", "has a key that is not a word", "write KEY: VALUE")
                )
                continue
            here = (*path, key_node.value)
            self._document.lines[here] = line
            values[key_node.value] = self._value(value_node, here)
        return values

    def _note_duplicates(self, node: yaml.MappingNode, path: Path) -> None:
        if id(node) in self._checked:
            return
        self._checked.add(id(node))
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in first:
                message = f"is written twice, first on line {first[key]}"
                field = dotted((*path, key))
                self._document.mistakes.append(ConfigurationMistake(line, field, "", message, "keep one of them"))
            first.setdefault(key, line)

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise yaml.MarkedYAMLError(problem="too many values", problem_mark=node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise yaml.MarkedYAMLError(problem="an alias that contains itself", problem_mark=node.start_mark)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            assert isinstance(node, yaml.SequenceNode)
            items = []
            for index, item in enumerate(node.value):
                self._document.lines[(*path, index)] = item.start_mark.line + 1
                items.append(self._value(item, (*path, index)))
            return items
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        self._document.written[path] = node.value
        if _REFERENCE.fullmatch(node.value):
            self._document.referred.add(path)
        if node.tag == "tag:yaml.org,2002:str":
            return _REFERENCE.sub(lambda match: self._variable(match[1], path), node.value)
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        try:
            return self._loader.construct_object(node)
        except (ValueError, yaml.YAMLError) as error:
            self._document.mistake(path, f"cannot be read: {error}")
            return None

    def _variable(self, name: str, path: Path) -> str:
        if name not in self._environment:
            self._document.mistake(
                path, f"names the environment variable {name}, which is not set", f"export {name}=..."
            )
        return self._environment.get(name, "")
