"""The table of many rows, from eval.json of predictors whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deocclude.ablation.table import summarise_rows, to_markdown
from deocclude.evaluation import evaluate, summarise
from drawn_set import Oracle, write_drawn_set


def row(name: str, stage: str, **more: object) -> dict[str, object]:
    about = {"parameters": 1_234_567, "steps": 10, "batch_size": 4, "size_px": 32, "seconds": 7.4, "key": "k"}
    return {"name": name, "stage": stage, "model": "", "changes": {}} | about | more


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """eval.json of a perfect predictor, of one with masks 6 px too wide, and of one that paints black."""
    folder, found = tmp_path_factory.mktemp("rows"), {}
    drawn = write_drawn_set(folder / "drawn")
    for name, oracle in (("exact", Oracle(drawn)), ("wide", Oracle(drawn, grow=6)), ("black", Oracle(drawn, colour=0))):
        evaluation = evaluate(drawn, oracle, initial_kinds=("exact", "box"), content=name != "wide")
        summary = summarise(evaluation, model=name)
        found[name] = folder / f"{name}.json"
        found[name].write_text(json.dumps(summary))
    return found


def test_each_stage_is_compared_with_its_first_row(files: dict[str, Path]) -> None:
    rows = [
        (row("ours", "mask"), files["exact"]),
        (row("wide", "mask"), files["wide"]),
        (row("paint", "content"), files["exact"]),
        (row("black", "content"), files["black"]),
        (row("both", "single"), files["black"]),
    ]
    table = summarise_rows(rows)
    assert table["reference"] == {"masks": "ours", "content": "paint"}
    ours, wide, paint, black, both = table["rows"]
    assert ours["against"] == [] == paint["against"] and "key" not in ours
    assert ours["masks"]["exact"]["full_iou"] == 1 and paint["masks"] == {} and ours["content"] is None
    # 24 columns wide, 6 too many
    full = next(d for d in wide["against"] if (d["from"], d["measure"]) == ("exact", "amodal IoU"))
    assert full["difference"] == pytest.approx(24 / 30 - 1) and full["better"] == "A"
    assert {d["measure"] for d in black["against"]} == {"L1", "PSNR dB", "SSIM"}
    l1 = next(d for d in black["against"] if d["measure"] == "L1")
    assert l1["difference"] == pytest.approx(black["content"]["l1"] - paint["content"]["l1"], abs=1e-5)
    assert {d["measure"] for d in both["against"]} == {
        "amodal IoU",
        "invisible IoU",
        "visible IoU",
        *("L1", "PSNR dB", "SSIM"),
    }
    assert set(table["no_network"]["content"]) == {"inpainting from the body", "mean colour of the body"}


def test_markdown_lists_failed_and_missing_rows(files: dict[str, Path]) -> None:
    rows = [(row("ours", "mask", seconds=None), files["exact"]), (row("wide", "mask"), files["wide"])]
    table = summarise_rows([*rows, (row("nan", "mask", error="the loss is nan"), files["wide"])])
    text = to_markdown(table | {"missing": ["late", "later"]})
    assert text.startswith("# Ablations and baselines on drawn: 2 people, 4 pictures\n")
    (line,) = [line for line in text.splitlines() if line.startswith("| ours ")]
    assert [cell.strip() for cell in line.split("|")[1:6]] == [
        "ours", "1.23 M", "10 x 4 at 32 px", "-", "1.000 [1.000, 1.000]",
    ]  # fmt: skip
    differences = text.partition("Minus ours:\n\n")[2]
    assert "| wide | -0.200 [-0.200, -0.200]* |" in differences
    assert "- failed: nan: the loss is nan\n" in text and "- not run yet: late, later\n" in text
    assert "Recovered appearance" not in text


def test_table_without_finished_rows_is_empty() -> None:
    table = summarise_rows([])
    assert table["rows"] == [] and table["set"] is None
    assert to_markdown(table | {"missing": ["ours"]}).startswith("# Ablations and baselines\n\n## Protocol")
