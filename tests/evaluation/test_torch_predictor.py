"""Networks as training stores them, called as the evaluation calls a predictor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deocclude.errors import UsageError, WeightsError
from deocclude.evaluation.torch_predictor import SingleRecovery, TorchNetwork, open_trained
from deocclude.models.baselines.one_stage import OneStageNet
from deocclude.models.baselines.pix2pix import Pix2PixConfig, Pix2PixContent
from deocclude.models.baselines.unet import MaskUNet, UNetConfig
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from fresh_networks import saying, stored

CPU = torch.device("cpu")
PHOTO = np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)
VISIBLE = np.zeros((60, 40), bool)
VISIBLE[20:40, 10:30] = True
AMODAL = VISIBLE.copy()
AMODAL[40:50, 10:30] = True


def test_network_takes_and_returns_named_arrays() -> None:
    network = TorchNetwork(lambda a, b: {"sum": a + b}, 32, CPU)
    found = network(a=np.ones((1, 2), np.float32)[:, ::-1], b=np.array([[1, 2]]))
    assert found["sum"].tolist() == [[2, 3]] and found["sum"].dtype == np.float32


def test_stage_1_predictor_returns_the_network_mask(tmp_path: Path) -> None:
    path = stored(tmp_path / "mask.safetensors", "mask_unet", saying(MaskUNet(UNetConfig((4, 8))), -9.0, 9.0))
    predict = open_trained(path, size_px=32, device=CPU)
    flat = np.full_like(PHOTO, 128)  # as beyond its edges
    person = predict(flat, masks=[VISIBLE]).people[0]
    assert person.amodal_mask.mean() > 0.9, "everything is body, as the network says"
    assert np.array_equal(person.content, flat), "stage 1 alone paints nothing"
    assert (predict.network, predict.size_px, predict.paints) == ("mask_unet", 32, False)
    boxed = predict(PHOTO, boxes_xyxy=[(10, 20, 30, 40)]).people[0]
    assert boxed.amodal_mask.mean() > 0.9


def test_trained_predictor_keeps_every_hidden_region(tmp_path: Path) -> None:
    path = stored(tmp_path / "mask.safetensors", "mask_unet", saying(MaskUNet(UNetConfig((4, 8))), 0.01, 9.0))
    person = open_trained(path, size_px=32, device=CPU)(PHOTO, masks=[VISIBLE]).people[0]
    assert person.amodal_mask.mean() > 0.9 > VISIBLE.mean()


def test_single_stage_network_receives_the_unmasked_photo(tmp_path: Path) -> None:
    seen = {}

    def network(image: np.ndarray, initial: np.ndarray) -> dict[str, np.ndarray]:
        seen.update(image=image, initial=initial)
        return {"content": np.full((1, 3, 8, 8), 0.5, np.float32)}

    image = np.full((8, 8, 3), 51, np.uint8)
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    content = SingleRecovery(network)(image, mask, ~np.zeros_like(mask), None, None)
    assert np.allclose(seen["image"], 0.2) and np.array_equal(seen["initial"][0, 0], mask)
    assert (content.rgb == 128).all()
    torch.manual_seed(0)
    path = stored(tmp_path / "one.safetensors", "single_one", saying(OneStageNet(UNetConfig((4, 8))), 9.0, 9.0))
    painted = open_trained(path, size_px=32, device=CPU).recover(PHOTO, VISIBLE, AMODAL)
    hidden = AMODAL & ~VISIBLE
    assert np.array_equal(painted[~hidden], PHOTO[~hidden]) and (painted != PHOTO)[hidden].any()


def test_stage_2_requires_stage_1_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = stored(tmp_path / "paint.safetensors", "content_pix2pix", Pix2PixContent(Pix2PixConfig((4, 8))))
    with pytest.raises(UsageError, match=r"paint\.safetensors: stage 2 needs masks and parts of a stage 1"):
        open_trained(path, size_px=32, device=CPU)
    first = MaskCompletionNet(MaskCompletionConfig(stem_width=8, widths=(8, 8), head_width=8, pose_guidance=False))
    parser = stored(tmp_path / "mask.safetensors", "mask_completion", first)
    painted = open_trained(path, size_px=32, device=CPU, parser=parser).recover(PHOTO, VISIBLE, AMODAL)
    assert painted.shape == PHOTO.shape


def test_stage_2_starts_from_the_masks_of_its_stage_1(tmp_path: Path) -> None:
    """From boxes too, where the stage 1 may have been trained for a second pass."""
    torch.manual_seed(0)
    first = MaskCompletionNet(MaskCompletionConfig(stem_width=8, widths=(8, 8), head_width=8, pose_guidance=False))
    stage1 = stored(tmp_path / "mask.safetensors", "mask_completion", first, second_pass=True)
    stage2 = stored(tmp_path / "paint.safetensors", "content_pix2pix", Pix2PixContent(Pix2PixConfig((4, 8))))
    alone, together = (
        open_trained(stage1, size_px=32, device=CPU),
        open_trained(stage2, size_px=32, device=CPU, parser=stage1),
    )
    masks = [predict(PHOTO, boxes_xyxy=[(10, 20, 30, 40)]).people[0].amodal_prob for predict in (alone, together)]
    np.testing.assert_array_equal(*masks)


def test_other_weights_are_rejected(tmp_path: Path) -> None:
    path = stored(tmp_path / "x.safetensors", "people_detector", MaskUNet(UNetConfig((4, 8))))
    with pytest.raises(WeightsError, match=r"x\.safetensors: expected weights of mask_completion or mask_unet"):
        open_trained(path, size_px=32, device=CPU)


def test_crop_size_comes_from_the_weights_file(tmp_path: Path) -> None:
    network = MaskUNet(UNetConfig((4, 8)))
    silent = stored(tmp_path / "silent.safetensors", "mask_unet", network)
    telling = stored(tmp_path / "telling.safetensors", "mask_unet", network, size_px=64)
    assert open_trained(silent, device=CPU).size_px == 256
    assert open_trained(telling, device=CPU).size_px == 64
    assert open_trained(telling, device=CPU, size_px=32).size_px == 32


def test_mask_network_rejects_external_masks(tmp_path: Path) -> None:
    path = stored(tmp_path / "mask.safetensors", "mask_unet", MaskUNet(UNetConfig((4, 8))))
    with pytest.raises(UsageError, match="mask_unet predicts masks itself and ignores external masks"):
        open_trained(path, device=CPU, parser=path)
