"""Tables from single result files, and the pages that show them: README.md, bench/README.md, and the cards' links."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.json_files import RESULTS
from bench.method_file import write_results
from bench.readme import renew
from bench.summaries import summary
from bench.tables import everything
from reducio_codec.errors import InputError

TOP = Path(__file__).parents[2]
PAGES = ("README.md", "bench/README.md")
CARDS = tuple(str(card.relative_to(TOP)) for card in sorted(TOP.glob("reducio_codec/weights/bundled/*/README.md")))
SPEED = {
    "protocol": "speed/1",
    "config": {"size": 256},
    "machine": {"cpu": "X", "threads": 2, "versions": {"torch": "2"}},
    "samples": {"paper": {"decode": [8.0, 16.0, 32.0]}, "lite": {"decode": [0.1], "encode": [0.04, 0.06]}},
}


def write(folder: Path, name: str, data: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize("page", PAGES)
def test_the_committed_tables_are_those_of_the_results(page: str) -> None:
    done = CliRunner().invoke(main, ["readme", str(TOP / page), "--results", str(TOP / RESULTS), "--check"])
    assert done.exit_code == 0, done.output


def test_no_table_is_shown_twice() -> None:
    """It would have to be renewed in both places."""
    shown = re.findall(r"^<!-- bench:([\w.-]+) -->", "".join(map(read_page, PAGES)), re.MULTILINE)
    assert sorted(shown) == sorted(set(shown))


def test_the_short_table_of_rates_quotes_the_long_one() -> None:
    """The README's BD-rates are chosen by hand: each must be that of bench/README.md, which is held against the results."""
    # by model: the rows of the table of "NAME against each other method", numbers without their intervals; other tables follow
    heading = re.compile(r"^BD-rate of (\S+) against each other method, percent$", re.M)
    blocks = heading.split(read_page("bench/README.md"))
    found = {
        model: {
            name: re.findall(r"\| ([+-][0-9.]+) ", cells)
            for name, cells in reversed(re.findall(r"^\| (\S+) (.*)$", block, re.M))
        }
        for model, block in zip(blocks[1::2], blocks[2::2], strict=True)
    }
    attention, sharp = found["reducio-lite-attention-auto"], found["reducio-lite-sharp-auto"]
    rows = re.findall(r"^\| (x264|x265|SVT-AV1),.*?((?: \| [+-][0-9.]+%){6}) \|$", read_page("README.md"), re.M)
    assert [name for name, _ in rows] == ["x264", "x265", "SVT-AV1"]
    for name, cells in rows:
        codec = f"{name.lower().replace('-', '')}-long"
        psnr, _, ms_ssim, lpips, vmaf_neg, xpsnr = attention[codec][:6]
        wanted = [psnr, ms_ssim, lpips, vmaf_neg, xpsnr, sharp[codec][3]]
        assert re.findall(r"([+-][0-9.]+)%", cells) == wanted, name


def read_page(page: str) -> str:
    return (TOP / page).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"`[^`]*`", "``", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """What the headings of a Markdown text can be linked to by, as code hosts make it."""
    found: set[str] = set()
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE):
        name = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(anchor)
    return found


def broken_links(page: Path) -> list[str]:
    """Relative links and pictures of a page that lead nowhere, and anchors that are nobody's heading."""
    broken = []
    for link in re.findall(r"\]\(([^()\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        known = target.exists() and (not anchor or anchor in anchors(target.read_text(encoding="utf-8")))
        if not known:
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", [*PAGES, *CARDS])
def test_links_lead_somewhere(page: str) -> None:
    assert broken_links(TOP / page) == []


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Its `name` (.rdc), here\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n\n[a](other.md#its-name-rdc-here) [`b`](other.md#twice-1) [c](#top) ![d](missing.webp) [e](#nowhere)\n"
        "[f](other.md#twice-2) [two\nlines](other.txt) [g](https://example.org/x#y) `[h](code)`\n"
        "```\n# Not a heading\n[i](code)\n```\n[j](#not-a-heading)\n",
        encoding="utf-8",
    )
    assert broken_links(page) == ["missing.webp", "#nowhere", "other.md#twice-2", "other.txt", "#not-a-heading"]


def test_speed_is_medians_and_ratios_to_the_first(tmp_path: Path) -> None:
    _, (rows,) = summary(write(tmp_path, "speed.json", SPEED))
    assert rows[1:] == [
        ["paper", "16 s", "1", "1", "-", "-", "-"],
        ["lite", "0.1 s", "160", "160", "0.05 s", "320", "-"],
    ]


@pytest.mark.parametrize(
    ("coded", "kbit", "beside"),
    [("coded", "latent kbit", {"latent_step": 0.5}), ("coded, step 0.5", "latent kbit, step 0.5", {})],
)
def test_quality_of_both_generations_of_the_file(
    tmp_path: Path, coded: str, kbit: str, beside: dict[str, float]
) -> None:
    values = {"copy": 20, "warp": 30, "coded key frame": 29, coded: 28, kbit: 10, "key frame kbit": 25}
    data = {
        "model": "m",
        "clips": 3,
        "quality": 50,
        **beside,
        "psnr": dict.fromkeys(("all", "hard", "middle", "easy"), values),
    }
    words, (rows,) = summary(write(tmp_path, "q.json", data))
    assert "3 clips" in words and [row[1] for row in rows[1:]] == ["20.00", "30.00", "29.00", "28.00"]
    assert rows[-1][0] == "the same and the latent with step 0.5 (10.0 kbit a clip)"


def test_one_and_two_references(tmp_path: Path) -> None:
    refined = "coded, bidirectional, effort 8"
    psnr = {group: {"copy": 20.0, "raw, warp": 28.0, "raw, bidirectional": value, refined: value + 1} for group, value in
            {"all": 28.5, "hard": 27.0, "middle": 28.75, "easy": 30.0}.items()}  # fmt: skip
    change = {"at joins, over source": 1.36, "elsewhere, over source": 0.83}
    data = {"model": "abc", "sequences": 2, "clips of a sequence": 3, "side": 64, "quality": 50, "step": 0.5,
            "psnr between key frames": psnr,
            "joins": {"source": change, "raw, warp": change, "raw, bidirectional": change, refined: change},
            "latent kbit": {refined: 7.46}}  # fmt: skip
    said, (rows,) = summary(write(tmp_path, "neighbours", data))
    assert "2 sequences of 3 clips" in said
    assert rows[1] == ["repeat the key frame", "20.00", "20.00", "20.00", "20.00", "", "", ""]
    assert rows[3] == ["raw, `bidirectional`", "28.50", "27.00", "28.75", "30.00", "1.36", "0.83", ""]
    assert rows[4] == ["coded, `bidirectional`, effort 8", "29.50", "28.00", "29.75", "31.00", "1.36", "0.83", "7.5"]


def test_generated_clips_setting_by_setting(tmp_path: Path) -> None:
    """Of both generations of the file: with one setting and no times, and with several."""
    values = {"motion_px": 4.0, "motion_over_real": 1.5, "brightness_drift_mean": -0.6, "brightness_drift_abs": 3.0,
              "keyframe_psnr_least": 78.1}  # fmt: skip
    made = {**values, "frechet": 44.0}
    setting = {"model": "m", "steps": 20, "guidance": 2.5, "cache_blocks": 0}
    data = {
        **setting,
        "clips": 3,
        "side": 256,
        "features": {"name": "hand-made"},
        "real": {**values, "frechet_between_halves": 3.0},
        "codec": made,
        "generated": made,
        "keyframe_repeated": made,
    }
    text, (rows,) = summary(write(tmp_path, "old.json", data))
    assert "3 clips of 256 px" in text and "hand-made" in text
    assert rows[1] == ["m, 20 steps, guidance 2.5", "", "1.50", "-0.60", "3.00", "78.1 dB", "44.00", ""]
    assert [row[0] for row in rows[2:]] == [
        "the real clips as the codec shows them",
        "the key frame repeated",
        "one half of the real clips against the other",
    ]
    assert rows[-1][6] == "3.00" and {len(row) for row in rows} == {8}
    more = {**made, "seconds_per_clip": 1.234, "frechet_over_first": 1.07}
    data["settings"] = [
        {**setting, **more},
        {**setting, **more, "cache_blocks": 6},
        {**setting, **more, "model": "s", "steps": 4, "guidance": 1.0, "distilled_guidance": 2.5},
    ]
    data["environment"] = {"threads": 2, "versions": {"torch": "2.9"}}
    text, (rows,) = summary(write(tmp_path, "new.json", data))
    assert "2 threads, torch 2.9" in text
    assert [row[0] for row in rows[1:4]] == [
        "m, 20 steps, guidance 2.5",
        "m, 20 steps, guidance 2.5, 6 blocks at every second step only",
        "s, 4 steps, guidance 2.5 inside",
    ]
    assert rows[3][1:] == ["1.23", "1.50", "-0.60", "3.00", "78.1 dB", "44.00", "1.07"]
    with pytest.raises(InputError, match=r"short\.json is damaged: KeyError 'motion_over_real'"):
        summary(write(tmp_path, "short.json", {**data, "codec": {}}))


def test_a_file_that_cannot_be_shown_is_named_beside_the_others(tmp_path: Path) -> None:
    write(tmp_path, "speed.json", SPEED)
    write(tmp_path, "old.json", {**SPEED, "protocol": "speed/0"})
    write(tmp_path, "short.json", {**SPEED, "config": {}})
    (tmp_path / "half.json").write_text("{", encoding="utf-8")
    text = everything(tmp_path)
    assert "### speed" in text and "old.json is of protocol speed/0" in text
    assert "half.json can't be read" in text and "short.json is damaged" in text


def test_results_of_an_older_protocol_are_named_and_give_no_number(tmp_path: Path) -> None:
    old = {"protocol": {"name": "rd/0"}, "samples": [], "skipped": {}}
    (tmp_path / "rd").mkdir()
    write(tmp_path / "rd", "samples.json", old)
    facts = {"format": 2, "protocol": old["protocol"], "method": "x264-gop16"}
    row = {"point": "crf26", "sample": "a", "frames": 16, "digest": "0", "metrics": {"psnr_pooled": 77.25}}
    write_results(tmp_path / "rd" / "x264-gop16.jsonl", [facts | row])
    path = tmp_path / "r.html"
    done = CliRunner().invoke(main, ["report", str(tmp_path), "-o", str(path)])
    assert done.exit_code == 0, done.output
    text = path.read_text(encoding="utf-8")
    assert "protocol rd/0" in text and "x264-gop16" in text and "77.25" not in text


def test_renew_replaces_only_what_lies_between_the_markers(tmp_path: Path) -> None:
    write(tmp_path, "speed.json", SPEED)
    text = "before | 1 |\n<!-- bench:speed -->\n| 99 s |\n<!-- /bench -->\nafter\n"
    new = renew(text, results=tmp_path)
    assert "99 s" not in new and "| paper | 16 s |" in new
    assert new.startswith("before | 1 |\n<!-- bench:speed -->\n|") and new.endswith("|\n<!-- /bench -->\nafter\n")
    assert renew(new, results=tmp_path) == new


def test_check_writes_nothing_and_says_what_mends_it(tmp_path: Path) -> None:
    write(tmp_path, "speed.json", SPEED)
    page = tmp_path / "page.md"
    page.write_text("<!-- bench:speed -->\n| 99 s |\n<!-- /bench -->\n", encoding="utf-8")
    arguments = ["readme", str(page), "--results", str(tmp_path)]
    done = CliRunner().invoke(main, [*arguments, "--check"])
    assert done.exit_code == 1 and "python -m bench readme" in done.output and "99 s" in page.read_text()
    assert CliRunner().invoke(main, arguments).exit_code == 0 and "99 s" not in page.read_text()
    assert CliRunner().invoke(main, [*arguments, "--check"]).exit_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no marker\n", "no <!-- bench:NAME --> marker"),
        ("<!-- bench:speed -->\n", "has no <!-- /bench --> after it"),
        ("x\n<!-- /bench -->\n", "line 2: <!-- /bench --> where bench:NAME"),
        ("<!-- bench:speed -->\n<!-- bench:speed -->\n<!-- /bench -->\n", "line 2: .* where /bench"),
        ("<!-- bench:other -->\n<!-- /bench -->\n", "other.json can't be read"),
        ("<!-- bench:rd -->\n<!-- /bench -->\n", "python -m bench run rd makes it"),
    ],
)
def test_markers_that_cannot_be_filled(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, "speed.json", SPEED)
    with pytest.raises(InputError, match=message):
        renew(text, results=tmp_path)
