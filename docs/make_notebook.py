"""Runs docs/demo.ipynb and stores what its cells print and show.

    python3 -m docs.make_notebook

It runs without Jupyter: a cell that begins with %%bash is given to bash, any other is
Python. The project is copied to a temporary folder first, so that nothing remains. A
test runs the same cells with fewer pictures.
"""

import ast
import base64
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]
NOTEBOOK = PROJECT / "docs" / "demo.ipynb"

# What TensorFlow prints about the machine while it loads.
_NOISE = re.compile(r"[IWEF]0000 00:00|WARNING: All log messages before absl")

_MAX_SECONDS = 900  # of a cell


def read_cells(path: Path = NOTEBOOK) -> list[str]:
    """The sources of a notebook's code cells."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


def copy_project(folder: Path) -> None:
    """Copies what the cells need of the project, but not the package."""
    for path in [*PROJECT.glob("*.py"), PROJECT / "config.txt"]:
        shutil.copy(path, folder)


class CellError(Exception):
    """A cell has failed."""


class Runner:
    """Runs cells one after another in a folder; as a context, ends what they started.

    Python cells run in this process, as in a Jupyter kernel, and may change the
    environment and the current folder; both are restored at the end.
    """

    def __init__(self, folder: Path):
        self._folder, self._names, self._groups = folder, {}, []

    def __enter__(self) -> "Runner":
        self._outside = Path.cwd(), dict(os.environ)
        os.chdir(self._folder)
        os.environ["PYTHONPATH"] = str(PROJECT)
        return self

    def __exit__(self, *exception) -> None:
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)
        folder, environment = self._outside
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)

    def run(self, source: str) -> tuple[str, object]:
        """Runs a cell; returns what it printed and the value of its last expression.

        Raises:
            CellError: A command has failed; with its output.
        """
        if source.startswith("%%bash\n"):
            return self._run_bash(source.removeprefix("%%bash\n")), None
        code = ast.parse(source)
        value = None
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            last = code.body.pop() if isinstance(code.body[-1], ast.Expr) else None
            exec(compile(code, "cell", "exec"), self._names)
            if last:
                value = eval(ast.unparse(last), self._names)
        return printed.getvalue(), value

    def _run_bash(self, script: str) -> str:
        process = subprocess.Popen(
            ["bash", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._groups.append(process.pid)
        output, _ = process.communicate(timeout=_MAX_SECONDS)
        if process.returncode:
            raise CellError(f"{script}\nstatus {process.returncode}\n{output}")
        return output


def tidy(text: str, folder: Path) -> str:
    """Printed text without TensorFlow's lines, and without the name of the folder."""
    lines = [line for line in text.splitlines() if not _NOISE.match(line)]
    return "\n".join(lines).replace(str(folder), "~/resnet50")


def _outputs(printed: str, value: object) -> list[dict]:
    """The outputs of a cell, in the notebook's format."""
    found = []
    if printed:
        lines = printed.splitlines(keepends=True)
        found.append({"name": "stdout", "output_type": "stream", "text": lines})
    if value is not None:
        with io.BytesIO() as file:
            value.quantize(128).save(file, "PNG", optimize=True)
            data = base64.b64encode(file.getvalue()).decode()
        found.append(
            {"data": {"image/png": data}, "metadata": {}, "output_type": "display_data"}
        )
    return found


def main() -> None:
    """Runs all cells and rewrites the notebook."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    with tempfile.TemporaryDirectory() as folder, Runner(Path(folder)) as runner:
        copy_project(Path(folder))
        for number, cell in enumerate(cells, start=1):
            print(f"cell {number} of {len(cells)}", file=sys.stderr)
            printed, value = runner.run("".join(cell["source"]))
            cell["outputs"] = _outputs(tidy(printed, Path(folder)), value)
            cell["execution_count"] = number
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    NOTEBOOK.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
