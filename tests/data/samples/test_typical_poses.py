"""Typical poses: the numpy frame of the data side is the torch frame of the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datafolder import draw_figure
from deocclude.data.samples.typical_poses import typical_poses, write_poses
from deocclude.data.sources.layers import Library
from deocclude.data.sources.person_frame import frame_affine, into_frame
from deocclude.data.synthesis.config import SynthesisConfig
from deocclude.errors import DeoccludeError, InputError
from deocclude.io.typical_poses import FRAME_CELLS, draw_poses_sheet, read_poses
from deocclude.models import typical_poses as model_side


def figure_in(size_hw: tuple[int, int], y: int, x: int) -> np.ndarray:
    out = np.zeros(size_hw, bool)
    body = draw_figure(np.random.default_rng(0)).mask[3:86, 8:52]
    out[y : y + body.shape[0], x : x + body.shape[1]] = body
    return out


def as_tensor(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None, None]


@pytest.mark.parametrize(("y", "x"), [(10, 20), (37, 76), (0, 0)])
def test_numpy_and_torch_frames_have_the_same_position(y: int, x: int) -> None:
    mask = figure_in((120, 120), y, x)
    affine = frame_affine(mask)
    centre, side = model_side.person_frame(as_tensor(mask))
    s = FRAME_CELLS / float(side[0])
    np.testing.assert_allclose(affine[0, 0], s, rtol=1e-5)
    # the centroid lies in the middle of the frame: between cells 15 and 16
    np.testing.assert_allclose(affine @ [*centre[0].tolist(), 1], [15.5, 15.5], atol=1e-3)
    ys, xs = np.nonzero(mask)
    np.testing.assert_allclose(centre[0].numpy(), [xs.mean(), ys.mean()], atol=1e-3)
    assert float(side[0]) == pytest.approx(8 * np.sqrt(xs.var() + ys.var()), rel=1e-4)


def test_numpy_and_torch_frames_have_the_same_content() -> None:
    mask = figure_in((120, 120), 20, 30)
    ours = into_frame(mask.astype(np.uint8), frame_affine(mask))
    theirs = model_side._into_frame(as_tensor(mask), *model_side.person_frame(as_tensor(mask)))[0, 0].numpy()
    assert ours.shape == (32, 32) and ours.dtype == np.float32 and ours.min() >= 0 and ours.max() <= 1
    # one takes the share of a cell, the other a sample of its middle: they may differ along the outline only
    assert np.abs(ours - theirs).mean() < 0.02
    assert ((ours > 0.5) == (theirs > 0.5)).mean() > 0.97
    # an area is an area: cells covered times the cell's size
    cell = 1 / frame_affine(mask)[0, 0] ** 2
    assert ours.sum() * cell == pytest.approx(mask.sum(), rel=0.03)


def test_square_of_known_size_covers_expected_cells() -> None:
    """A 32 x 32 square: variance (32^2 - 1) / 12 an axis, so the frame's side is 8 * sqrt(2 * 85.25) = 104.5."""
    mask = np.zeros((110, 110), np.uint8)
    mask[40:72, 30:62] = 1
    affine = frame_affine(mask)
    assert 32 / affine[0, 0] == pytest.approx(8 * np.sqrt(2 * 85.25))
    framed = into_frame(mask, affine)
    covered = 32 * affine[0, 0]  # 9.8 cells across
    assert framed[15, 15] == framed[16, 16] == 1 and framed[15, 8] == framed[24, 16] == 0
    assert framed[16].sum() == pytest.approx(covered, abs=0.3)


def test_single_pixel_mask_has_a_frame() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    np.testing.assert_allclose(frame_affine(mask), [[4, 0, 15.5 - 16], [0, 4, 15.5 - 16]])


def test_pose_file_round_trip_and_errors(tmp_path: Path) -> None:
    centres = np.random.default_rng(0).random((5, 2, 32, 32)).astype(np.float32)
    write_poses(tmp_path / "deep" / "poses.npz", centres)
    np.testing.assert_array_equal(read_poses(tmp_path / "deep" / "poses.npz"), centres)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["poses.npz"]
    with pytest.raises(DeoccludeError, match=r"cannot write .*poses\.npz: .*is not a folder"):
        write_poses(tmp_path / "deep" / "poses.npz" / "poses.npz", centres)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4 cut short")
    (tmp_path / "empty.npz").touch()
    damaged = bytearray((tmp_path / "deep" / "poses.npz").read_bytes())
    damaged[90:110] = b"\xff" * 20  # within the compressed data
    (tmp_path / "damaged.npz").write_bytes(damaged)
    np.save(tmp_path / "array.npy", centres)
    with pytest.raises(InputError, match=f"typical poses not found: looked for {tmp_path / 'none.npz'}"):
        read_poses(tmp_path / "none.npz")
    for name in ("broken.npz", "cut.npz", "empty.npz", "damaged.npz", "array.npy"):
        with pytest.raises(InputError, match=f"{tmp_path / name}: not a file of typical poses"):
            read_poses(tmp_path / name)
    write_poses(tmp_path / "old.npz", centres[:, 0])
    with pytest.raises(InputError, match=r"must be \(K, 2, 32, 32\), got \(5, 32, 32\)"):
        read_poses(tmp_path / "old.npz")


def test_contact_sheet_shows_every_pose() -> None:
    centres = np.zeros((3, 2, 32, 32), np.float32)
    centres[2, 1] = 1
    sheet = draw_poses_sheet(centres, columns=2, scale=2)
    assert sheet.shape == (2 * 64, 2 * 64, 3) and sheet.dtype == np.uint8
    assert (sheet[90:, :64] == (240, 150, 60)).all() and not sheet[64:, 64:].any()
    for row, column in ((0, 0), (0, 64), (64, 0)):  # its number is in the corner of each
        corner = sheet[row : row + 20, column : column + 20]
        assert (corner.min(2) > 100).any()
    assert not sheet[20:64].any()


def test_pose_centres_are_pairs_of_visible_and_amodal_masks(library: Library) -> None:
    config = SynthesisConfig()
    first, again = (typical_poses(library, np.random.default_rng(1), config, count=3, samples=24) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 2, 32, 32) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1
    assert (first[:, 1].sum((1, 2)) >= first[:, 0].sum((1, 2)) - 1e-3).all(), "the whole holds what is seen"
    assert (first[:, 0, 14:18, 14:18].mean((1, 2)) > 0.3).all(), "what is seen lies in the middle"
