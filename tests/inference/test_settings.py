"""Tuned numbers travel with the weights: a manifest's settings replace the defaults, and errors name the wrong one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deocclude.errors import WeightsError
from deocclude.inference.runtime import find_model
from deocclude.inference.settings import CleanupSettings, InferenceSettings
from deocclude.pipeline import load


def with_settings(weights_dir: Path, folder: Path, settings: dict[str, Any]) -> Path:
    """A copy of a weights folder whose model has these settings."""
    shutil.copytree(weights_dir, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"]["base"]["settings"] = settings
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_manifest_settings_replace_only_the_named_values(weights_dir: Path, tmp_path: Path) -> None:
    given = {"cleanup": {"min_component_share": 0.25}, "detector": {"size_px": 512.0}, "crop": {}}
    settings = find_model("base", with_settings(weights_dir, tmp_path / "weights", given)).settings
    assert settings.cleanup == replace(CleanupSettings(), min_component_share=0.25)
    assert settings.detector.size_px == 512 and isinstance(settings.detector.size_px, int)
    assert settings.recovery == InferenceSettings().recovery
    assert settings.as_dict()["cleanup"]["min_component_share"] == 0.25


def test_without_settings_the_defaults_hold(weights_dir: Path) -> None:
    assert find_model("base", weights_dir).settings == InferenceSettings()


def test_settings_override_the_detectors_manifest_row(finding_weights_dir: Path, tmp_path: Path) -> None:
    of_row = find_model("base", finding_weights_dir).settings.detector
    assert (of_row.size_px, of_row.min_score) == (384, 0.5)
    folder = with_settings(finding_weights_dir, tmp_path / "weights", {"detector": {"min_score": 0.75}})
    assert find_model("base", folder).settings.detector == replace(of_row, min_score=0.75)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"cleaning": {}}, "settings has the groups .*, got 'cleaning'"),
        ({"crop": 3}, "got 'crop'"),
        ({"crop": {"scale": 1.0}}, "settings.crop has wide_scale, .*, got 'scale'"),
        ({"crop": {"wide_scale": "2"}}, "settings.crop.wide_scale must be a number, got '2'"),
        ({"crop": {"wide_scale": float("inf")}}, "settings.crop.wide_scale must be a number, got inf"),
        ({"crop": {"max_wide_crops": float("inf")}}, "settings.crop.max_wide_crops must be a number, got inf"),
        ({"crop": {"max_wide_crops": 2.7}}, "settings.crop.max_wide_crops must be a whole number, got 2.7"),
        ({"crop": {"__doc__": 1}}, "settings.crop has wide_scale, .*, got '__doc__'"),
        ({"crop": {"wide_scale": True}}, "settings.crop.wide_scale must be a number, got True"),
    ],
)
def test_error_names_the_invalid_setting(
    weights_dir: Path, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    folder = with_settings(weights_dir, tmp_path / "weights", settings)
    with pytest.raises(WeightsError, match=named):
        find_model("base", folder)


def test_results_follow_the_settings(weights_dir: Path, tmp_path: Path, person) -> None:
    """With a threshold above every probability, `auto` leaves everybody as visible; done work is then done anew."""
    cautious = with_settings(weights_dir, tmp_path / "weights", {"occlusion": {"min_probability": 1.01}})
    hidden = [
        load(weights_dir=folder, device="cpu", threads=1)(person.photo, masks=[person.visible])
        .people[0]
        .hidden_fraction
        for folder in (weights_dir, cautious)
    ]
    assert hidden[0] > 0.02 and hidden[1] == 0
    assert find_model("base", weights_dir).digest != find_model("base", cautious).digest
