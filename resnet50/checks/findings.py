"""What a check has found: one line for the user."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from resnet50.errors import UserError

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """The result of a check.

    Attributes:
        status: OK; WARNING, if a training can start but not as it should; PROBLEM, if
            it cannot.
        what: "subject: what is so, with the value".
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
    """Runs a check that looks at files; what it cannot read is a finding too.

    Args:
        subject: What it looks at.
        check: Yields findings.
        status: Of a UserError or OSError that it raises.
    """
    try:
        yield from check()
    except (UserError, OSError) as error:
        yield Finding(status, f"{subject}: {error}")
