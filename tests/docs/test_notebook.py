"""Proves that docs/demo.ipynb runs, and that its stored outputs are whole.

Its cells run here as they are, with fewer pictures and epochs, and smaller crops.
"""

import csv
import json
import os
import re
from pathlib import Path

import pytest

from docs.make_notebook import NOTEBOOK, CellError, Runner, copy_project, read_cells
from resnet50.demo.pictures import PATTERNS
from tests.docs.test_commands import require_target

CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
SMALLER = {
    "PICTURES, EPOCHS = 40, 8": "PICTURES, EPOCHS = 8, 3",
    '"crop_size": 64': '"crop_size": 32',
}


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_cells_train_interrupt_resume_and_evaluate(tmp_path):
    copy_project(tmp_path)
    cells = read_cells()
    for sizes, small in SMALLER.items():
        assert sum(sizes in cell for cell in cells) == 1
        cells = [cell.replace(sizes, small) for cell in cells]
    printed = ""
    with Runner(tmp_path) as runner:
        for cell in cells:
            printed += runner.run(cell)[0]
    assert "epoch 0, batch 0 is shown in preview_0_0.png" in printed
    assert re.search(r"stopped before epoch [12], batch \d; resume with:", printed)
    assert "runtime_preprocessing.py runs" in printed
    run = tmp_path / "notebook-demo" / "saved_models" / "first"
    assert [row["epoch"] for row in rows(run / "metrics.csv")] == ["0", "1", "2"]
    assert [row["epoch"] for row in rows(run / "evaluation.csv")] == ["0", "1", "2"]
    assert (run / "curves.html").exists() and (run / "classes.html").exists()


def test_the_stored_outputs_are_whole():
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    texts = [
        "".join(output.get("text", ""))
        for cell in code
        for output in cell["outputs"]
        if output["output_type"] == "stream"
    ]
    pictures = [
        o for c in code for o in c["outputs"] if "image/png" in o.get("data", "")
    ]
    assert len(texts) >= 7 and len(pictures) == 3
    text = "".join(texts)
    assert "Traceback" not in text and "I0000" not in text
    assert not re.search(r"(?<![~\w.-])/(tmp|home|root|work|Users)/", text)
    assert len(PATTERNS) == 10 and "images of 10 classes" in text
    assert NOTEBOOK.stat().st_size < 500_000


def test_each_part_is_explained_in_a_few_sentences():
    kinds = [cell["cell_type"] for cell in CELLS]
    assert kinds[0] == "markdown" and kinds.count("markdown") >= 9
    for cell in CELLS:
        if cell["cell_type"] == "markdown":
            assert len("".join(cell["source"])) < 500


def test_links_lead_somewhere():
    text = "".join("".join(c["source"]) for c in CELLS if c["cell_type"] == "markdown")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) >= 3
    for target in targets:
        require_target(target, NOTEBOOK)


def test_a_runner_restores_the_process_and_reports_a_failure(tmp_path):
    before = Path.cwd(), dict(os.environ)
    with Runner(tmp_path) as runner:
        assert runner.run("import os\nos.environ['WORD'] = 'seen'\n1 + 1") == ("", 2)
        assert runner.run("%%bash\npwd; echo $WORD")[0] == f"{tmp_path}\nseen\n"
        with pytest.raises(CellError, match="status 3\nword"):
            runner.run("%%bash\necho word >&2; exit 3")
    assert (Path.cwd(), dict(os.environ)) == before


def test_a_runner_ends_what_its_cells_have_started(tmp_path):
    with Runner(tmp_path) as runner:
        runner.run(
            "%%bash\n(trap 'touch ended; exit' TERM; echo > ready; "
            "while :; do sleep 0.05; done) > log 2>&1 &\n"
            "until [ -e ready ]; do sleep 0.05; done"
        )
    while not (tmp_path / "ended").exists():
        pass
