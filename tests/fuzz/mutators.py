"""Changes valid files: bits, numbers, lengths, pieces, and the ends."""

import json
import random
import re
import struct
import zlib
from collections.abc import Sequence

# A larger input would only measure the disk.
_MAX_BYTES = 4 * 2**20

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32_767, 32_768, 65_535, 2**24, 2**31 - 1)
_LARGE = (2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS = (
    b"../../x",
    b"/etc/hostname",
    b"/dev/zero",
    b"\0",
    b"\n",
    b"\r",
    b"\x1b[2J",
    b"\xff\xfe",
    "\u0663\u2028".encode(),
    b'"',
    b"[" * 5_000,
    b"{" * 5_000,
    b"a." * 3_000,
    b"9" * 5_000,
    b"-1",
    b"1e400",
    b"1" + b"0" * 400,
    b"nan",
    b"inf",
    b"true",
    b"null",
    b"1979-05-27",
)


def _number(rng: random.Random) -> bytes:
    value = rng.choice((*_NUMBERS, *_LARGE, rng.getrandbits(32)))
    width = rng.choice((1, 2, 4, 4, 8))
    order = rng.choice(("little", "big"))
    return (value % 2 ** (8 * width)).to_bytes(width, order)


def _change_once(data: bytes, rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    size = len(data)
    # Headers are at the beginning, and sometimes at the end.
    start = rng.randrange(size + 1)
    if rng.random() < 0.4:
        start = min(start, rng.randrange(200))
    elif rng.random() < 0.1:
        start = max(0, size - rng.randrange(1, 200))
    length = min(rng.choice((1, 4, 16, 100, 600, 5_000)), size - start)
    end = start + length
    kind = rng.randrange(9)
    if kind == 0:  # flips a bit
        changed = bytearray(data or b"\0")
        for _ in range(rng.choice((1, 1, 2, 8))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == 1:  # overwrites a number
        number = _number(rng)
        return data[:start] + number + data[start + len(number) :]
    if kind == 2:  # cuts the end off
        return data[:start]
    if kind == 3:  # cuts a piece out
        return data[:start] + data[end:]
    if kind == 4:  # repeats a piece
        times = rng.choice((1, 1, 2, 10, 1_000))
        return data[:end] + data[start:end] * times + data[end:]
    if kind == 5:  # a piece of another file
        other = rng.choice(seeds)
        first = rng.randrange(len(other) + 1)
        return data[:start] + other[first : first + 5_000] + data[end:]
    if kind == 6:  # replaces a number that is written in digits
        found = list(re.finditer(rb"\d+", data[:200_000]))
        if found:
            match = rng.choice(found)
            text = str(rng.choice((*_NUMBERS, *_LARGE, -1))).encode()
            return data[: match.start()] + text + data[match.end() :]
    if kind == 7:  # text that means something to a parser
        at = rng.choice((start, end))
        return data[:start] + rng.choice(_TEXTS) + data[at:]
    return data[:start] + rng.randbytes(rng.choice((1, 4, 40))) + data[end:]


def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Changes one of the seeds at one to six places."""
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        data = _change_once(data, rng, seeds)[:_MAX_BYTES]
    return data


_JSON_VALUES = (
    *(None, True, -1, 0, 1, 5, 1e308, float("nan"), 2**63, 10**400, "", "x"),
    *("../../x", "/dev/zero", "a\nb", "\x1b[2J", "\ud800", "0" * 70),
    *([], {}, [[]], [1, 2], ["a", "b", "c"], {"a": 1}, {"a\nb": []}),
)


def _change_json(value, rng: random.Random):
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        choice = rng.random()
        if choice < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if choice < 0.2:
            return {**value, str(rng.choice(_JSON_VALUES)): rng.choice(_JSON_VALUES)}
        return {**value, key: _change_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        index = rng.randrange(len(value))
        return [*value[:index], _change_json(value[index], rng), *value[index + 1 :]]
    return rng.choice(_JSON_VALUES)


def mutate_json(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Replaces a value inside the JSON text of a seed, or changes its bytes."""
    if rng.random() < 0.4:
        return mutate(rng, seeds)
    value = json.loads(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2))):
        value = _change_json(value, rng)
    return json.dumps(value).encode()


def mutate_lines(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Mixes the lines of the seeds, or changes a seed's bytes."""
    if rng.random() < 0.3:
        return mutate(rng, seeds)
    lines = [line for seed in seeds for line in seed.splitlines(keepends=True)]
    kept = rng.choice(seeds).splitlines(keepends=True)
    for _ in range(rng.choice((1, 2, 5))):
        kept.insert(rng.randrange(len(kept) + 1), rng.choice(lines))
        if rng.random() < 0.5:
            kept.pop(rng.randrange(len(kept)))
    return b"".join(kept)


def repair_png(data: bytes) -> bytes:
    """The chunks of a PNG file with the right checksums."""
    repaired, position = bytearray(data), 8
    while position + 12 <= len(repaired):
        size = int.from_bytes(repaired[position : position + 4], "big")
        end = position + 8 + size
        if end + 4 > len(repaired):
            break
        repaired[end : end + 4] = zlib.crc32(repaired[position + 4 : end]).to_bytes(
            4, "big"
        )
        position = end + 4
    return bytes(repaired)


def repair_tar(data: bytes) -> bytes:
    """The headers of a tar archive with the right checksums."""
    repaired = bytearray(data)
    for start in range(0, len(repaired) - 511, 512):
        if repaired[start + 257 : start + 262] == b"ustar":
            header = repaired[start : start + 512]
            header[148:156] = b" " * 8
            repaired[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    return bytes(repaired)


def repaired(repair, mutator=mutate):
    """A mutator whose results mostly have the right checksums."""

    def mutate_and_repair(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
        data = mutator(rng, seeds)
        return repair(data) if rng.random() < 0.8 else data

    return mutate_and_repair


def safetensors_file(header: dict, values: bytes) -> bytes:
    """A weights file."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def mutate_safetensors(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Changes the header's JSON and keeps its length right, or changes the bytes."""
    if rng.random() < 0.4:
        return mutate(rng, seeds)
    seed = rng.choice(seeds)
    (size,) = struct.unpack("<Q", seed[:8])
    header = json.loads(seed[8 : 8 + size])
    metadata = header.get("__metadata__")
    if metadata and rng.random() < 0.5:
        key = rng.choice(list(metadata))
        with_bytes = json.dumps(_change_json(json.loads(f"[{metadata[key]}]")[0], rng))
        header["__metadata__"] = {**metadata, key: with_bytes}
    else:
        header = _change_json(header, rng)
    return safetensors_file(header, seed[8 + size :])
