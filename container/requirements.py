"""Prints the packages that the project and the named extras need."""

import sys
from pathlib import Path

import tomllib

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *(p for e in sys.argv[1:] for p in extras[e]), sep="\n")
