"""Labels of hidden regions for the calibration: synthetic occlusion, covered joints of real people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from deocclude.data.evalsets.persons import EvalSample, EvalSet, write_eval_set
from deocclude.data.sources.real_photos import JointedPerson
from deocclude.data.sources.splits import held_out
from deocclude.errors import UsageError
from deocclude.evaluation import calibration
from deocclude.evaluation.calibration import calibrate
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.inference.body import Body, BodyInCrop
from deocclude.inference.hidden_regions import FeatureMap

SIZE_HW = (200, 100)
ARM, LEG = (slice(50, 70), slice(0, 20)), (slice(150, 200), slice(0, 100))
AT_ARM, AT_LEG, ELSEWHERE = (10.0, 60.0), (50.0, 180.0), (50.0, 20.0)


class Completing:
    """In place of stage 1: everyone fills the picture, with an arm and the legs hidden."""

    def __call__(self, photo: np.ndarray, prompt: np.ndarray) -> Body:
        amodal, visible = np.ones(SIZE_HW, bool), np.ones(SIZE_HW, bool)
        visible[ARM] = visible[LEG] = False
        prob = np.full(SIZE_HW, 230, np.uint8)
        nothing = np.zeros((12, 16, 16), np.float32)
        crop = SquareCrop((50.0, 100.0), 200.0, 64)
        in_crop = BodyInCrop(crop, np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), bool), nothing, nothing)
        return Body(Region(0, 0, *SIZE_HW), visible, amodal, prob, prob, np.ones(SIZE_HW, np.uint8), 0.9, 0.3, in_crop)

    def feature_map(self, photo: np.ndarray, body: Body) -> FeatureMap:
        return FeatureMap(SquareCrop((50.0, 100.0), 200.0, 64), np.arange(4, dtype=np.float32).reshape(1, 2, 2))


def jointed(covered: list[tuple[float, float]], seen: int, *, outlined: bool = False) -> JointedPerson:
    rgb = np.zeros((*SIZE_HW, 3), np.uint8)
    outline = np.ones(SIZE_HW, bool) if outlined else None
    at = np.array(covered, float).reshape(-1, 2)
    return JointedPerson(rgb, (0.0, 0.0, 100.0, 200.0), outline, at, np.full((seen, 2), 50.0))


def labels(person: JointedPerson) -> list[float]:
    (found,) = calibration._complete_jointed(person, Completing())  # type: ignore[arg-type]
    assert found.hidden is None and found.features.shape == (2, 7)
    np.testing.assert_array_equal(found.region_px, [20 * 20, 50 * 100])
    assert found.visible_px == 200 * 100 - 20 * 20 - 50 * 100
    return found.is_body.tolist()


def test_region_with_a_covered_joint_is_body_and_the_others_are_unknown() -> None:
    np.testing.assert_array_equal(labels(jointed([AT_LEG], 3)), [np.nan, 1])
    np.testing.assert_array_equal(labels(jointed([AT_ARM, AT_LEG, (-5.0, 60.0)], 3)), [1, 1])
    np.testing.assert_array_equal(labels(jointed([ELSEWHERE], 3)), [np.nan, np.nan])


def test_no_region_of_a_person_with_all_joints_seen_is_body() -> None:
    assert labels(jointed([], 12)) == [0, 0]
    assert calibration._complete_jointed(jointed([], 11), Completing()) == []  # type: ignore[arg-type]
    assert len(calibration._complete_jointed(jointed([], 12, outlined=True), Completing())) == 2  # type: ignore[arg-type]


def test_region_is_body_where_half_of_it_is_hidden_body() -> None:
    photo, whole = np.zeros((*SIZE_HW, 3), np.uint8), np.ones(SIZE_HW, bool)
    visible = whole.copy()
    visible[150:176] = False
    sample = EvalSample("a-low", "a", "low", photo, photo, visible, whole)
    exact, box = calibration._complete_sample(sample, 0, Completing())  # type: ignore[arg-type]
    assert exact.is_body.tolist() == box.is_body.tolist() == [0, 1] and exact.hidden is True
    visible[174:176] = True
    exact, _ = calibration._complete_sample(sample, 0, Completing())  # type: ignore[arg-type]
    assert exact.is_body.tolist() == [0, 0] and exact.hidden is True


def test_regions_of_real_photos_count_more_and_unknown_ones_do_not_count() -> None:
    rows = [
        *calibration._complete_jointed(jointed([AT_LEG], 3), Completing()),  # type: ignore[arg-type]
        *calibration._complete_jointed(jointed([], 12), Completing()),  # type: ignore[arg-type]
    ]
    features, is_body, weight = calibration._known_regions([*rows, rows[1]._replace(hidden=False)])
    assert features.shape == (5, 7) and is_body.tolist() == [True, False, False, False, False]
    assert weight.tolist() == [4, 4, 4, 1, 1]


def test_calibrating_with_joints_counts_people_of_training_photos(weights_dir: Path, tmp_path: Path, person) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights_dir, folder)
    upper = person.amodal & (np.arange(480) < 300)[:, None]
    samples = [
        EvalSample("ann-low", "ann", "low", person.photo, person.photo, upper, person.amodal),
        EvalSample("ann-none", "ann", "none", person.photo, person.photo, person.amodal, person.amodal),
    ]
    write_eval_set(tmp_path / "set", samples, name="drawn", seed=1, source="code")
    root = tmp_path / "data" / "coco_people"
    (root / "photos").mkdir(parents=True)
    rows, columns = np.nonzero(person.amodal)
    x, y = columns.mean(), rows.mean()
    keypoints = [x, y, 1] + [x, y, 2] * 16
    box = [float(v) for v in (columns.min(), rows.min(), np.ptp(columns), np.ptp(rows))]
    names = ["0", "1", "2", "3"]
    for name in names:
        cv2.imwrite(str(root / "photos" / f"{name}.webp"), person.photo[..., ::-1])
    size = {name: [person.photo.shape[1], person.photo.shape[0]] for name in names}
    people = {name: [{"bbox": box, "keypoints": keypoints}] for name in names}
    (root / "people.json").write_text(json.dumps({"people": people, "size": size}))
    done = []
    sets = [EvalSet.open(tmp_path / "set")]
    calibrate(sets, joints_root=tmp_path / "data", weights_dir=folder, device="cpu", on_record=done.append)
    row = json.loads((folder / "manifest.json").read_text())["models"]["base"]["networks"]["mask_completion"]
    assert row["calibrated_on"] == ["drawn", "joints of coco"] and row["feature_calibration"] == []
    assert done == list(range(1, 2 + sum(not held_out(name) for name in names) + 1))


@pytest.mark.parametrize("name", ["region_calibration", "hidden_calibration"])
def test_calibration_writes_finite_numbers(weights_dir: Path, tmp_path: Path, person, name: str) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights_dir, folder)
    whole = EvalSample("ann-none", "ann", "none", person.photo, person.photo, person.amodal, person.amodal)
    hidden = EvalSample("ann-low", "ann", "low", person.photo, person.photo, person.visible, person.amodal)
    write_eval_set(tmp_path / "set", [whole, hidden], name="drawn", seed=1, source="code")
    calibrate([EvalSet.open(tmp_path / "set")], weights_dir=folder, device="cpu")
    row = json.loads((folder / "manifest.json").read_text())["models"]["base"]["networks"]["mask_completion"]
    assert np.isfinite(row[name]).all()


def test_calibration_needs_people_with_a_visible_part(weights_dir: Path, tmp_path: Path, person) -> None:
    nothing = np.zeros_like(person.amodal)
    sample = EvalSample("ann-low", "ann", "low", person.photo, person.photo, nothing, person.amodal)
    write_eval_set(tmp_path / "set", [sample], name="drawn", seed=1, source="code")
    with pytest.raises(UsageError, match="needs people with a visible part, got none"):
        calibrate([EvalSet.open(tmp_path / "set")], weights_dir=weights_dir, device="cpu")
