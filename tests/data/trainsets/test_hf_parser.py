"""HfParser against a tiny random SegFormer saved to a folder: real transformers code, no network."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from deocclude.data.datasets.taxonomies import ATR_18, groups_of_names
from deocclude.data.sources.cutting import PersonCrop
from deocclude.data.trainsets.hf_parser import HfParser
from deocclude.data.trainsets.parsers import open_parser
from deocclude.errors import InputError, MissingExtraError, UsageError, WeightsError
from deocclude.types import PARSING_NAMES

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

NAMES = tuple(name.capitalize().replace("_", "-") for name in ATR_18)  # as the hub's models spell them


def save(folder: Path, names: tuple[str, ...] = NAMES, answer: int | None = None) -> str:
    """A tiny SegFormer; `answer`: the label that it gives to every pixel."""
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 8], patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 1], mlp_ratios=[1, 1], decoder_hidden_size=8, id2label=dict(enumerate(names)),
    )  # fmt: skip
    model = transformers.SegformerForSemanticSegmentation(config)
    if answer is not None:
        with torch.no_grad():
            model.decode_head.classifier.weight.zero_()
            model.decode_head.classifier.bias.copy_(10.0 * (torch.arange(len(names)) == answer))
    model.save_pretrained(folder)
    transformers.SegformerImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((50, 40), bool)
    mask[5:45, 10:30] = True
    return mask


@pytest.mark.parametrize(
    ("name", "group"), [("Bag", "carried"), ("Left-leg", "leg"), ("Upper-clothes", "upper_clothes")]
)
def test_labels_are_mapped_to_groups_within_the_mask(
    tmp_path: Path, photo: np.ndarray, mask: np.ndarray, name: str, group: str
) -> None:
    model = save(tmp_path, answer=NAMES.index(name))
    labels = open_parser(f"hf:{model}")(PersonCrop(photo, mask))
    np.testing.assert_array_equal(labels, mask * np.uint8(PARSING_NAMES.index(group)))


def test_background_label_inside_the_mask_becomes_unknown(tmp_path: Path, photo: np.ndarray, mask: np.ndarray) -> None:
    labels = HfParser(save(tmp_path, answer=0), device="cpu")(photo, mask)
    np.testing.assert_array_equal(labels, mask * np.uint8(255))


def test_error_names_the_unusable_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"labels must be those of .*, got wheel, road"):
        HfParser(save(tmp_path / "cars", ("background", "hat", "wheel", "road"))).load()
    with pytest.raises(WeightsError, match="no such folder"):
        HfParser(str(tmp_path / "no" / "where" / "at")).load()
    transformers.ViTConfig().save_pretrained(tmp_path / "vit")
    with pytest.raises(UsageError, match="is a vit, expected one of segformer"):
        HfParser(str(tmp_path / "vit")).load()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"deocclude\[segment\]"):
        HfParser(str(tmp_path)).load()


def test_taxonomy_is_recognised_in_any_label_order() -> None:
    table = groups_of_names({0: "Background", 2: "hat", 5: "torso skin"}, "here")
    assert [int(table[label]) for label in (0, 1, 2, 5)] == [0, 255, 1, PARSING_NAMES.index("arm")]
    with pytest.raises(InputError, match="here: labels must be those of"):
        groups_of_names({0: "background", 1: "torso_skin", 2: "jumpsuits"}, "here")
