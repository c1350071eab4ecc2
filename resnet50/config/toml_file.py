"""Reads config.txt (TOML) strictly, and writes it with other values.

Every key must be present, of its type and in its range; other keys are errors.

A file may contain only some of the keys and name, as ``base``, the file with the
others. The files of recipes/ have config.txt as their base.
"""

import dataclasses
import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tomli
import tomlkit

from resnet50.atomic_io import atomic_file
from resnet50.config.assignments import FLAG, parse_assignments
from resnet50.config.settings import SECTIONS, Config, ConfigError
from resnet50.errors import printable_line, short_line
from resnet50.input_file import open_regular
from resnet50.installation import typed
from resnet50.urls import shown_url

# config.txt as shipped has 20 KB. Whatever has more is no configuration.
_MAX_BYTES = 2**20


def _did_you_mean(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def _shown(value: object) -> str:
    """A value as a user wrote it in TOML, shortened and without secrets."""
    try:
        text = shown_url(str(value))
        text = f'"{text}"' if isinstance(value, str | Path) else text
    # A table in a table in a table; or a number of more than 4,300 digits.
    except (RecursionError, ValueError):
        text = "..."
    return short_line(text.lower() if isinstance(value, bool) else text)


class _Layer(NamedTuple):
    """A file that contains a part of a configuration, or the values of --set."""

    path: Path
    sections: dict[str, Any]


def _read_toml(path: Path, remedy: str) -> dict[str, Any]:
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigError(f"{path}: has more than {_MAX_BYTES:,} bytes ({remedy})")
        return tomli.loads(content.decode("utf-8-sig"))
    except OSError as error:
        fault = f"cannot be read: {error.strerror} ({remedy})"
    except UnicodeDecodeError as error:
        fault = f"byte {error.start} is not UTF-8 (save it as UTF-8 text)"
    # TOMLDecodeError is a ValueError; so is a number of more than 4,300 digits.
    except (ValueError, RecursionError) as error:
        fault = f"is not valid TOML: {printable_line(str(error))}"
    raise ConfigError(f"{path}: {fault}")


def _require_known_names(path: Path, sections: dict[str, Any]) -> None:
    for name, values in sections.items():
        if name not in SECTIONS:
            shown, hint = printable_line(name), _did_you_mean(name, SECTIONS)
            kind = f"section [{shown}]" if isinstance(values, dict) else f"key {shown}"
            raise ConfigError(f"{path}: unknown {kind} ({hint})")
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {name} must be a section, [{name}]")
        fields = [field.name for field in dataclasses.fields(SECTIONS[name])]
        for key in values:
            if key not in fields:
                shown, hint = printable_line(key), _did_you_mean(key, fields)
                raise ConfigError(f"{path}: unknown key [{name}] {shown} ({hint})")


def _read_layers(path: Path) -> list[_Layer]:
    """Reads a file, its base, the base's base and so on; checks all names."""
    layers: list[_Layer] = []
    remedy = f"give it as --config=PATH; `{typed('init')}` writes one"
    while True:
        sections = _read_toml(path, remedy)
        base = sections.pop("base", None)
        _require_known_names(path, sections)
        layers.append(_Layer(path, sections))
        if base is None:
            return layers
        if not isinstance(base, str) or not base or "\0" in base:
            raise ConfigError(f"{path}: base = {_shown(base)} (must be a file's path)")
        remedy = f"it is the base of {path}"
        file = path.parent / base
        path = file.parent.resolve() / file.name
        if any(path == layer.path.resolve() for layer in layers):
            raise ConfigError(f"{layers[-1].path}: base = {_shown(base)} (is a circle)")


def _read_section(layers: list[_Layer], name: str) -> Any:
    """Reads each key from the first file that contains it."""
    whole = layers[-1].path  # The last base, which should contain all keys.
    if not any(name in layer.sections for layer in layers):
        raise ConfigError(f"{whole}: section [{name}] is missing")
    values = {}
    for field in dataclasses.fields(SECTIONS[name]):
        key = field.name
        layer = next((a for a in layers if key in a.sections.get(name, {})), None)
        if layer is None:
            raise ConfigError(
                f"{whole}: [{name}] {key} is missing (add the line {key} = ...; "
                "config.txt as shipped explains it)"
            )
        raw = layer.sections[name][key]
        try:
            values[key] = field.metadata["check"](raw, layer.path.absolute().parent)
        except ValueError as fault:
            where = f"{layer.path}: [{name}] {key}"
            raise ConfigError(f"{where} = {_shown(raw)} ({fault})") from None
    return SECTIONS[name](**values)


def _raise_first_fault(where: str, config: Config) -> None:
    for section, key, expected in config.faults():
        value = _shown(getattr(getattr(config, section), key))
        raise ConfigError(f"{where}: [{section}] {key} = {value} ({expected})")


def read_config(path: Path | str, assignments: Sequence[str] = ()) -> Config:
    """Reads and checks a whole configuration file.

    Its relative paths, including ``base``, are relative to its folder.

    Args:
        path: The file.
        assignments: Values that replace those of the file, such as
            "train.batch_size=32". Relative paths in them are relative to the current
            folder.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or has an unknown, missing,
            wrongly typed or out-of-range key; or an assignment has. One line names key,
            value and remedy.
    """
    layers, where = _read_layers(Path(path)), str(path)
    if assignments:
        flag = _Layer(Path(FLAG), parse_assignments(assignments))
        _require_known_names(*flag)
        layers, where = [flag, *layers], f"{path} with {FLAG}"
    config = Config(**{name: _read_section(layers, name) for name in SECTIONS})
    _raise_first_fault(where, config)
    return config


def override(
    config: Config, section: str, key: str, value: object, *, flag: str
) -> Config:
    """Returns a configuration with one value replaced by that of a flag.

    Raises:
        ConfigError: The value is wrongly typed, out of range, or does not fit another.
    """
    values = getattr(config, section)
    field = next(f for f in dataclasses.fields(values) if f.name == key)
    try:
        checked = field.metadata["check"](value, Path.cwd())
    except ValueError as fault:
        raise ConfigError(f"{flag} = {_shown(value)} ({fault})") from None
    changed = dataclasses.replace(values, **{key: checked})
    config = dataclasses.replace(config, **{section: changed})
    _raise_first_fault(flag, config)
    return config


def write_changed(
    template: Path | str, path: Path | str, changes: Mapping[str, Mapping[str, Any]]
) -> None:
    """Writes a valid configuration file with other values for some sections' keys.

    All comments are kept.

    Raises:
        ConfigError: The file cannot be written.
    """
    document = tomlkit.parse(Path(template).read_text(encoding="utf-8"))
    for section, values in changes.items():
        document[section].update(values)
    _write(Path(path), document)


def write_channel_statistics(
    path: Path | str, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Writes [dataset] channel_mean and channel_std into a valid configuration file.

    All comments and other values are kept. A file with a base gets keys of its own,
    because other files with the same base may have other images. Values are for red,
    green and blue, in 0..1.

    Raises:
        ConfigError: The file cannot be written.
    """
    path = Path(path).resolve()  # Replaces the target of a link, not the link.
    document = tomlkit.parse(path.read_bytes().decode("utf-8-sig"))
    dataset = document.setdefault("dataset", tomlkit.table())
    for key, values in (("channel_mean", mean), ("channel_std", std)):
        dataset.setdefault(key, list(values))
        for channel, value in enumerate(values):
            dataset[key][channel] = value
    _write(path, document)


def _write(path: Path, document: tomlkit.TOMLDocument) -> None:
    try:
        with atomic_file(path) as file:
            file.write(tomlkit.dumps(document).encode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
