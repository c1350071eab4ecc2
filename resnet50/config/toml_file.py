"""Reads config.txt (TOML), replaces values in it, and writes two of them.

Strict: every key must be there, of its type and in its range, and no other.

A file may hold only some of the keys and name, as ``base``, the file with the others:
the files of recipes/ are laid over config.txt in this way.
"""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tomli
import tomlkit

from resnet50.atomic_io import atomic_file
from resnet50.config.settings import SECTIONS, Config, ConfigError


def _did_you_mean(name: str, known) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def _one_line(text: str) -> str:
    """The text with everything that moves a terminal's cursor as an escape."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _shown(value) -> str:
    """A value as a user wrote it in TOML, shortened."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else None
    text = text or (f'"{value}"' if isinstance(value, str | Path) else str(value))
    text = _one_line(text)
    return text if len(text) <= 80 else text[:77] + "..."


class _Layer(NamedTuple):
    """One of the files that a configuration is made of."""

    path: Path
    sections: dict

    def has(self, section: str, key: str) -> bool:
        return key in self.sections.get(section, {})


def _read_toml(path: Path, remedy: str) -> dict:
    try:
        return tomli.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror} ({remedy})"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: byte {error.start} is not UTF-8 (save it as UTF-8 text)"
        ) from None
    # ValueError: of which TOMLDecodeError is one, and another is a number of more than
    # 4,300 digits.
    except (ValueError, RecursionError) as error:
        reason = _one_line(str(error))
        raise ConfigError(f"{path}: is not valid TOML: {reason}") from None


def _require_known_names(path: Path, sections: dict) -> None:
    for name, values in sections.items():
        if name not in SECTIONS:
            hint = _did_you_mean(name, SECTIONS)
            shown = _one_line(name)
            kind = f"section [{shown}]" if isinstance(values, dict) else f"key {shown}"
            raise ConfigError(f"{path}: unknown {kind} ({hint})")
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {name} must be a section, [{name}]")
        fields = [field.name for field in dataclasses.fields(SECTIONS[name])]
        for key in values:
            if key not in fields:
                hint = _did_you_mean(key, fields)
                raise ConfigError(
                    f"{path}: unknown key [{name}] {_one_line(key)} ({hint})"
                )


def _read_layers(path: Path) -> list[_Layer]:
    """A configuration file, its base, that one's base and so on; names are checked."""
    layers: list[_Layer] = []
    remedy = "give it as --config=PATH"
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


def _read_section(layers: list[_Layer], name: str):
    """Reads each key from the first of the files that has it."""
    whole = layers[-1].path  # Of the files, the one that is meant to have all keys.
    if not any(name in layer.sections for layer in layers):
        raise ConfigError(f"{whole}: section [{name}] is missing")
    values = {}
    for field in dataclasses.fields(SECTIONS[name]):
        key = field.name
        layer = next((layer for layer in layers if layer.has(name, key)), None)
        if layer is None:
            raise ConfigError(
                f"{whole}: [{name}] {key} is missing (add the line {key} = ...; "
                "config.txt as shipped explains it)"
            )
        raw = layer.sections[name][key]
        try:
            values[key] = field.metadata["check"](raw, layer.path.absolute().parent)
        except ValueError as fault:
            raise ConfigError(
                f"{layer.path}: [{name}] {key} = {_shown(raw)} ({fault})"
            ) from None
    return SECTIONS[name](**values)


def _raise_first_fault(where: str, config: Config) -> None:
    for section, key, expected in config.faults():
        value = _shown(getattr(getattr(config, section), key))
        raise ConfigError(f"{where}: [{section}] {key} = {value} ({expected})")


def read_config(path: Path | str) -> Config:
    """Reads and checks a whole configuration file.

    Args:
        path: A TOML file. Relative paths inside it are relative to its folder; so is
            ``base``, the file with the keys that it has not.

    Raises:
        ConfigError: The file cannot be read, is no TOML, or holds an unknown, missing,
            wrongly typed or out-of-range key. One line that names key, value, remedy.
    """
    layers = _read_layers(Path(path))
    config = Config(**{name: _read_section(layers, name) for name in SECTIONS})
    _raise_first_fault(str(path), config)
    return config


def override(config: Config, section: str, key: str, value, *, flag: str) -> Config:
    """Returns the configuration with one value replaced from the command line.

    Args:
        config: What config.txt says. Not modified.
        section: Name of the section, such as "train".
        key: Name of the key in it.
        value: The new value, of the key's TOML type.
        flag: How the user gave it, such as "--batch_size", for the error message.

    Raises:
        ConfigError: The value is wrongly typed, out of range, or does not fit the rest.
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


def write_channel_statistics(
    path: Path | str, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Writes [dataset] channel_mean and channel_std into a valid configuration file.

    Every comment and all other values stay as they are. A file that is laid over a base
    gets keys of its own: other files have the same base, and other images.

    Args:
        path: The file, which ``read_config`` accepts.
        mean: Of red, green and blue, in 0..1.
        std: Likewise.

    Raises:
        ConfigError: The file cannot be written.
    """
    path = Path(path).resolve()  # Of a link, what it leads to is replaced.
    document = tomlkit.parse(path.read_bytes().decode("utf-8-sig"))
    dataset = document.setdefault("dataset", tomlkit.table())
    for key, values in (("channel_mean", mean), ("channel_std", std)):
        if key not in dataset:
            dataset[key] = list(values)
        for channel, value in enumerate(values):
            dataset[key][channel] = value
    try:
        with atomic_file(path) as file:
            file.write(tomlkit.dumps(document).encode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
