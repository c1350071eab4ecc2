"""Proves that the messages in docs/ are still those of the programs."""

import re

import pytest

from tests.docs.documents import read
from tests.docs.messages import could_be_printed, is_quoted_from_source

TROUBLE = read("troubleshooting.md")
QUOTED = re.findall(r"^\| `(.+?)` \|", TROUBLE, flags=re.MULTILINE)
BLOCKS = re.findall(r"^```\n(.*?)^```", read("programs.md"), flags=re.M | re.S)
# Neither commands, nor predictions, which are numbers and names only.
PRINTED = [
    line
    for block in BLOCKS
    for line in block.splitlines()
    if not re.match(r"\$ |demo/|.*%  [a-z-]+$|    python3 ", line)
]


@pytest.mark.parametrize("quotation", QUOTED)
def test_a_message_to_look_up_is_in_the_source(quotation):
    assert is_quoted_from_source(quotation)


def test_there_are_messages_and_each_stands_once():
    assert len(QUOTED) > 60
    assert len(QUOTED) == len(set(QUOTED))


def test_a_message_that_does_not_exist_is_not_found():
    assert not is_quoted_from_source("... : is empty (train.py will repair it)")
    assert not is_quoted_from_source("stopped ... before ... nothing of this")


@pytest.mark.parametrize("line", PRINTED)
def test_a_line_that_is_shown_could_be_printed(line):
    assert could_be_printed(line)


def test_a_line_of_no_program_could_not():
    assert len(PRINTED) > 40
    assert not could_be_printed("epoch 4: 17 photographs a minute")
