"""Readers of folders: their contents, and errors that name what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from datafolder import CCP_TRAIN, CCP_VAL, CUTOUTS, FULL, GARMENTS, draw_figure, write_photo_and_mask, write_picture
from deocclude.data.datasets.files import image_files
from deocclude.data.datasets.parsing_groups import to_groups
from deocclude.data.sources.readers import (
    read_backgrounds,
    read_ccp,
    read_cutout_people,
    read_image_mask_folder,
    read_layer,
    read_layers,
)
from deocclude.errors import InputError


@pytest.fixture
def copied(data_root: Path, tmp_path: Path) -> Path:
    """A data folder to break."""
    return Path(shutil.copytree(data_root, tmp_path / "data"))


def test_ccp_gives_photo_mask_and_parsing_groups(data_root: Path) -> None:
    people = list(read_ccp(data_root / "ccp", "val"))
    assert [p.name for p in people] == [f"ccp/{i}" for i in CCP_VAL]
    for person, photo_id in zip(people, CCP_VAL, strict=True):
        garments = loadmat(data_root / "ccp" / "annotations" / "pixel-level" / f"{photo_id}.mat")["groundtruth"]
        photo = cv2.cvtColor(cv2.imread(str(data_root / "ccp" / "photos" / f"{photo_id}.jpg")), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(person.rgb, photo)
        np.testing.assert_array_equal(person.parsing, to_groups(garments, list(GARMENTS)))
        # feathering rounds corners, no more
        assert (person.mask ^ (garments > 0)).sum() <= 0.03 * (garments > 0).sum()
        assert person.has_background and person.whole


def test_ccp_keeps_the_order_of_its_split_list(copied: Path) -> None:
    (copied / "ccp" / "splits.json").write_text(json.dumps({"val": CCP_VAL[::-1], "note": "carried things count"}))
    assert [p.name for p in read_ccp(copied / "ccp", "val")] == [f"ccp/{i}" for i in CCP_VAL[::-1]]
    with pytest.raises(InputError, match=r"has no split 'note': it has val"):
        read_ccp(copied / "ccp", "note")


def test_ccp_without_split_reads_every_label(data_root: Path) -> None:
    assert [p.name for p in read_ccp(data_root / "ccp")] == [f"ccp/{i}" for i in sorted((*CCP_TRAIN, *CCP_VAL))]


def test_ccp_duplicates_and_empty_labels_are_skipped(copied: Path) -> None:
    ccp = copied / "ccp"
    (ccp / "photos" / "0001.jpg").rename(ccp / "photos" / "0730.jpg")
    (ccp / "annotations" / "pixel-level" / "0001.mat").rename(ccp / "annotations" / "pixel-level" / "0730.mat")
    assert "ccp/0730" not in [p.name for p in read_ccp(ccp)]


def test_people_are_downscaled_to_max_px(data_root: Path) -> None:
    large, small = (next(iter(read_ccp(data_root / "ccp", "val", max_px=px))) for px in (None, 40))
    x0, y0, x1, y1 = small.box_xyxy
    assert abs(max(x1 - x0, y1 - y0) - 40) <= 1
    assert small.rgb.shape[:2] == small.alpha.shape == small.parsing.shape == (45, 30)
    assert set(np.unique(small.parsing)) <= set(np.unique(large.parsing)), "labels are never mixed"
    assert large.rgb.shape[:2] == (90, 60), "and never enlarged"


def test_cutout_people_are_cropped_to_their_alpha(data_root: Path) -> None:
    people = list(read_cutout_people(data_root / "cutouts" / "people"))
    assert [p.name for p in people] == [f"cutout/{n}" for n in CUTOUTS]
    for person in people:
        h, w = person.alpha.shape
        assert person.box_xyxy == (2, 2, w - 2, h - 2)
        assert person.parsing is None and person.whole and not person.has_background


def test_image_mask_folders_are_read(data_root: Path) -> None:
    people = list(read_image_mask_folder(data_root / "mixed_people" / "full", whole=True))
    assert [p.name for p in people] == [f"full/{n}" for n in FULL]
    assert all(p.has_background and p.whole for p in people)
    upper = list(read_image_mask_folder(data_root / "mixed_people" / "upper", whole=False))
    assert not any(p.whole for p in upper)
    assert all(p.mask[-1].any() for p in upper), "cut by the lower edge"


def test_photos_of_several_people_and_empty_masks_are_skipped(tmp_path: Path) -> None:
    figure = draw_figure(np.random.default_rng(0))
    speck = figure.mask.copy()
    speck[2:4, 2:4] = True
    write_photo_and_mask(tmp_path, "one", figure.rgb, figure.mask)
    write_photo_and_mask(tmp_path, "speck", figure.rgb, speck)
    write_photo_and_mask(tmp_path, "two", np.hstack([figure.rgb] * 2), np.hstack([figure.mask] * 2))
    write_photo_and_mask(tmp_path, "zero", figure.rgb, np.zeros_like(figure.mask))
    names = [p.name.partition("/")[2] for p in read_image_mask_folder(tmp_path, whole=True)]
    assert names == ["one", "speck"]
    assert len(list(read_image_mask_folder(tmp_path, whole=True, min_component_share=0.4))) == 3
    others = read_image_mask_folder(tmp_path, whole=True, left_out={"one", "elsewhere"})
    assert [p.name.partition("/")[2] for p in others] == ["speck"]


def test_a_photo_with_several_masks_is_refused(tmp_path: Path) -> None:
    figure = draw_figure(np.random.default_rng(0))
    write_photo_and_mask(tmp_path, "two", figure.rgb, figure.mask)
    shutil.copy(tmp_path / "masks" / "two.png", tmp_path / "masks" / "two_2.png")
    with pytest.raises(InputError, match=r"two\.jpg: expected one mask a photo, got 2"):
        list(read_image_mask_folder(tmp_path, whole=True))


def test_layer_masks_are_eroded(data_root: Path) -> None:
    path = data_root / "cutouts" / "objects" / "object1.png"  # a board, 34 x 50 px opaque
    layer = read_layer(path, erode_px=2)
    assert layer.name == "object1"
    assert layer.box_xyxy == (4, 4, 34, 50)
    assert read_layer(path, erode_px=0).box_xyxy == (2, 2, 36, 52)
    assert max(read_layer(path, max_px=25, erode_px=0).alpha.shape) == pytest.approx(27, abs=1)
    assert len(list(read_layers(data_root / "cutouts" / "objects"))) == 6


def test_backgrounds_are_read_and_downscaled(data_root: Path) -> None:
    assert [b.shape for b in read_backgrounds(data_root / "backgrounds")] == [(60, 80, 3)] * 8
    assert [b.shape for b in read_backgrounds(data_root / "backgrounds", max_px=40)] == [(30, 40, 3)] * 8


@pytest.mark.parametrize(
    "lost",
    [
        "photos", "photos/0010.jpg", "annotations/pixel-level", "annotations/pixel-level/0010.mat", "label_list.mat",
        "splits.json",
    ],
)  # fmt: skip
def test_ccp_error_names_the_missing_file(copied: Path, lost: str) -> None:
    path = copied / "ccp" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=f"not found: looked for {path}"):
        list(read_ccp(copied / "ccp", "val"))


def test_ccp_error_names_the_damaged_file(copied: Path) -> None:
    ccp = copied / "ccp"
    with pytest.raises(InputError, match=r"has no split 'test': it has train, val"):
        read_ccp(ccp, "test")
    (ccp / "annotations" / "pixel-level" / "0011.mat").write_bytes(b"no labels")
    with pytest.raises(InputError, match=r"0011\.mat: not a readable"):
        list(read_ccp(ccp, "val"))
    (ccp / "photos" / "0010.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0010\.jpg: not a readable photo"):
        list(read_ccp(ccp, "val"))
    (ccp / "splits.json").write_text("{")
    with pytest.raises(InputError, match=r"splits\.json: not valid JSON"):
        read_ccp(ccp, "val")


def test_label_of_wrong_size_is_rejected(copied: Path) -> None:
    write_picture(copied / "ccp" / "photos" / "0010.jpg", np.zeros((90, 61, 3), np.uint8))
    with pytest.raises(InputError, match=r"0010\.mat: labels must have the photo's size \(90, 61\)"):
        list(read_ccp(copied / "ccp", "val"))


def test_other_readers_name_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cut-out people not found: looked for {tmp_path / 'people'}"):
        read_cutout_people(tmp_path / "people")
    with pytest.raises(InputError, match=f"images of an image . mask folder not found: looked for {tmp_path}/images"):
        read_image_mask_folder(tmp_path, whole=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=rf"backgrounds: no image \(\.jpg, .*\) in {tmp_path / 'empty'}"):
        read_backgrounds(tmp_path / "empty")
    with pytest.raises(InputError, match="objects not found"):
        image_files(tmp_path / "objects", "objects")
    write_picture(tmp_path / "images" / "a.jpg", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=f"masks of an image . mask folder not found: looked for {tmp_path}/masks"):
        read_image_mask_folder(tmp_path, whole=True)
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match=f"a.jpg: has no mask: looked for {tmp_path / 'masks' / 'a.png'}"):
        list(read_image_mask_folder(tmp_path, whole=True))


def test_other_readers_name_the_invalid_image(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.jpg", np.zeros((8, 8, 3), np.uint8))
    write_picture(tmp_path / "masks" / "a.png", np.zeros((8, 9), np.uint8))
    with pytest.raises(InputError, match=r"a\.png: must have the photo's size \(8, 8\) \(HxW\), got \(8, 9\)"):
        list(read_image_mask_folder(tmp_path, whole=True))
    write_picture(tmp_path / "opaque.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"opaque\.png: expected an RGBA image"):
        read_layer(tmp_path / "opaque.png")
    write_picture(tmp_path / "clear.png", np.zeros((8, 8, 4), np.uint8))
    with pytest.raises(InputError, match=r"clear\.png: the cut-out is wholly transparent"):
        read_layer(tmp_path / "clear.png")


def test_cut_out_thinner_than_a_pixel_is_refused(tmp_path: Path) -> None:
    """A layer without an opaque pixel has no size: pasting it would end training with a division by zero."""
    pole = np.zeros((3000, 9, 4), np.uint8)
    pole[10:-10, 4] = 255
    cv2.imwrite(str(tmp_path / "pole.png"), pole)
    assert (read_layer(tmp_path / "pole.png").alpha >= 128).any()
    with pytest.raises(InputError, match=r"pole\.png: the cut-out is thinner than a pixel at 360 px"):
        read_layer(tmp_path / "pole.png", max_px=360)
