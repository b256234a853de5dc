"""The detector in training: targets by hand, losses that reach what they should, and overfitting of a few photos."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from deocclude.checkpoints.files import load_foreign_state, load_state
from deocclude.cli.app import app
from deocclude.errors import ConfigError, InputError, MissingExtraError, WeightsError
from deocclude.export.to_onnx import build_network
from deocclude.models.movenet import MoveNet
from deocclude.models.nanodet import NanoDet
from deocclude.models.people_detector import PeopleDetector, PeopleDetectorConfig, PeopleOutput
from deocclude.train import people_stage, pretrained_backbone
from deocclude.train.config import load_config
from deocclude.train.detector_methods import DETECTORS
from deocclude.train.engine import fit
from deocclude.train.people_stage import PeopleStage
from deocclude.train.people_targets import CentreTargets, PeopleCriterion, encode, focal_loss, sides_giou_loss
from deocclude.train.pretrained_backbone import imagenet_file
from photosets import draw_coco

DEFAULT_LOSSES = DETECTORS["centres"].losses
NANODET = (
    "people.model=nanodet",
    "people.network={widths: [8, 8, 8, 8], blocks: [1, 1, 1, 1], pyramid_width: 8, bins: 6}",
)
MOVENET = (
    "people.model=movenet",
    "people.network={stem_width: 8, widths: [8, 8, 8, 16], "
    "blocks: [[8, 8, 1], [16, 8, 2], [16, 8, 2], [16, 8, 2], [16, 16, 2]], taps: [1, 2, 3], last_width: 16, "
    "pyramid_widths: [8, 8, 8], head_width: 8}",
    "people.schedule.relative_steps=true",
)
NETWORK = {"stem_width": 8, "widths": [8, 16, 16], "blocks": [0, 0, 0]}


def mask_of(*boxes: tuple[int, int, int, int], size: int = 64) -> Tensor:
    mask = torch.zeros(1, 1, size, size)
    for x0, y0, x1, y1 in boxes:
        mask[..., y0:y1, x0:x1] = 1
    return mask


def targets_of(*boxes: tuple[float, ...], ignore: Tensor | None = None, size: int = 64) -> CentreTargets:
    padded = torch.tensor([[*boxes, (0.0, 0, 0, 0)]], dtype=torch.float32)
    empty = torch.zeros(1, 1, size, size)
    return encode(padded, empty, empty if ignore is None else ignore, empty, 8)


def test_person_target_is_a_peak_with_side_lengths() -> None:
    targets = targets_of((8, 4, 40, 60))  # middle (24, 32): cell (3, 4)
    assert (targets.heat == 1).nonzero().tolist() == [[0, 0, 4, 3]]
    # sigmas of 0.5 (32 px are 4 cells, 0.36 is too little) across and 0.63 (7 cells) down
    assert targets.heat[0, 0, 4, 4].item() == pytest.approx(math.exp(-1 / (2 * 0.5**2)))
    assert targets.heat[0, 0, 5, 3].item() == pytest.approx(math.exp(-1 / (2 * 0.63**2)))
    assert targets.heat[0, 0, 5, 4].item() == pytest.approx(
        targets.heat[0, 0, 4, 4].item() * targets.heat[0, 0, 5, 3].item()
    )
    torch.testing.assert_close(targets.sides[0, :, 4, 3] * 8, torch.tensor([28.0 - 8, 36.0 - 4, 40 - 28.0, 60 - 36.0]))
    assert targets.sides_weight[0, 0, 4, 3] == 1
    assert (targets.sides_weight > 0).sum() == 1, "neighbours have less than 0.3 of the peak"
    assert torch.equal(targets.heat_weight, torch.ones(1, 1, 8, 8))


def test_large_people_have_side_targets_around_the_peak() -> None:
    targets = targets_of((0, 0, 192, 192), size=192)  # sigma 2.16 cells
    known = targets.sides_weight[0, 0] > 0
    assert known.sum() == (targets.heat[0, 0] >= 0.3).sum() > 9
    ys, xs = known.nonzero().T
    torch.testing.assert_close(targets.sides[0, 0][known], xs + 0.5)
    torch.testing.assert_close(targets.sides[0, 3][known], 24 - (ys + 0.5))


def test_shared_centre_cell_goes_to_the_smaller_person() -> None:
    targets = targets_of((0, 0, 64, 64), (24, 22, 46, 48))  # both in cell (4, 4)
    assert (targets.heat == 1).sum() == 1
    torch.testing.assert_close(targets.sides[0, :, 4, 4] * 8, torch.tensor([12.0, 14, 10, 12]))
    assert targets_of().heat.sum() == 0 and targets_of().sides_weight.sum() == 0


def test_every_cell_of_a_person_targets_that_persons_box() -> None:
    far, near = (0.0, 0, 64, 64), (32.0, 16, 64, 64)
    owner = mask_of((0, 0, 64, 64))
    owner[..., 16:, 32:] = 2
    targets = encode(torch.tensor([[far, near]]), (owner > 0).float(), mask_of(), owner, 8)
    counts = targets.own_weight[0, 0] > 0
    assert not counts[4, 4] and targets.sides_weight[0, 0, 4, 4] == 1, "the middle of the person behind"
    torch.testing.assert_close(targets.own_sides[0, :, 0, 7] * 8, torch.tensor([60.0, 4, 4, 60]))
    torch.testing.assert_close(targets.own_sides[0, :, 7, 7] * 8, torch.tensor([28.0, 44, 4, 4]))
    assert targets.own_weight[0, 0, 0, 0].item() == pytest.approx(1 / 40)
    assert targets.own_weight[0, 0, 7, 7].item() == pytest.approx(1 / 24), "each person counts alike"
    assert not targets_of(far).own_weight.any()


def test_mask_coverage_is_the_fraction_of_each_cell() -> None:
    targets = encode(torch.zeros(1, 2, 4), mask_of((0, 0, 12, 8)), mask_of((0, 8, 1, 9)), mask_of(), 8)
    assert targets.coverage[0, 0, 0, :3].tolist() == [1, 0.5, 0]
    assert targets.mask_weight[0, 0, 1, 0] == 0 and targets.mask_weight.sum() == 63


def test_ignore_regions_have_no_loss_except_at_people() -> None:
    ignore = mask_of((32, 0, 64, 64))
    targets = targets_of((40, 8, 60, 56), ignore=ignore)  # the middle in cell (6, 4)
    assert targets.heat_weight[0, 0, 4, 6] == 1
    assert targets.heat_weight.sum() == 32 + 1 and targets.mask_weight.sum() == 32
    free = targets_of(ignore=mask_of((0, 0, 64, 64)))
    loud = PeopleOutput(torch.full((1, 1, 8, 8), 3.0), torch.zeros(1, 4, 8, 8), torch.full((1, 1, 8, 8), 3.0))
    terms = PeopleCriterion(DEFAULT_LOSSES)(loud, free)
    assert {name: term.item() for name, term in terms.items()} == {"centre": 0, "sides": 0, "own": 0, "mask": 0}


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[[[0.0, math.log(3.0)]]]])  # probabilities 0.5, 0.75
    heat, weight = torch.tensor([[[[1.0, 0.5]]]]), torch.ones(1, 1, 1, 2)
    wanted = -(0.25 * math.log(0.5) + 0.5**4 * 0.75**2 * math.log(0.25))
    assert focal_loss(logits, heat, weight).item() == pytest.approx(wanted)
    assert focal_loss(logits, heat * 0, weight * 0).item() == 0


def test_giou_by_hand() -> None:
    target = torch.tensor([2.0, 2, 2, 2]).view(1, 4, 1, 1)
    one = torch.ones(1, 1, 1, 1)
    assert sides_giou_loss(target, target, one).item() == pytest.approx(0)
    # half as wide: 8 of 16, no empty hull
    assert sides_giou_loss(torch.tensor([1.0, 2, 1, 2]).view(1, 4, 1, 1), target, one).item() == pytest.approx(0.5)
    # a cross of 2 x 8 and 4 x 4: 8 shared, 24 together, hull 4 x 8
    crossed = sides_giou_loss(torch.tensor([1.0, 4, 1, 4]).view(1, 4, 1, 1), target, one).item()
    assert crossed == pytest.approx(1 - 8 / 24 + (32 - 24) / 32)
    assert sides_giou_loss(target * 3, -target, one * 0).item() == 0


@pytest.mark.parametrize(
    ("term", "head"), [("centre", "centre"), ("sides", "log_sides"), ("own", "log_sides"), ("mask", "mask")]
)
def test_each_term_reaches_its_head_alone(term: str, head: str) -> None:
    network = PeopleDetector(PeopleDetectorConfig(stem_width=8, widths=(8, 16, 16), blocks=(0, 0, 0)))
    body = mask_of((8, 4, 40, 60)).repeat(2, 1, 1, 1)
    targets = encode(torch.tensor([[[8.0, 4, 40, 60]]] * 2), body, torch.zeros(2, 1, 64, 64), body, 8)
    terms = PeopleCriterion({term: 1.0})(network(torch.rand(2, 3, 64, 64)), targets)
    assert list(terms) == [term]
    terms[term].backward()
    reached = {key.split(".")[0] for key, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"stem", "down"} < reached and reached & {"centre", "log_sides", "mask"} == {head}


@pytest.fixture
def people_config(write_config):
    """`people_config(*overrides)` reads a config of a tiny detector on the drawn folder."""

    def read(*overrides: str):
        schedule = {
            "steps": 4, "phases": [{"until": 1.0, "size_px": 64, "batch_size": 4}], "warmup_steps": 2,
            "learning_rate": 0.01,
        }  # fmt: skip
        people = {"network": NETWORK, "schedule": schedule}
        return load_config(write_config(people=people, mask=None, content=None, validation_samples=6), overrides)

    return read


class SameBatch:
    """Always the same batch of a stream."""

    def __init__(self, stream) -> None:
        self.stream = stream

    def batch(self, index: int, batch_size: int, size_px: int, part: int = 0) -> dict[str, Tensor]:
        return self.stream.batch(1, batch_size, size_px)


class Oracle(nn.Module):
    """Returns the given predictions, batch after batch."""

    def __init__(self, answers: list[PeopleOutput]) -> None:
        super().__init__()
        self.here = nn.Parameter(torch.zeros(1))
        self.answers = iter(answers)

    def forward(self, image: Tensor) -> PeopleOutput:
        return next(self.answers)


def test_training_overfits_a_few_photos(people_config, tmp_path: Path) -> None:
    config = people_config("people.schedule.steps=60")
    stage = PeopleStage(config)
    stage.stream = SameBatch(stage.stream)
    outcome = fit(stage, config, config.people, tmp_path / "run", quiet=True)
    raw = stage.stream.batch(1, 4, 64)
    assert raw["boxes_xyxy"].any(), "somebody is to be found"
    stage.network.train()
    batch = {k: v.float() / 255 if k == "photo" else v.float() for k, v in raw.items()}
    with torch.no_grad():
        after, _ = stage.weighted_terms(batch, None)
        stage.network = PeopleDetector(stage.config)
        before, _ = stage.weighted_terms(batch, None)
    assert before.keys() == DEFAULT_LOSSES.keys()
    assert all(after[name] < 0.6 * before[name] for name in after), (before, after)
    network, metadata = build_network(outcome.best_weights)
    assert isinstance(network, PeopleDetector) and network.config == stage.config
    assert metadata["size_px"] == 64 and metadata["validation"]["score"] == outcome.best_score


@pytest.mark.parametrize(
    ("network", "options", "terms", "lr_scales", "weight_of"),
    [
        (
            NanoDet, NANODET, {"score", "box", "distribution"}, {"stem": 0.3, "stages": 0.3},
            lambda network, number: network.stages[number].enter[0].weight,
        ),
        (
            MoveNet, (*MOVENET, "people.schedule.learning_rate=0.03"), {"centre", "sides"},
            {"stem": 0.3, "blocks": 0.3, "last": 0.3},
            lambda network, number: network.blocks[number].project.conv.weight,
        ),
    ],
    ids=["nanodet", "movenet"],
)  # fmt: skip
def test_detector_learns_a_few_photos_and_continues_from_its_weights(
    network, options, terms, lr_scales, weight_of, people_config, tmp_path: Path
) -> None:
    config = people_config(*options, "people.schedule.steps=60")
    stage = PeopleStage(config)
    stage.stream = SameBatch(stage.stream)
    batch = {k: v.float() / 255 if k == "photo" else v.float() for k, v in stage.stream.batch(1, 4, 64).items()}
    before, _ = stage.weighted_terms(batch, None)
    outcome = fit(stage, config, config.people, tmp_path / "run", quiet=True)
    after, _ = stage.weighted_terms(batch, None)
    assert before.keys() == terms and before["box" if "box" in terms else "sides"] > 0
    assert sum(after.values()) < 0.7 * sum(before.values()), (before, after)
    trained, metadata = build_network(outcome.best_weights)
    assert isinstance(trained, network) and metadata["size_px"] == 64
    frozen = ("people.pretrained_backbone=true", "people.frozen_stages=2", "people.backbone_lr_scale=0.3")
    second = people_config(*options, *frozen, f"people.init={outcome.best_weights}")
    again = PeopleStage(second)
    assert again.lr_scales == lr_scales
    continued = build_network(fit(again, second, second.people, tmp_path / "second", quiet=True).best_weights)[0]
    assert torch.equal(weight_of(continued, 1), weight_of(trained, 1))
    assert not torch.equal(weight_of(continued, 2), weight_of(trained, 2))


def test_photos_come_from_every_named_set(people_config, data_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(data_root, root)
    draw_coco(root / "coco_people", ("000000000042", "000000000043", "000000000044"))
    real = "data.real={wild: 0.25, coco: 0.75}"
    stage = PeopleStage(people_config(*NANODET, real, f"data.root={root}", "data.p_boxed=0.5", "data.p_wild=0.9"))
    of_coco = [name.name.startswith("coco/") for name in stage.stream.wild]
    shares = stage.stream.wild_shares
    assert sum(share for share, is_coco in zip(shares, of_coco, strict=True) if is_coco) == pytest.approx(0.75)
    assert len(stage.stream.boxed) and stage.stream.p_boxed == 0.5
    raw = stage.stream.batch(0, 16, 64)
    assert raw["photo"].shape == (16, 3, 64, 64) and raw["boxes_xyxy"].any()


def test_an_interrupted_run_ends_with_the_same_losses_and_weights(people_config, interrupt, tmp_path: Path) -> None:
    config = people_config("log_every=1")
    people_stage.main(config, tmp_path / "straight", quiet=True)
    broken = PeopleStage(config)
    interrupt(broken, 1)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, config, config.people, tmp_path / "broken", quiet=True)
    people_stage.main(config, tmp_path / "broken", quiet=True)
    first, second = (load_state(tmp_path / name / "last.pt") for name in ("straight", "broken"))
    assert (first["step"], first["best"]) == (second["step"], second["best"])
    for part in ("network", "ema"):
        assert all(torch.equal(value, second[part][key]) for key, value in first[part].items()), part
    one, other = ((tmp_path / name / "log.jsonl").read_text() for name in ("straight", "broken"))
    assert re.sub(r'"samples_per_s": [\d.]+', "", one) == re.sub(r'"samples_per_s": [\d.]+', "", other)


def test_validation_scores_of_perfect_and_empty_predictions(people_config) -> None:
    stage = PeopleStage(people_config("data.crowds.middle=[0.4, 0.9]"))
    assert len(stage.validation["composed"]) == 6 and len(stage.validation["wild"]) == 1
    perfect, silent = [], []
    for samples in stage.validation.values():
        boxes = torch.zeros(len(samples), 16, 4)
        for row, sample in zip(boxes, samples, strict=True):
            row[: len(sample.boxes_xyxy)] = torch.from_numpy(sample.boxes_xyxy)
        empty = torch.zeros(len(samples), 1, 64, 64)
        targets = encode(boxes, empty, empty, empty, 8)
        logits = torch.where(targets.heat == 1, 5.0, -5.0)
        log_sides = targets.sides.clamp(min=0.01).log()
        perfect.append(PeopleOutput(logits, log_sides, logits))
        silent.append(PeopleOutput(logits * 0 - 5, log_sides, logits))
    assert any(len(s.boxes_xyxy) for s in stage.validation["composed"])
    found = stage.validate(Oracle(perfect))
    assert found.keys() == {
        "composed_recall", "composed_precision", "wild_recall", "wild_precision", "threshold", "score"
    }  # fmt: skip
    # two people whose centres share a cell of 8 pixels cannot both be predicted
    assert found["composed_recall"] > 0.7 and found["composed_precision"] == 1.0
    assert found["wild_recall"] == found["wild_precision"] == 1.0
    assert stage.validate(Oracle(silent))["score"] == 0.0


def test_no_wild_photos_are_read_when_p_wild_is_zero(people_config, tmp_path: Path) -> None:
    stage = PeopleStage(people_config("data.p_wild=0"))
    assert stage.validation["wild"] == [] and stage.stream.wild == []
    assert set(stage.validate(stage.network)) == {"composed_recall", "composed_precision", "threshold", "score"}


IMAGENET = ("people.network={trunk: efficientnet_lite0, widths: [8, 8, 8, 8], blocks: [0, 0, 0, 1]}",)


def test_pretrained_backbone_keeps_its_frozen_stages(people_config, tmp_path: Path) -> None:
    """Its first stages stay frozen; the later ones train with a lower learning rate."""
    config = people_config(
        *IMAGENET, "people.pretrained_backbone=true", "people.frozen_stages=3", "people.backbone_lr_scale=0.3"
    )
    stage = PeopleStage(config)
    published = load_foreign_state(imagenet_file())
    assert torch.equal(stage.network.trunk.stem[0].weight, published["_conv_stem.weight"])
    assert stage.lr_scales == {"trunk": 0.3}
    outcome = fit(stage, config, config.people, tmp_path / "run", quiet=True)
    trained = build_network(outcome.best_weights)[0].trunk
    kept = {"0": "_blocks.0._project_conv.weight", "2": "_blocks.4._project_conv.weight"}
    for s, name in kept.items():
        assert torch.equal(trained.stages[int(s)][-1].project[0].weight, published[name]), name
    assert not torch.equal(trained.stages[3][-1].project[0].weight, published["_blocks.7._project_conv.weight"])
    torch.testing.assert_close(trained.stages[5][-1].project[1].running_mean, published["_blocks.14._bn2.running_mean"])


def test_too_many_frozen_stages_are_refused(people_config) -> None:
    with pytest.raises(ConfigError, match=r"people\.pretrained_backbone: frozen stages must be from 0 to 6, got 9"):
        PeopleStage(people_config(*IMAGENET, "people.pretrained_backbone=true", "people.frozen_stages=9"))


def test_continued_run_keeps_backbone_statistics_frozen(people_config, tmp_path: Path) -> None:
    config = people_config(*IMAGENET, "people.pretrained_backbone=true")
    before = fit(PeopleStage(config), config, config.people, tmp_path / "run", quiet=True).best_weights
    stage = PeopleStage(people_config(*IMAGENET, "people.pretrained_backbone=true", f"people.init={before}"))
    trunk = stage.network.train().trunk
    assert torch.equal(
        trunk.stages[5][0].project[0].weight, build_network(before)[0].trunk.stages[5][0].project[0].weight
    )
    norms = [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)


def test_missing_imagenet_package_names_the_extra(people_config, monkeypatch) -> None:
    monkeypatch.setattr(pretrained_backbone, "_PACKAGE", "not_installed_anywhere")
    with pytest.raises(MissingExtraError, match=re.escape("pretrained_backbone: true needs the extra [train]")):
        PeopleStage(people_config(*IMAGENET, "people.pretrained_backbone=true"))


def test_wrong_backbone_weights_are_rejected(people_config, monkeypatch, tmp_path: Path) -> None:
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.pth")
    monkeypatch.setattr(pretrained_backbone, "imagenet_file", lambda: tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: not the weights of .*Lite0: _bn0\.weight is missing"):
        PeopleStage(people_config(*IMAGENET, "people.pretrained_backbone=true"))


def test_train_people_command_runs(write_config, tmp_path: Path) -> None:
    schedule = {"steps": 1, "phases": [{"until": 1.0, "size_px": 32, "batch_size": 2}], "warmup_steps": 1}
    path = write_config(people={"network": NETWORK, "schedule": schedule}, validation_samples=2)
    done = CliRunner().invoke(app, ["train", "people", "-c", str(path), "-o", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'run' / 'best.safetensors'} score " in done.stdout


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("people.preset=paper", ConfigError, "people.preset: the detector has one size, base, got 'paper'"),
        ("people.network.depth=3", ConfigError, "unknown key people.network.depth"),
        ("people.network.stride=6", ConfigError, "people.network: stride must be one of [4, 8, 16]"),
        (
            "people.losses.offset=1",
            ConfigError,
            "people.losses.offset: the terms are centre, sides, own, mask",
        ),
        (
            "people.pretrained_backbone=true",
            ConfigError,
            "people.pretrained_backbone: PeopleDetector has no backbone efficientnet_lite0",
        ),
        ("people.model=yolo", ConfigError, "people.model: choose from centres, nanodet, movenet, got 'yolo'"),
        ("data.p_boxed=0.5", ConfigError, "data.p_boxed: people.model centres needs the masks of all people"),
        ("people.frozen_stages=2", ConfigError, "frozen_stages and backbone_lr_scale need pretrained_backbone"),
        ("people.backbone_lr_scale=0.3", ConfigError, "frozen_stages and backbone_lr_scale need pretrained_backbone"),
        ("people.network.trunk=vit", ConfigError, "people.network: trunk must be residual, or efficientnet_lite0 with"),
        ("data.crowds.p_rain=1", ConfigError, "unknown key data.crowds.p_rain"),
        ("data.root=/nowhere/at/all", InputError, "data folder not found"),
    ],
)
def test_invalid_config_is_rejected(people_config, override: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        PeopleStage(people_config(override))


def test_pretrained_nanodet_needs_weights_to_start_from(people_config) -> None:
    with pytest.raises(
        ConfigError, match=r"people\.init: pretrained_backbone needs the published weights of this detector"
    ):
        PeopleStage(people_config(*NANODET, "people.pretrained_backbone=true"))
    with pytest.raises(ConfigError, match=r"people\.frozen_stages: NanoDet has 4 stages, 5 cannot be frozen"):
        PeopleStage(
            people_config(*NANODET, "people.pretrained_backbone=true", "people.frozen_stages=5", "people.init=x")
        )
