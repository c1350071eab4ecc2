"""Completes the pages of docs/ to the site that mkdocs builds: make site.

The pages stay as they are, with links that work in a checkout. The site also has the
README as its first page, the other pages of the project's folder, a page of the API for
each room that a reader may call, and the source files that the pages link to, as text.
"""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]

API_ROOMS = "handoff", "dataset", "pixels", "preprocessing", "network", "training"

# Files outside docs/ that are pages of the site.
_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}

_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(#[^)]*)?\)")
_NOTEBOOK_LINK = re.compile(r'href="([\w-]+)\.md(#[^"]*)?"')
_SHORT_CODE = re.compile(r"<code>([^<\n]{1,24})</code>")


def site_path(path: str) -> str:
    """Where a file of the project is on the site; both paths with slashes."""
    if path in _PAGES:
        return _PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path}.txt"  # so that a browser shows it


def _linked_path(target: str, page: str) -> str:
    """The file of the project that a link on one of its pages leads to."""
    return os.path.normpath(f"{Path(page).parent.as_posix()}/{target}")


def adapt_links(text: str, page: str) -> str:
    """The text of a page with the links that it has on the site.

    All pages of the site are in one folder.

    Args:
        text: Markdown.
        page: Where it is in the project, such as "docs/code.md".
    """

    def adapted(match: re.Match) -> str:
        return f"]({site_path(_linked_path(match[1], page))}{match[2] or ''})"

    return _LINK.sub(adapted, text)


def linked_sources(text: str, page: str) -> set[str]:
    """The files of the project that a page links to and that are no pages."""
    paths = {_linked_path(match[1], page) for match in _LINK.finditer(text)}
    return {path for path in paths if site_path(path).startswith("source/")}


def _documented_modules(room: str) -> Iterator[tuple[str, str]]:
    """Names of a room's modules with a public definition, and their first lines."""
    for path in sorted((PROJECT / "resnet50" / room).rglob("*.py")):
        if path.name.startswith("_"):
            continue
        module = ast.parse(path.read_text(encoding="utf-8"))
        public = [
            node
            for node in module.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and not node.name.startswith("_")
            and ast.get_docstring(node)
        ]
        if public:
            name = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
            yield name, ast.get_docstring(module).splitlines()[0]


def api_page(room: str) -> str:
    """The page of a room: what its public classes and functions are, by module."""
    init = PROJECT / "resnet50" / room / "__init__.py"
    about = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8")))
    parts = [f"# resnet50.{room}", about]
    for name, _ in _documented_modules(room):
        parts.append(f"## {name.removeprefix(f'resnet50.{room}.')}")
        parts.append(f"::: {name}")
    return "\n\n".join(parts) + "\n"


def on_files(files, config):
    """Adds the pages and files that are not in docs/. mkdocs calls it."""
    from mkdocs.structure.files import File

    texts = {
        page: (PROJECT / page).read_text(encoding="utf-8")
        for page in [*_PAGES, *(f"docs/{p.name}" for p in Path("docs").glob("*.md"))]
    }
    for page, name in _PAGES.items():
        content = adapt_links(texts[page], page)
        files.append(File.generated(config, name, content=content))
    for room in API_ROOMS:
        content = api_page(room)
        files.append(File.generated(config, f"api-{room}.md", content=content))
    for source in set().union(*(linked_sources(t, p) for p, t in texts.items())):
        path = str(PROJECT / source)
        files.append(File.generated(config, site_path(source), abs_src_path=path))
    return files


def mark_short_code(html: str) -> str:
    """The page with a class for code in text that must not break at its hyphens."""
    return re.sub(
        r"<code>([^<\n]{1,24})</code>", r'<code class="short">\1</code>', html
    )


def adapt_notebook_links(html: str) -> str:
    """A notebook's page with its links to pages, which mkdocs leaves as they are."""
    return _NOTEBOOK_LINK.sub(r'href="\1.html\2"', html)


def on_page_content(html, page, config, files):
    """Changes the page in HTML. mkdocs calls it."""
    return mark_short_code(adapt_notebook_links(html))


def on_page_markdown(markdown, page, config, files):
    """Adapts the links of a page that is in docs/. mkdocs calls it."""
    if page.file.generated_by:
        return markdown
    return adapt_links(markdown, f"docs/{page.file.src_uri}")
