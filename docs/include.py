"""A hook of mkdocs: pages take sections of the repository's own texts, so that nothing is written twice.

A line ``{{ README.md#Latents }}`` is replaced by what stands below that heading, ``{{ FORMAT.md }}`` by the whole file. Their
links lead to the page that has the text, where the site has it, and are plain words otherwise; pictures come along.
"""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

INCLUDE = re.compile(r"^\{\{ ([\w./-]+\.md)(?:#(.+?))? \}\}$", re.MULTILINE)
_FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_PAIR = re.compile(r"```.*?```|`[^`]*`|\]\[", re.DOTALL)
_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):<code>~?([\w.]+)</code>")


class IncludeError(Exception):
    """A page asks for a text that isn't there."""


def included(name: str, title: str | None) -> str:
    """The text of a file of the repository, or of one of its sections without the heading, as it stands.

    Raises:
        IncludeError: no such file or heading; it names those that there are.
    """
    path = ROOT / name
    if not path.is_file():
        raise IncludeError(f"{name} is included, which isn't there")
    text = path.read_text(encoding="utf-8")
    if title is None:
        return text
    headings = _headings(text)
    for number, (level, found, _, start) in enumerate(headings):
        if found == title:
            ends = [begin for below, _, begin, _ in headings[number + 1 :] if below <= level]
            return text[start : ends[0] if ends else len(text)].strip("\n")
    raise IncludeError(
        f"{name}#{title} is included; its headings are {', '.join(found for _, found, _, _ in headings)}"
    )


def _headings(text: str) -> list[tuple[int, str, int, int]]:
    """Level, title, where it begins and where it ends, of each heading that isn't a comment in code."""
    code = [match.span() for match in _FENCED.finditer(text)]
    return [
        (len(match[1]), match[2], match.start(), match.end())
        for match in re.finditer(r"^(#+) (.+)$", text, re.MULTILINE)
        if not any(start <= match.start() < end for start, end in code)
    ]


@cache
def _homes() -> dict[tuple[str, str | None], str]:
    """Which page has a file, or a section of one."""
    homes: dict[tuple[str, str | None], str] = {("README.md", None): "index.md"}
    for page in sorted(DOCS.glob("*.md")):
        for match in INCLUDE.finditer(page.read_text(encoding="utf-8")):
            homes[match[1], None if match[2] is None else _slug(match[2])] = page.name
    return homes


def _slug(title: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def _link(name: str, match: re.Match[str]) -> str:
    """A link of the file ``name`` as the site has it."""
    mark, words, target = match.groups()
    if target.startswith(("http:", "https:")):
        return match[0]
    path, _, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
    if mark:
        return f"![{words}]({path})"
    homes = _homes()
    page = homes.get((path, anchor or None))
    if page is not None:
        return f"[{words}]({page})"
    whole = homes.get((path, None))
    if whole is None or path == "README.md":
        return words
    return f"[{words}]({whole}#{anchor})" if anchor else f"[{words}]({whole})"


def expand(page: str) -> str:
    """A page's text with what it includes."""

    def fill(match: re.Match[str]) -> str:
        name, text = match[1], included(match[1], match[2])
        text = text.replace("<details><summary>", '<details markdown="1"><summary>')
        text = _PAIR.sub(lambda pair: r"]\[" if pair[0] == "][" else pair[0], text)  # an index, no link to a heading
        pieces, end = [], 0
        for code in _FENCED.finditer(text):  # what looks like a link in code is none
            pieces += [_LINK.sub(lambda link: _link(name, link), text[end : code.start()]), code[0]]
            end = code.end()
        return "".join([*pieces, _LINK.sub(lambda link: _link(name, link), text[end:])])

    return INCLUDE.sub(fill, page)


# ---------------------------------------------------------------------- what mkdocs calls


def on_files(files: Any, *, config: Any) -> Any:
    """Pictures of included texts become files of the site, at their own places."""
    from mkdocs.structure.files import File

    for page in sorted(DOCS.glob("*.md")):
        for match in _LINK.finditer(expand(page.read_text(encoding="utf-8"))):
            path = match[3]
            if match[1] and (ROOT / path).is_file() and files.get_file_from_path(path) is None:
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return expand(markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Roles of docstrings, :func:`reducio_codec.weights.zoo.resolve`, become links where the site has the name."""
    return _ROLE.sub(r'<autoref optional identifier="\1"><code>\1</code></autoref>', html)
