"""Prints the packages that the project needs, with those of the extras that are named."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *(p for e in sys.argv[1:] for p in extras[e]), sep="\n")
