"""The ablation benchmark: rows as the paper has them, real (tiny) training, what is finished, cut off, or doesn't fit."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from bench.__main__ import main
from bench.ablation import Ablation, presets, recipe_of, rows, tables
from bench.ablation_table import ablation, ablations, kendall_tau
from bench.json_files import PUBLISHED
from bench.readme import renew
from bench.tables import everything
from reducio_codec.config import ReducioConfig
from reducio_codec.errors import ReducioError
from reducio_codec.models.reducio.presets import PRESETS
from reducio_codec.train.first_weights import build_model
from reducio_codec.train.options import Stage
from reducio_codec.train.recipe import Recipe
from reducio_codec.train.task import TrainReport, train
from reducio_codec.training.options import RunOptions
from tests.bench.fakes import NO_NETWORKS, quiet, video_folder

TINY = {"base_channels": 8, "channel_multipliers": (1, 1, 1, 1, 1, 1), "depth": 1, "content_channels": 16,
        "content_multipliers": (1, 1, 1, 1), "content_depth": 1}  # fmt: skip


def tiny(recipe: Recipe) -> Recipe:
    """The model's recipe so small that its one step takes a moment."""
    assert isinstance(recipe.model, ReducioConfig)
    return replace(
        recipe,
        model=replace(recipe.model, **TINY),
        run=RunOptions(steps=1, checkpoint_minutes=0.0),
        data=replace(recipe.data, workers=0),
        stages=(Stage(side=32, batch=1),),
    )


class Runs:
    """Real training of tiny models, or (``trained``) the models of such runs; counts, and can fail or be stopped at a model."""

    def __init__(self, *, trained: Path | None = None, fail_at: str = "", stop_at: str = "") -> None:
        self.seen: list[str] = []
        self.trained, self.fail_at, self.stop_at = trained, fail_at, stop_at

    def __call__(self, recipe: Recipe, *, out: Path, **paths: Any) -> TrainReport:
        self.seen.append(out.name)
        if out.name == self.fail_at:
            raise ReducioError("the loss isn't finite at step 1")
        if out.name == self.stop_at:
            return TrainReport(step=1, minutes=0.1, validation=None, model=None, stopped_by=signal.SIGINT)
        if self.trained is not None:
            return TrainReport(step=1, minutes=0.1, validation=None, model=self.trained / "runs" / out.name / "model")
        return train(tiny(recipe), out=out, **paths)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_folder(tmp_path_factory.mktemp("data"), {"a.mp4": 20, "b.mp4": 20}, height=72, width=96)


def run_table(data: Path, folder: Path, runs: Runs, *, table: str = "11", **changes: Any) -> tuple[list[str], Any]:
    options: dict[str, Any] = {"minutes": 1.0, **changes}
    return Ablation(
        presets=presets([table]), data=data, val=data, results=folder / "results", runs=folder / "runs", quality=NO_NETWORKS,
        console=quiet(), train=runs, **options,
    ).run()  # fmt: skip


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with table 11's results and runs."""
    folder = tmp_path_factory.mktemp("ablation")
    assert run_table(data, folder, Runs()) == ([], None)
    return folder


def test_rows_are_the_papers() -> None:
    assert tables() == ["4", "5", "6", "10", "11"]
    for table in tables():
        for row in rows(table):
            assert int(table) in PRESETS[row.preset].tables
            assert row.psnr == PRESETS[row.preset].psnr
    published = json.loads(PUBLISHED.read_text())["ablations"]
    assert published["6"][3] == {"preset": "ft4-fs32", "line": "attention", "psnr": 35.88, "ssim": 0.94}


def test_a_row_changes_what_the_paper_changes_and_nothing_else() -> None:
    import torch

    recipes = {preset: recipe_of(preset, minutes=5) for preset in presets(tables())}
    assert len({recipe.model for recipe in recipes.values()}) == len(recipes)
    assert len({replace(recipe, model=ReducioConfig()) for recipe in recipes.values()}) == 1
    assert recipe_of("z4", steps=7).run.steps == 7
    for name, recipe in recipes.items():
        wanted = PRESETS[name].config
        assert isinstance(recipe.model, ReducioConfig)
        assert recipe.run.minutes == 5
        for field in (
            "temporal_compression_ratio",
            "spatial_compression_ratio",
            "latent_channels",
            "conv",
            "content_frame",
        ):
            assert getattr(recipe.model, field) == getattr(wanted, field)
        assert recipe.model.decoders == wanted.decoders
        with torch.device("meta"):
            count = sum(p.numel() for p in build_model(recipe).parameters())
        assert count < 1e7  # of the order of lite, which has 4.7 million


def test_a_model_of_several_tables_is_trained_once() -> None:
    assert presets(["4", "10"]) == ["ft16-fs16", "ft2-fs32", "ft4-fs32", "ft1-fs64", "ft1-fs64-2d"]
    assert len(presets(tables())) == 12 and sum(len(rows(table)) for table in tables()) == 17


def test_a_row_has_everything_that_it_was_made_with(finished: Path) -> None:
    data = json.loads((finished / "results/ablation/random-frame.json").read_text())
    assert data["steps"] == 1 and data["preset"] == "random-frame" and data["settings"]["recipe"]["run"]["minutes"] == 1
    assert data["settings"]["recipe"]["model"]["content_frame"] == "random"
    assert {"cpu", "versions", "load_average"} <= set(data["machine"])
    assert set(data["clips"]) == {"a.mp4@00000", "b.mp4@00000"}
    metrics = data["clips"]["a.mp4@00000"]["metrics"]
    assert 5 < metrics["psnr_paper"] < 60 and metrics["lpips"] == "not run: needs a.pth"


def test_table_has_both_orders(finished: Path) -> None:
    text = ablation(finished / "results", "11")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert [line[:4] for line in lines[2:]] == [
        ["none", "27.91", "-", "3"], ["random", "31.72", "-", "2"], ["middle", "35.88", "-", "1"],
    ]  # fmt: skip
    means = {line[0]: float(line[4].split()[0]) for line in lines[2:]}
    places = {line[0]: int(line[7]) for line in lines[2:]}
    ordered = [means[name] for name in sorted(places, key=lambda name: places[name])]
    assert ordered == sorted(ordered, reverse=True)
    assert "Kendall's tau" in text and "(3 of 3 rows)" in text and "2 clips of 16x64x64" in text
    others = ablations(finished / "results")
    assert others[-1] == text and len(others) == 4  # the others share a model with it
    assert "not run: no result yet" in others[0] and "needs two rows, there are 1" in others[0]
    assert text in everything(finished / "results")
    page = "<!-- bench:ablation -->\n<!-- /bench -->\n"
    assert text in renew(page, results=finished / "results")


def test_kendall_tau_is_one_for_the_same_order() -> None:
    assert kendall_tau([(1, 10), (2, 20), (3, 30)]) == 1
    assert kendall_tau([(1, 30), (2, 20), (3, 10)]) == -1
    assert kendall_tau([(1, 20), (2, 10), (3, 30)]) == pytest.approx(1 / 3)


def test_finished_rows_are_skipped_and_a_changed_budget_is_not(finished: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "results", tmp_path / "results")
    runs = Runs(trained=finished)
    assert run_table(data, tmp_path, runs) == ([], None) and runs.seen == []
    (tmp_path / "results/ablation/random-frame.json").unlink()
    assert run_table(data, tmp_path, runs) == ([], None) and runs.seen == ["random-frame"]
    runs = Runs(stop_at="none")
    run_table(data, tmp_path, runs, minutes=2.0)
    assert runs.seen == ["none"]


def test_a_stopped_row_ends_the_run_and_goes_on_later(finished: Path, data: Path, tmp_path: Path) -> None:
    assert run_table(data, tmp_path, Runs(trained=finished, stop_at="random-frame")) == ([], signal.SIGINT)
    folder = tmp_path / "results/ablation"
    assert [path.name for path in folder.iterdir()] == ["none.json"]
    assert "not run: no result yet" in ablation(tmp_path / "results", "11")
    runs = Runs(trained=finished)
    assert run_table(data, tmp_path, runs) == ([], None)
    assert runs.seen == ["random-frame", "ft4-fs32"]


def test_a_failed_row_is_named_and_the_others_run(finished: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "results", tmp_path / "results")
    (tmp_path / "results/ablation/none.json").unlink()
    failures, stopped = run_table(data, tmp_path, Runs(fail_at="none"))
    assert stopped is None and failures == ["none: the loss isn't finite at step 1"]
    text = ablation(tmp_path / "results", "11")
    assert "not run: the loss isn't finite at step 1" in text and "(2 of 3 rows)" in text
    before = (tmp_path / "results/ablation/random-frame.json").read_bytes()
    failures, _ = run_table(data, tmp_path, Runs(trained=finished, fail_at="random-frame"), minutes=2.0)
    assert len(failures) == 1
    assert (tmp_path / "results/ablation/random-frame.json").read_bytes() == before, "an earlier result stays"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("protocol", {"name": "ablation/0"}, "protocol ablation/0; this is ablation/1"),
        ("clips", {"a.mp4@00000": {"digest": "0", "frames": 15, "video": "a.mp4"}}, "from other clips"),
        ("settings", {"recipe": {"run": {"minutes": 9.0, "steps": 0}}, "training_data": "data"}, "from another budget"),
    ],
)
def test_rows_that_do_not_fit_are_named_not_compared(
    finished: Path, tmp_path: Path, key: str, value: Any, words: str
) -> None:
    shutil.copytree(finished / "results", tmp_path / "results")
    path = tmp_path / "results/ablation/ft4-fs32.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    text = ablation(tmp_path / "results", "11")
    line = next(line for line in text.splitlines() if line.startswith("| middle"))
    assert words in line and "[" not in line and "(2 of 3 rows)" in text


def test_command(data: Path, tmp_path: Path) -> None:
    command = ["run", "ablation", "--data", str(data), "-o", str(tmp_path / "r"), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(main, [*command, "--table", "7", "--val", str(data)])
    assert done.exit_code == 2 and "4" in done.output
    done = CliRunner().invoke(
        main, [*command, "--table", "10", "--val", str(data), "--minutes-each", "1", "--steps-each", "2"]
    )
    assert done.exit_code == 2 and "not both" in done.output
    done = CliRunner().invoke(main, [*command, "--table", "10", "--val", str(tmp_path / "none")])
    assert done.exit_code == 2 and "isn't a folder" in done.output


def test_a_clip_that_cannot_be_decoded_is_named_and_left_out(
    finished: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data, tmp_path / "val")
    (tmp_path / "val" / "broken.mp4").write_bytes(b"no video" * 100)
    shutil.copytree(finished / "results", tmp_path / "results")
    run = Ablation(
        presets=presets(["11"]), data=data, val=tmp_path / "val", results=tmp_path / "results", runs=tmp_path, minutes=1.0,
        quality=NO_NETWORKS, console=Console(), train=Runs(trained=finished),
    ).run()  # fmt: skip
    assert run == ([], None) and "skipped broken.mp4" in capsys.readouterr().out
