"""Maps a function over items in a pool, in order and with bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    pool: Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_ahead: int,
) -> Iterator[Result]:
    """Yields function(item) for each item, in order, computed in a pool.

    Unlike Executor.map it reads items only as needed, and holds at most ``num_ahead``
    calls that are running or waiting to be yielded.
    """
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= num_ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
