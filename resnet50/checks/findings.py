"""The result of a check: one line for the user."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from resnet50.errors import UserError

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """The result of a check.

    Attributes:
        status: OK; WARNING if a training can start but will not run as it should;
            PROBLEM if it cannot start.
        what: "subject: the facts".
        remedy: What to do, or "".
    """

    status: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{self.status:7}  {self.what}{remedy}"


def guarded(
    subject: str, check: Callable[[], Iterable[Finding]], *, status: str = PROBLEM
) -> Iterator[Finding]:
    """Runs a check that reads files; a file that it cannot read becomes a finding.

    Args:
        subject: Subject of the check, for that finding.
        check: Yields findings.
        status: Status of a UserError or OSError that the check raises.
    """
    try:
        yield from check()
    except (UserError, OSError) as error:
        yield Finding(status, f"{subject}: {error}")
