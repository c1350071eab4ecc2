"""The result of a check: one line for the user."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from resnet50.errors import UserError

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """The result of a check."""

    # WARNING: a training can start, but will not run as it should. PROBLEM: it cannot.
    status: str
    what: str  # "subject: the facts"
    remedy: str = ""  # what to do

    def __str__(self) -> str:
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{self.status:7}  {self.what}{remedy}"


def guarded(
    subject: str, findings: Iterable[Finding], *, status: str = PROBLEM
) -> Iterator[Finding]:
    """Yields a generator's findings; a UserError or OSError becomes the last one."""
    try:
        yield from findings
    except (UserError, OSError) as error:
        yield Finding(status, f"{subject}: {error}")
