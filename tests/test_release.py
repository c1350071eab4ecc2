"""Proves that each step of a release succeeds, and notices what it is for."""

import subprocess
import tarfile
import zipfile

import pytest

from tests import release
from tests.release import Candidate, StepError
from tests.settings import PROJECT

CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-01-31\n\n- all\n"
CITATION = "version: 1.2.0\ndate-released: 2026-01-31\n"


class Commands:
    """Answers commands by the words in them, and notes them."""

    def __init__(self, **answers):
        self.answers = answers
        self.made = []

    def __call__(self, command, folder, *, is_shown=False):
        self.made.append(" ".join(command))
        for word, answer in self.answers.items():
            if word.replace("_", "-") in command:
                if isinstance(answer, Exception):
                    raise answer
                return answer(folder) if callable(answer) else answer
        return ""


def write_built(root, *, wheel=("resnet50/a.py", "resnet50-1.2.0/METADATA"), more=()):
    """Writes a wheel and a source archive as the build does."""
    dist = root / "dist"
    dist.mkdir(exist_ok=True)
    with zipfile.ZipFile(dist / "resnet50-1.2.0-py3-none-any.whl", "w") as file:
        for name in wheel:
            file.writestr(name, "")
    source = ("pyproject.toml", "README.md", "resnet50/a.py", *more)
    (root / "empty").touch()
    with tarfile.open(dist / "resnet50-1.2.0.tar.gz", "w:gz") as file:
        for name in source:
            file.add(root / "empty", f"resnet50-1.2.0/{name}")
    return ""


@pytest.fixture
def root(tmp_path):
    """A project with version 1.2.0."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "CITATION.cff").write_text(CITATION)
    return tmp_path


def good_commands():
    return Commands(
        rev_parse="abc\n",
        ls_files="resnet50/a.py\n",
        build=lambda folder: write_built(folder, more=["LICENSE"]),
        __help="doctor\n",
    )


def test_all_steps_in_order_then_what_is_left(root, capsys):
    commands = good_commands()
    assert release.release(Candidate(root, commands), list(release.STEPS))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[: len(release.STEPS)]] == [
        ["ok", name] for name in release.STEPS
    ]
    assert "version 1.2.0 of 2026-01-31" in lines[1]
    assert any("git tag --annotate v1.2.0" in line for line in lines)
    assert "make test" in commands.made


@pytest.mark.parametrize(
    ("step", "answers", "fault"),
    [
        ("tree", {"status": " M a.py\n"}, "a.py is not committed"),
        ("versions", {"tag": "v1.2.0\n"}, "tag v1.2.0 exists"),
        ("tests", {"make": StepError("make test failed")}, "make test failed"),
        ("matrix", {"tests.matrix": StepError("failed")}, "failed"),
        ("build", {"build": StepError("No module named build")}, "No module"),
        ("build", {"build": lambda folder: ""}, "no file ends with .whl"),
        ("contents", {"ls_files": "resnet50/b.py\n"}, "the wheel lacks resnet50/b.py"),
        ("installation", {"__help": ""}, "does not list the commands"),
        ("installation", {"--quiet": StepError("no such version")}, "no such version"),
    ],
)
def test_a_step_that_fails_ends_the_release(root, capsys, step, answers, fault):
    commands = good_commands()
    commands.answers.update(answers)
    assert not release.release(Candidate(root, commands), list(release.STEPS))
    *before, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"FAILED  {step}") and fault in last
    assert len(before) == list(release.STEPS).index(step)


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("pyproject.toml", "1.2.0", "1.3.0", "[Unreleased] and [1.3.0] - DATE"),
        ("CHANGELOG.md", "[1.2.0]", "[1.1.0]", "[Unreleased] and [1.2.0] - DATE"),
        ("CHANGELOG.md", "[Unreleased]\n", "[Unreleased]\n\n- new\n", "is not empty"),
        ("CHANGELOG.md", "01-31", "02-01", "1.2.0 of 2026-01-31, expected"),
        ("CITATION.cff", "1.2.0", "1.1.0", "1.1.0 of 2026-01-31, expected"),
    ],
)
def test_files_that_disagree_about_the_version(root, name, old, new, fault):
    path = root / name
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(StepError) as caught:
        release.check_versions(Candidate(root, good_commands()))
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("built", "fault"),
    [
        (
            {"wheel": ["resnet50/a.py", "tests/b.py"], "more": ["LICENSE"]},
            "contains tests",
        ),
        ({}, "the source archive lacks LICENSE"),
    ],
)
def test_contents_of_the_built_files(root, built, fault):
    write_built(root, **built)
    with pytest.raises(StepError, match=fault):
        release.check_contents(Candidate(root, good_commands()))


def test_a_linked_folder_is_its_files(root):
    """As git lists it, and as the wheel and the archive contain it."""
    (root / "recipes").mkdir()
    (root / "recipes" / "a.txt").touch()
    (root / "resnet50").mkdir(exist_ok=True)
    (root / "resnet50" / "recipes").symlink_to("../recipes")
    commands = good_commands()
    commands.answers["ls_files"] = "resnet50/recipes\n"
    files = ["resnet50/recipes/a.txt"]
    write_built(root, wheel=files, more=["LICENSE", *files])
    assert release.check_contents(Candidate(root, commands)).startswith("1 files")
    write_built(root, wheel=["resnet50/b.py"], more=["LICENSE", *files])
    with pytest.raises(StepError, match=r"the wheel lacks resnet50/recipes/a\.txt"):
        release.check_contents(Candidate(root, commands))


def test_a_file_of_another_version(root):
    write_built(root)
    (root / "pyproject.toml").write_text('[project]\nversion = "1.3.0"\n')
    with pytest.raises(StepError, match=r"expected one of version 1\.3\.0"):
        Candidate(root).built(".whl")


def test_a_description_that_twine_refuses(root, monkeypatch):
    write_built(root)
    monkeypatch.setattr(release.importlib.util, "find_spec", lambda name: object())
    refusal = Commands(twine=StepError("twine check failed"))
    with pytest.raises(StepError, match="twine check failed"):
        release.check_description(Candidate(root, refusal))
    monkeypatch.setattr(release.importlib.util, "find_spec", lambda name: None)
    assert "not checked" in release.check_description(Candidate(root, refusal))


def test_a_real_command(tmp_path):
    assert release.run_command(["echo", "text"], tmp_path) == "text\n"
    with pytest.raises(StepError, match="sh -c echo why; false failed: why"):
        release.run_command(["sh", "-c", "echo why; false"], tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "new").touch()
    with pytest.raises(StepError, match="new is not committed"):
        release.check_tree(Candidate(tmp_path))


def test_this_version_is_named_everywhere():
    release.require_versions(PROJECT, Candidate(PROJECT).version)
