"""A view of a running pair of programs, in a terminal; plain lines elsewhere."""

import time

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resnet50.errors import printable_line
from resnet50.handoff import locks
from resnet50.message_log import Message
from resnet50.reports.curves import number
from resnet50.reports.live.pair_files import duration
from resnet50.reports.live.pair_watch import PairState, PairWatch
from resnet50.reports.live.text_curve import draw_curve

_NAMES = {locks.TRAINER: "trainer", locks.PREPROCESSOR: "preprocessor"}
_ROLES = tuple(_NAMES)
_MAX_CURVE_HEIGHT = 10  # lines
_NUMBER_LINES = 6  # the heading, two bars, two programs and the last epoch

# Between two looks at the files, and two drawings.
_POLL_SECONDS = 1.0


def _speed(state: PairState, role: str) -> str:
    """Such as "24.4 images/s, 1.52 batches/s"."""
    if role not in state.processes:
        return "does not run"
    speed = state.speeds[role]
    if speed is None:
        return "runs"
    return f"{speed * state.batch_size:.1f} images/s, {speed:.2f} batches/s"


def _progress(state: PairState) -> str:
    """Such as "31.1% of 16 epochs, 0 h 04 min left"."""
    text = f"{state.share:.1%} of {state.epoch_end} epochs"
    if state.seconds_left:
        text += f", {duration(state.seconds_left)} left"
    return text


def _last_epoch(state: PairState) -> str:
    """Such as "loss 1.664, top-1 49.7%, waiting 0.0% in epoch 4"; "" without one."""
    if not state.metrics:
        return ""
    row = state.metrics[-1]
    loss, top1, waiting = (number(row, c) for c in ("loss", "top1", "waiting"))
    return (
        f"loss {loss:.3f}, top-1 {top1:.1%}, waiting {waiting:.1%} in epoch "
        f"{row.get('epoch')}"
    )


def _position(state: PairState) -> str:
    if state.position is None:
        return "position unknown"
    return f"{state.position} of {state.batches_per_epoch:,}"


def plain_line(state: PairState) -> str:
    """The state in one line."""
    speeds = (f"{_NAMES[role]} {_speed(state, role)}" for role in _ROLES)
    parts = [
        _position(state),
        _progress(state),
        f"buffer {state.num_ready}/{state.num_wanted}",
        *speeds,
        _last_epoch(state),
        state.limit,
    ]
    return f"{state.run_name or 'no run'}: " + "; ".join(filter(None, parts))


def message_line(role: str, message: Message) -> str:
    """The first line of a message, with its time and program."""
    first = printable_line(message.text.partition("\n")[0])
    return f"{message.time:%H:%M:%S} {_NAMES[role]:12} {first}"


class PairView:
    """A state, drawn as large as its terminal, or as ``height`` lines."""

    def __init__(self, state: PairState, *, height: int | None = None):
        self._state = state
        self._height = height

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """Draws what fits: the numbers, then the curve, then the messages."""
        state, width = self._state, options.max_width
        left = (self._height or console.height) - 1
        yield Text(f"{state.run_name or 'no run'}: {_position(state)}", style="bold")
        yield self._bars()
        yield self._programs()
        left -= _NUMBER_LINES
        if state.limit:
            limit = Text(state.limit, style="italic").wrap(console, width)
            yield limit
            left -= len(limit)
        height = min(_MAX_CURVE_HEIGHT, (left - 2) // 2)
        losses = [number(row, "loss") for row in state.metrics]
        if height >= 2 and (
            curve := draw_curve(losses, width, height, is_ascii=options.ascii_only)
        ):
            first, last = (state.metrics[index].get("epoch") for index in (0, -1))
            yield Text(f"loss of epochs {first} to {last}", style="bold")
            yield Text("\n".join(curve), style="cyan", no_wrap=True)
            left -= 1 + height
        messages = [message_line(*pair) for pair in state.messages]
        for line in messages[-left:] if left > 0 else []:
            yield Text(line, no_wrap=True, overflow="ellipsis")

    def _bars(self) -> Table:
        state = self._state
        bars = Table.grid(padding=(0, 1))
        bars.add_column(no_wrap=True)
        bars.add_column(ratio=1)
        bars.add_column(no_wrap=True)
        bars.expand = True
        bars.add_row("trained", ProgressBar(1, min(1, state.share)), _progress(state))
        wanted = state.num_wanted
        bars.add_row(
            "buffer",
            ProgressBar(max(1, wanted), min(wanted, state.num_ready)),
            f"{state.num_ready} of {wanted} batches ready",
        )
        return bars

    def _programs(self) -> Table:
        state = self._state
        programs = Table.grid(padding=(0, 1))
        for role in _ROLES:
            text = Text(_speed(state, role))
            if role in state.processes:
                text.append(f", process {state.processes[role]}")
            else:
                text.stylize("red")
            programs.add_row(_NAMES[role], text)
        programs.add_row("last epoch", _last_epoch(state) or "none yet")
        return programs


def is_live(console: Console) -> bool:
    """Whether a view can be drawn again and again in place."""
    return console.is_terminal and not console.is_dumb_terminal


def follow(watch: PairWatch, console: Console, line_seconds: float) -> None:
    """Shows a pair until all epochs are trained and the trainer has ended.

    Where a view cannot be drawn in place, prints a line every ``line_seconds``, and
    each new message.
    """
    if is_live(console):
        state = _follow_in_place(watch, console)
    else:
        state = _follow_in_lines(watch, line_seconds)
    print(f"all {state.epoch_end} epochs are trained", flush=True)


def _follow_in_place(watch: PairWatch, console: Console) -> PairState:
    state = watch.poll()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while not state.is_finished:
                live.update(PairView(state), refresh=True)
                time.sleep(_POLL_SECONDS)
                state = watch.poll()
    finally:
        console.print(PairView(state))
    return state


def _follow_in_lines(watch: PairWatch, line_seconds: float) -> PairState:
    state = watch.poll()
    printed_at = float("-inf")
    while True:
        known = state.messages
        if time.monotonic() >= printed_at + line_seconds or state.is_finished:
            printed_at = time.monotonic()
            print(plain_line(state), flush=True)
        if state.is_finished:
            return state
        time.sleep(_POLL_SECONDS)
        state = watch.poll()
        for role, message in state.messages:
            if (role, message) not in known:
                print(message_line(role, message), flush=True)
