"""A run's tables as TensorBoard's event files, written without TensorFlow.

    RUN/tensorboard/training/events.out.tfevents.*
    RUN/tensorboard/validation, 1 crop/events.out.tfevents.*

so that TensorBoard shows training and validation, and all runs, in one diagram. Every
file is rewritten from its whole table, and makes a running TensorBoard forget what it
has read before.
"""

import io
import math
import time
from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from resnet50.atomic_io import atomic_file
from resnet50.reports.curves import TRAINING, RunRecord, never_late, number
from resnet50.reports.tables import METRICS_FILE

FOLDER = "tensorboard"

# Columns that identify a row and are no results.
_KEYS = {"epoch", "steps", "crops", "weights", "num_images"}


def _clock_times(run: RunRecord) -> dict[int, float]:
    """When each epoch was finished, in seconds since 1970.

    The last epoch was finished when metrics.csv was written. Each earlier time follows
    from the seconds in the next epoch's row, so pauses are left out.
    """
    path = run.folder / METRICS_FILE
    at = path.stat().st_mtime if path.exists() else time.time()
    times = {}
    for row in reversed(run.metrics):
        times[int(row["epoch"])] = at
        seconds = number(row, "seconds")
        at -= 0 if math.isnan(seconds) else seconds
    return times


def _scalars(row: dict[str, str]) -> list[Summary.Value]:
    """Every number of a table's row."""
    numbers = {column: number(row, column) for column in row if column not in _KEYS}
    numbers["images_per_second_if_never_late"] = never_late(row)
    return [
        Summary.Value(tag=tag, simple_value=value)
        for tag, value in numbers.items()
        if not math.isnan(value)
    ]


def _picture(image: Image.Image) -> Summary.Value:
    png = io.BytesIO()
    image.save(png, format="PNG")
    picture = Summary.Image(
        width=image.width,
        height=image.height,
        colorspace=3,
        encoded_image_string=png.getvalue(),
    )
    return Summary.Value(tag="first batch", image=picture)


def _replace_file(folder: Path, events: list[Event]) -> None:
    """Replaces the event file of a folder by one with these events."""
    folder.mkdir(parents=True, exist_ok=True)
    before = list(folder.glob("events.out.tfevents.*"))
    now = time.time()
    first = min((event.step for event in events), default=0)
    start = SessionLog(status=SessionLog.START)
    head = [
        Event(wall_time=now, file_version="brain.Event:2"),
        Event(wall_time=now, step=first, session_log=start),
    ]
    # A running TensorBoard reads only files whose names come after the last one.
    numbers = [int(path.suffix[1:]) for path in before if path.suffix[1:].isdecimal()]
    number = max([time.time_ns(), *(last + 1 for last in numbers)])
    with atomic_file(folder / f"events.out.tfevents.{number}") as file:
        writer = RecordWriter(file)
        for event in head + events:
            writer.write(event.SerializeToString())
    for path in before:
        path.unlink()


def write_events(run: RunRecord, first_batch: Image.Image | None) -> Path:
    """Writes a run's event files, and returns their folder.

    Raises:
        OSError: They cannot be written.
    """
    times, now = _clock_times(run), time.time()

    def event(epoch: int, values: list[Summary.Value]) -> Event:
        at = times.get(epoch, now)
        return Event(wall_time=at, step=epoch, summary=Summary(value=values))

    for kind, rows in {TRAINING: run.metrics, **run.evaluations_by_kind}.items():
        events = [event(int(row["epoch"]), _scalars(row)) for row in rows]
        if first_batch is not None and kind == TRAINING:
            events.insert(0, event(0, [_picture(first_batch)]))
        _replace_file(run.folder / FOLDER / kind, events)
    return run.folder / FOLDER
