"""Proves that the files of container/ agree with config.txt, the programs and the page.

``python -m tests.container`` builds the image and runs the containers.
"""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import pytest
import tomli
import yaml

from tests.container import COMPOSE, SERVICES
from tests.docs.documents import code_lines, read
from tests.docs.test_commands import ParsedError, run_until_parsed
from tests.settings import PROJECT, SHIPPED
from tests.units import PREPROCESSOR, TRAINER, read_unit

DOCKERFILE = PROJECT / "container" / "Dockerfile"
TEXT = COMPOSE.read_text(encoding="utf-8")
VARIABLE = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")
UNITS = dict(zip(SERVICES, (PREPROCESSOR, TRAINER)))


def with_defaults(text):
    """Replaces the variables of compose.yaml by their defaults, and ids by 1000."""
    return VARIABLE.sub(lambda m: m[3] if m[2] == "-" else "1000", text)


FILE = yaml.safe_load(with_defaults(TEXT))


def instructions():
    """The name and the value of each instruction of the Dockerfile."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


def instruction(name):
    (value,) = [value for found, value in instructions() if found == name]
    return value


@pytest.fixture(params=SERVICES)
def service(request):
    return FILE["services"][request.param] | {"name": request.param}


def test_the_services_build_the_dockerfile(service):
    assert set(FILE["services"]) == set(SERVICES)
    context = (COMPOSE.parent / service["build"]["context"]).resolve()
    assert context == PROJECT
    assert context / service["build"]["dockerfile"] == DOCKERFILE


def test_the_programs_take_the_flags(service, monkeypatch):
    words = service["command"]
    assert words[1] == f"{SERVICES[service['name']]}.py"
    with pytest.raises(ParsedError):
        run_until_parsed(words, monkeypatch)


def test_a_health_check_judges_the_program_of_its_container(service, monkeypatch):
    start, *words = service["healthcheck"]["test"]
    assert start == "CMD"
    assert words[3:] == ["status", f"--check={SERVICES[service['name']]}"]
    with pytest.raises(ParsedError):
        run_until_parsed(words, monkeypatch)


def test_a_container_gets_as_long_to_stop_as_a_unit(service):
    unit = read_unit(UNITS[service["name"]])["Service"]["TimeoutStopSec"]
    assert f"{service['stop_grace_period']}in" == unit


def test_the_folders_are_where_the_shipped_settings_expect_them(service):
    folders = {
        volume["target"]: volume.get("read_only", False)
        for volume in service["volumes"]
    }
    train, dataset = SHIPPED.train, SHIPPED.dataset
    (images,) = {dataset.training_images.parent, dataset.validation_images.parent}
    wanted = {
        PROJECT / "config.txt": True,
        images: True,
        train.buffer_folder: False,
        train.saved_models_folder: False,
    }
    root = instruction("WORKDIR")
    assert folders == {
        f"{root}/{path.relative_to(PROJECT)}": read_only
        for path, read_only in wanted.items()
    }
    # A folder that Docker made would belong to root.
    assert all(not v["bind"]["create_host_path"] for v in service["volumes"])


def test_the_user_is_not_root(service):
    assert service["user"] == instruction("USER") == "1000:1000"


def test_a_signal_reaches_the_program():
    """A shell as process 1 would not pass it on."""
    assert yaml.safe_load(instruction("ENTRYPOINT")) == ["tini", "--"]
    assert " tini " in instructions()[1][1]
    assert isinstance(yaml.safe_load(instruction("CMD")), list)


def project():
    return tomli.loads((PROJECT / "pyproject.toml").read_text())["project"]


def test_the_image_gets_all_packages(monkeypatch, capsys):
    monkeypatch.chdir(PROJECT)
    monkeypatch.setitem(sys.modules, "tomllib", tomli)  # Python 3.10 has none.
    extras = re.search(r'EXTRAS="(.*)"', instruction("ARG"))[1].split()
    assert "cuda" in extras
    monkeypatch.setattr(sys, "argv", ["requirements.py", *extras])
    runpy.run_path(str(DOCKERFILE.with_name("requirements.py")))
    printed = set(capsys.readouterr().out.splitlines())
    wanted = project()["dependencies"]
    for extra in extras:
        wanted += project()["optional-dependencies"][extra]
    assert printed == set(wanted)


def test_the_image_gets_the_programs_and_nothing_else_of_the_folder():
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    for pattern in kept:
        assert list(PROJECT.glob(pattern)), pattern
    scripts = {f"{role}.py" for role in SERVICES.values()}
    assert {path.name for path in PROJECT.glob("*.py")} >= scripts
    assert {"pyproject.toml", "config.txt", "recipes", "resnet50", "*.py"} < set(kept)


def test_the_page_names_every_variable_with_its_default():
    table = re.findall(
        r"^\| `([A-Z_]+)` \| .* \| (.*?) \|$", read("container.md"), re.M
    )
    wanted = {
        name: f"`{default}`" if kind == "-" else "none"
        for name, kind, default in VARIABLE.findall(TEXT)
    }
    assert dict(table) == wanted


def test_the_commands_of_the_page(monkeypatch):
    """Each starts compose; the services exist, and the programs take the flags."""
    lines = [line for line in code_lines(read("container.md")) if "docker" in line]
    assert len(lines) >= 5
    for line in lines:
        docker, compose, verb, *words = shlex.split(line)
        assert (docker, compose) == ("docker", "compose")
        while words and words[0].startswith("-"):
            words.pop(0)
        if verb in ("exec", "run"):
            assert words.pop(0) in SERVICES
            with pytest.raises(ParsedError):
                run_until_parsed(words, monkeypatch)
        else:
            assert verb in ("build", "logs", "ps", "stop", "up")
            assert set(words) <= set(SERVICES)


@pytest.mark.skipif(not shutil.which("hadolint"), reason="there is no hadolint")
def test_hadolint_finds_nothing():
    subprocess.run(["hadolint", DOCKERFILE], check=True)


def has_compose():
    command = ["sh", "-c", "docker compose version"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not has_compose(), reason="there is no docker compose")
def test_compose_accepts_the_file():
    command = ["docker", "compose", "--file", COMPOSE, "config", "--quiet"]
    ids = {"USER_ID": "1000", "GROUP_ID": "1000"}
    subprocess.run(command, env=os.environ | ids, check=True)
