"""Who finds cuts: joined sequences have cuts where they say, and scores are counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.cuts import LENGTHS, PIECES, PROTOCOL, Joined, Score, by_rules, compare, join, source_of
from bench.summaries import summary
from tests.helpers import moving_video


def videos() -> list[tuple[str, np.ndarray]]:
    return [(f"source{seed // 2}", moving_video(44, 32, 48, seed=seed)) for seed in range(4)]


def test_joined_pieces_change_where_they_say() -> None:
    found = [join(videos(), random=np.random.default_rng(seed)) for seed in range(6)]
    for joined in found:
        assert len(joined.cuts) == PIECES - 1
        borders = [0, *joined.cuts, len(joined.frames)]
        assert all(LENGTHS[0] <= length <= LENGTHS[1] for length in np.diff(borders))
    assert {alike for joined in found for alike in joined.cuts.values()} == {True, False}
    with_same_seed = join(videos(), random=np.random.default_rng(0))
    assert np.array_equal(with_same_seed.frames, found[0].frames)
    assert source_of(Path("1005_asar-impact-hero_004600.mp4")) == source_of(Path("1005_asar-impact-hero_000000.mp4"))


def test_scores_by_hand() -> None:
    score = Score()
    sequence = Joined(frames=np.zeros((10, 2, 2, 3), np.uint8), cuts={3: True, 5: False, 8: True})
    score.add("a", [3, 6], sequence=sequence, seconds=0.1)
    data = score.to_json()
    assert (data["found"], data["false"], data["cuts"]) == (1, 1, 3)
    assert (data["precision"], data["recall"]) == (0.5, 0.3333)
    assert (data["alike"], data["missed alike"], data["ms a frame"]) == (2, 1, 10.0)
    assert data["wrong"] == ["a: missed 5", "a: missed 8", "a: 6 is none"]
    nothing = Score()
    nothing.add("b", [], sequence=Joined(frames=sequence.frames, cuts={}), seconds=0.0)
    assert nothing.to_json()["precision"] is None and nothing.to_json()["recall"] is None


def test_as_a_table(tmp_path: Path) -> None:
    finders = {"rules": by_rules, "never": lambda _: []}
    rows = compare(finders, videos(), joined=2, seed=0)
    assert rows["never"]["joined"]["recall"] == 0 and rows["rules"]["joined"]["cuts"] == 6
    assert rows["rules"]["uncut"]["cuts"] == 0
    config = {"videos": 4, "joined": 2, "side": 32, "seed": 0}
    path = tmp_path / "cuts.json"
    path.write_text(json.dumps({"protocol": PROTOCOL, "config": config, "rows": rows}))
    said, (table,) = summary(path)
    assert "2 sequences joined from 4 random pieces of 4 videos" in said
    assert table[2][:3] == ["never", "0", "6"] and table[2][5] == "-"


@pytest.mark.parametrize("side", [32])
def test_the_rules_find_a_plain_cut(side: int) -> None:
    dark, bright = (np.full((12, side, side, 3), level, np.uint8) for level in (20, 200))
    assert by_rules(np.concatenate([dark, bright])) == [12]
