"""Writes the curves of runs as a picture, as a page and for TensorBoard."""

import importlib
from pathlib import Path
from types import ModuleType

from PIL import Image

from resnet50.errors import UserError
from resnet50.reports.curves import RunRecord, distinguish, read_run
from resnet50.reports.tables import EVALUATION_FILE, METRICS_FILE


class PlotError(UserError):
    """The curves cannot be plotted or written."""


def load_report(name: str, package: str, extra: str) -> ModuleType:
    """Imports a module of resnet50.reports that needs a package of an extra.

    Raises:
        PlotError: The package is not installed.
    """
    try:
        return importlib.import_module(f"resnet50.reports.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        raise PlotError(
            f"{package} is not installed (pip install -e '.[{extra}]')"
        ) from None


class Plot:
    """The files with the curves of some runs."""

    def __init__(self, folders: list[Path], output: str | None, *, has_events: bool):
        """Imports what renders the curves.

        Args:
            folders: Folder of each run.
            output: Path of the files without suffix; None for "curves" in the only
                run's folder, or "comparison" next to the first run's folder.
            has_events: Whether to write TensorBoard's event files too.

        Raises:
            PlotError: A package is not installed.
        """
        if not output:
            single = folders[0] / "curves"
            path = folders[0].parent / "comparison" if folders[1:] else single
        else:
            path = Path(output.removesuffix(".png").removesuffix(".html"))
        # Not with_suffix: a run's name may contain a full stop.
        self.picture_path = path.parent / f"{path.name}.png"
        self.page_path = path.parent / f"{path.name}.html"
        self._folders = folders
        self._diagrams = load_report("diagrams", "matplotlib", "plots")
        self._page = load_report("page", "matplotlib", "plots")
        self._events = None
        if has_events:
            self._events = load_report("events", "tensorboard", "tensorboard")
        # A picture for the event files.
        self.first_batch: Image.Image | None = None

    def write(self, *, reloads: bool) -> list[RunRecord]:
        """Writes the files from the current tables; returns the tables.

        Args:
            reloads: Whether the page reloads itself.

        Raises:
            RunError: A run has no tables yet.
            PlotError: A file cannot be written.
        """
        runs = distinguish([read_run(folder) for folder in self._folders])
        try:
            self._diagrams.write_picture(self.picture_path, runs)
            self._page.write_page(self.page_path, runs, reloads=reloads)
            for run in runs if self._events else ():
                self._events.write_events(run, self.first_batch)
        except OSError as error:
            raise PlotError(
                f"{self.page_path}: cannot be written: {error} (see --output)"
            ) from None
        return runs

    def table_times(self) -> list[float]:
        """When the tables were last written; changes if one is written again."""
        names = METRICS_FILE, EVALUATION_FILE
        paths = [folder / name for folder in self._folders for name in names]
        return [path.stat().st_mtime for path in paths if path.exists()]
