"""A model of transformers as a Segmenter: a tiny one of random weights, and every way in which one may be unusable."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deocclude.errors import DeoccludeError, DeviceError, InputError, MissingExtraError, UsageError, WeightsError
from deocclude.people import hf_segmenter
from deocclude.people.hf_segmenter import HfSegmenter
from hf_models import TINY, tiny_swin

PHOTO = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)
NAMES = {"id2label": {0: "person", 1: "dog"}, "label2id": {"person": 0, "dog": 1}}


@pytest.fixture(scope="session")
def segmenter(hf_folder: Path) -> HfSegmenter:
    """The tiny model, with a low minimum score."""
    return HfSegmenter(str(hf_folder), "cpu", min_score=0.1, offline=True)


@pytest.fixture
def damaged(hf_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's folder to do harm to."""
    return Path(shutil.copytree(hf_folder, tmp_path / "model"))


def fails(kind: type[DeoccludeError], model: object, device: str = "cpu") -> str:
    """Load, expect this very kind of error and one line; returns that line."""
    with pytest.raises(DeoccludeError) as caught:
        HfSegmenter(str(model), device, offline=True).load()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def configure(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- what it finds ---------------------------------------------------------------------------------------------------


def test_masks_have_the_photos_size_in_descending_score_order(segmenter: HfSegmenter) -> None:
    people = segmenter(PHOTO)
    assert people
    scores = [one.score for one in people]
    assert all(0.1 <= score <= 1 for score in scores) and scores == sorted(scores, reverse=True)
    assert all(one.mask.shape == PHOTO.shape[:2] and one.mask.dtype == bool for one in people)


def test_results_are_equal_in_every_thread(segmenter: HfSegmenter, hf_folder: Path) -> None:
    expected = segmenter(PHOTO)
    fresh = HfSegmenter(str(hf_folder), "cpu", min_score=0.1)
    with ThreadPoolExecutor(3) as pool:
        for people in pool.map(fresh, [PHOTO] * 3):
            assert [one.score for one in people] == [one.score for one in expected]
            np.testing.assert_array_equal([one.mask for one in people], [one.mask for one in expected])


@pytest.mark.parametrize("size_hw", [(3, 5), (1, 90), (700, 20)])
def test_odd_sizes(segmenter: HfSegmenter, size_hw: tuple[int, int]) -> None:
    assert all(one.mask.shape == size_hw for one in segmenter(np.full((*size_hw, 3), 90, np.uint8)))


@pytest.mark.parametrize("kind", ["maskformer", "oneformer"])
def test_maskformer_and_oneformer_are_supported(tmp_path: Path, kind: str) -> None:
    (save_maskformer if kind == "maskformer" else save_oneformer)(tmp_path)
    people = HfSegmenter(str(tmp_path), "cpu", offline=True)(PHOTO)
    assert len(people) == (5 if kind == "maskformer" else TINY["num_queries"]), "one for each query"
    for one in people:
        assert one.mask.shape == PHOTO.shape[:2] and one.mask.all()
        assert one.score == pytest.approx(np.exp(5) / (np.exp(5) + 2), abs=1e-4)


def save_maskformer(folder: Path) -> None:
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation
    from transformers import MaskFormerImageProcessorPil as Processor

    layers = {"encoder_layers": 1, "encoder_ffn_dim": 16, "decoder_layers": 1, "decoder_ffn_dim": 16}
    decoder = DetrConfig(d_model=32, num_queries=5, encoder_attention_heads=2, decoder_attention_heads=2, **layers)
    config = MaskFormerConfig(
        backbone_config=tiny_swin(), decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32, **NAMES
    )
    save_sure(MaskFormerForInstanceSegmentation, config, folder)
    Processor(size={"height": 64, "width": 64}).save_pretrained(folder)


def save_oneformer(folder: Path) -> None:
    """Its list of class names is on a hub, which must not be contacted."""
    from transformers import CLIPTokenizer, OneFormerConfig, OneFormerForUniversalSegmentation, OneFormerProcessor
    from transformers import OneFormerImageProcessorPil as Processor

    config = OneFormerConfig(
        backbone_config=tiny_swin(),
        hidden_dim=32,
        conv_dim=32,
        mask_dim=32,
        **TINY,
        is_training=False,
        **NAMES,
    )
    save_sure(OneFormerForUniversalSegmentation, config, folder)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])
    OneFormerProcessor(Processor(size={"height": 64, "width": 64}, num_text=1), tokenizer).save_pretrained(folder)
    path = folder / "processor_config.json"
    saved = json.loads(path.read_text())
    saved["image_processor"] |= {"repo_path": "nobody/no-such-names", "class_info_file": "names.json"}
    path.write_text(json.dumps(saved))


def save_sure(network_type: type, config: object, folder: Path) -> None:
    """Weights by which every query sees a person, all over the photo."""
    import torch

    network = network_type(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "mask_projection" in name or ("mask_embed" in name and ".2.0." in name):
                parameter.fill_(1.0 if name.endswith("bias") else 0.0)
            elif parameter.shape[:1] == (3,):  # person, dog, nothing
                parameter.copy_(torch.tensor([5.0, 0.0, 0.0]) if name.endswith("bias") else torch.zeros(3, 32))
    network.save_pretrained(folder)


def stub(monkeypatch: pytest.MonkeyPatch, segmenter: HfSegmenter, segmentation, segments: list[tuple]) -> None:
    """Let the model find these: (id, label id, score) each."""
    import torch

    segmenter.load()
    infos = [{"id": number, "label_id": label, "score": score} for number, label, score in segments]
    result = {"segmentation": torch.as_tensor(segmentation), "segments_info": infos}
    post_process = "post_process_instance_segmentation"
    monkeypatch.setattr(segmenter._opened.processor, post_process, lambda *_, **__: [result], raising=False)


def test_only_persons_above_min_score_are_kept(segmenter: HfSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.zeros((5, 24, 40), np.float32)
    for index in range(4):
        masks[index, 2:10, 4 * index : 4 * index + 12] = 1  # they overlap
    # a person, a dog, a higher-scoring person, one with too low a score, and one without a pixel
    found = [(0, 0, 0.4), (1, 1, 0.9), (2, 0, 0.8), (3, 0, 0.05), (4, 0, 0.7)]
    stub(monkeypatch, segmenter, masks, found)
    people = segmenter(PHOTO)
    assert [one.score for one in people] == [0.8, 0.4]
    # twice the size of the map
    assert [one.box_xyxy for one in people] == [(16, 4, 40, 20), (0, 4, 24, 20)]


def test_oneformer_instance_keeps_its_own_area() -> None:
    """One person on 14 % of the photo: every other query is no object and below 0.5 everywhere."""
    mask_logits = torch.full((3, 20, 50), -4.0)
    mask_logits[1, 3:13, 10:24] = 4.0
    class_logits = torch.tensor([[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    ((label, score, mask),) = hf_segmenter._oneformer_instances(class_logits, mask_logits)
    assert (label, mask.mean()) == (0, 0.14) and mask[3:13, 10:24].all()
    assert score == pytest.approx(0.982, abs=0.001)


def test_overlapping_oneformer_instances_keep_their_pixels() -> None:
    mask_logits = torch.full((2, 10, 10), -1.0)
    mask_logits[0, :6] = 2.0
    mask_logits[1, 4:] = 5.0
    found = hf_segmenter._oneformer_instances(torch.tensor([[5.0, 0.0], [4.0, 0.0]]), mask_logits)
    assert [int(mask.sum()) for _, _, mask in found] == [60, 60]


def test_no_detection_gives_an_empty_list(segmenter: HfSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, segmenter, np.full((48, 80), -1), [])
    assert segmenter(PHOTO) == []


def test_inference_failure_is_reported(segmenter: HfSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory.\nTried a lot.")

    segmenter.load()
    monkeypatch.setattr(segmenter._opened.network, "forward", fail)
    with pytest.raises(DeoccludeError, match=r"failed on this photo: CUDA out of memory\.$"):
        segmenter(PHOTO)


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        (PHOTO.astype(np.float32), "uint8 array, got float32"),
        (PHOTO[..., 0], r"shape \(H, W, 3\), got \(48, 80\)"),
        (PHOTO[:0], r"got \(0, 80, 3\)"),
    ],
)
def test_bad_photos(photo: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        HfSegmenter("never/read")(photo)


# --- what cannot be used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_missing_extra(hf_folder: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = fails(MissingExtraError, hf_folder)
    assert line == '--segmenter hf:MODEL needs the extra [segment]: pip install "deocclude[segment]"'


def test_missing_models_are_rejected(tmp_path: Path) -> None:
    assert fails(WeightsError, tmp_path / "none") == f"model {tmp_path / 'none'}: no such folder"
    assert "no config.json" in fails(WeightsError, tmp_path)
    assert "neither a folder nor in the cache" in fails(WeightsError, "nobody/no-such-model")


def test_damaged_models(damaged: Path, capfd: pytest.CaptureFixture) -> None:
    weights = damaged / "model.safetensors"
    configure(damaged, decoder_layers=5)
    assert "its weights lack" in fails(WeightsError, damaged)
    weights.write_bytes(weights.read_bytes()[:9000])
    assert str(damaged) in fails(WeightsError, damaged)
    weights.unlink()
    assert "no file named model.safetensors" in fails(WeightsError, damaged)
    (damaged / "preprocessor_config.json").unlink()
    assert "image processor" in fails(WeightsError, damaged)
    (damaged / "config.json").write_text("{")
    assert "config" in fails(WeightsError, damaged)
    assert capfd.readouterr().err == "", "transformers' own reports are many lines"


def test_models_without_a_person_class_are_rejected(damaged: Path) -> None:
    names = ["cat", "dog", *(f"thing {i}" for i in range(20))]
    configure(damaged, id2label={str(i): name for i, name in enumerate(names)})
    line = fails(UsageError, damaged)
    assert line.endswith('has no class "person": it finds ' + ", ".join(names[:8]) + ", ...")
    configure(damaged, model_type="bert")
    assert "is a bert, expected one of mask2former, maskformer, oneformer" in fails(UsageError, damaged)


def test_devices(hf_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert "auto, cpu or cuda" in fails(UsageError, hf_folder, "tpu")
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: False))
    assert "cuda is not available" in fails(DeviceError, hf_folder, "cuda")
