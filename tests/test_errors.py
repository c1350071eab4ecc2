"""Proves that an error's text is one printable line, whatever a name holds."""

import pickle

from resnet50.errors import UserError, printable_line


def test_control_characters_are_escaped():
    assert printable_line("a\nb\r\x1b[2J\0\u2028\udcff") == (
        r"a\nb\r\x1b[2J\x00\u2028\udcff"
    )
    assert printable_line("größe 猫: 'x' (y)") == "größe 猫: 'x' (y)"


def test_a_long_line_keeps_its_ends():
    line = printable_line("start" + "x" * 10_000 + "\nend")
    assert len(line) == 4_000
    assert line.startswith("startxx")
    assert line.endswith(r"xx\nend")
    assert " ... " in line
    assert printable_line(line) == line


def test_further_arguments_are_further_lines():
    error = UserError("a\n1: is wrong", "missing: b\r", "see c")
    assert str(error).splitlines() == [r"a\n1: is wrong", r"missing: b\r", "see c"]
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
