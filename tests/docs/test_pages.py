"""Every python and shell block of docs/ is run, page by page and in order, in a folder with two videos and a picture."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from docs.include import IncludeError, expand, included
from tests.conftest import moving_square, write_clip
from tests.docs.snippets import ROOT, Snippet, check_command, run, snippets_of

PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if list(snippets_of(path.read_text(encoding="utf-8"))))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: clip.mp4, photo.jpg, and a folder of videos."""
    folder = tmp_path_factory.mktemp("reader")
    clip = write_clip(folder / "clip.mp4", moving_square(24, width=64, height=64))
    for name in ("videos", "VIDEOS", "OTHER_VIDEOS"):
        (folder / name / "trip").mkdir(parents=True)
        shutil.copy(clip, folder / name / "a.mp4")
        write_clip(folder / name / "trip" / "b.mp4", moving_square(32, width=96, height=64, seed=1))
    Image.fromarray(moving_square(1, width=64, height=64)[0]).save(folder / "photo.jpg")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT / "docs").as_posix())
def test_every_block_runs(page: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = shutil.copytree(place, tmp_path / "work")
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names: dict[str, Any] = {}
    for snippet in snippets_of(page.read_text(encoding="utf-8")):
        run(snippet, names, page=page.name, monkeypatch=monkeypatch)


def test_blocks_are_found_with_their_marks() -> None:
    page = (
        "```python\na = 1\n```\n\n<!-- not run: needs a GPU -->\n```bash\nreducio-codec models\n```\n```json\n{}\n```\n"
    )
    page += "1. In a list:\n\n    ```python\n    a = 2\n    ```\n\n<!-- tested with: -a 'b c' -->\n```bash\nx\n```\n"
    assert list(snippets_of(page)) == [
        Snippet(language="python", code="a = 1\n"),
        Snippet(language="bash", code="reducio-codec models\n", not_run="needs a GPU"),
        Snippet(language="python", code="a = 2\n"),
        Snippet(language="bash", code="x\n", with_words=("-a", "b c")),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("reducio-codec encod IN", "encod: no such command"),
        ("ffmpeg -i in.avi - | reducio-codec encode - --nosuch 3", "encode has no --nosuch"),
        ("pip install '.[nosuch]'", "nosuch"),
    ],
)
def test_what_is_not_run_is_looked_up(line: str, message: str) -> None:
    check_command("reducio-codec encode IN [-o OUT.rdc] [--quality 50] | reducio-codec decode - --decoder linear")
    with pytest.raises(AssertionError, match=message):
        check_command(line)


def test_an_included_section_ends_where_the_next_begins_and_links_lead_to_pages() -> None:
    text = included("README.md", "Install")
    assert "pip install ." in text and "\n## " not in text
    page = expand("{{ bench/README.md }}")
    assert "](../README.md" not in page and "(bench/results/strips/" in page  # pictures at their place in the site
    with pytest.raises(IncludeError, match=r"its headings are .*Install"):
        included("README.md", "Instal")
    with pytest.raises(IncludeError, match=r"NOSUCH\.md"):
        expand("{{ NOSUCH.md }}")
