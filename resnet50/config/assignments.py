"""Settings that the command line assigns: ``--set train.batch_size=32``.

A value is TOML, as in config.txt. Anything else is taken as a text, so that a text
needs no quotes within those of the shell.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import tomli

from resnet50.config.settings import SECTIONS, ConfigError
from resnet50.errors import short_line
from resnet50.urls import shown_url

FLAG = "--set"

# A value that begins with one of them must be valid TOML.
_BRACKETS = ('"', "'", "[", "{")


def split_assignment(text: str) -> tuple[str, str, str]:
    """The section, the key and the value's text.

    Raises:
        ConfigError: It has another form.
    """
    name, equals, value = text.partition("=")
    section, dot, key = (part.strip() for part in name.partition("."))
    if equals and section and dot and key:
        return section, key, value.strip()
    names = [
        f"{section}.{field.name}"
        for section, settings in SECTIONS.items()
        for field in dataclasses.fields(settings)
        if field.name == name.strip()
    ]
    expected = "must be SECTION.KEY=VALUE, such as train.batch_size=32"
    if names:
        expected = f"must name the section too: {' or '.join(names)}"
    raise ConfigError(f"{FLAG} {short_line(shown_url(text))} ({expected})")


def _parse_value(text: str, where: str) -> Any:
    try:
        values = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError) as error:
        if text.startswith(_BRACKETS):
            reason = short_line(str(error))
            raise ConfigError(f"{where}: is not valid TOML: {reason}") from None
        return text
    # A text with line ends may be more than one line of TOML.
    return values["value"] if len(values) == 1 else text


def parse_assignments(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The values of assignments such as "train.batch_size=32", by section and key.

    Raises:
        ConfigError: One has another form, or a key occurs twice. ``read_config`` checks
            the names and the values.
    """
    sections: dict[str, dict[str, Any]] = {}
    for text in texts:
        section, key, value = split_assignment(text)
        values = sections.setdefault(section, {})
        where = f"{FLAG} " + short_line(shown_url(f"{section}.{key}={value}"))
        if key in values:
            raise ConfigError(f"{where}: this key is set twice (give it once)")
        values[key] = _parse_value(value, where)
    return sections
