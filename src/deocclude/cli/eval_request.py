"""The request of `deocclude eval`: check the options, evaluate the set, summarise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deocclude.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from deocclude.data.evalsets.persons import EvalSample, EvalSet
    from deocclude.data.evalsets.scenes import SceneSet
    from deocclude.evaluation import Predictor, TypicalPoses
    from deocclude.evaluation.torch_predictor import TorchPredictor
    from deocclude.pipeline import Deoccluder

OnRecord = Callable[[int, int], None]
"""Called with (done, all) after every picture."""


@dataclass(frozen=True)
class Measured:
    """Result of a request.

    Attributes:
        summary: the figures, JSON-ready.
        markdown: the same as Markdown.
        draw_people_sheet: number of rows -> contact sheet; None if there is none.
    """

    summary: dict[str, Any]
    markdown: str
    draw_people_sheet: Callable[[int], Image.Image] | None = None


@dataclass(frozen=True)
class Request:
    """Options of `deocclude eval` by their names; `initial` is empty if not given."""

    model: str
    device: str
    weights: Path | None
    trained: Path | None
    stage1: Path | None
    size_px: int | None
    initial: tuple[str, ...]
    content: bool
    limit: int | None
    pred: Path | None
    allow_missing: bool
    save_pred: Path | None
    inception: Path | None
    lpips: Path | None
    against: Path | None

    def check(self) -> None:
        """Raise UsageError for options that do not go together."""
        if self.pred is not None:
            others = {"--save-pred": self.save_pred, "--weights": self.weights, "--trained": self.trained}
            others |= {"-m": self.model != "base", "--device": self.device != "auto"}
            refuse("--pred reads another system's files", others)
            if len(self.initial) > 1:
                raise UsageError(f"--pred takes one kind of initial mask, got {', '.join(self.initial)}")
        elif self.allow_missing:
            raise UsageError("--allow-missing goes with --pred DIR")
        if self.trained is not None:
            refuse("--trained measures one file", {"--weights": self.weights, "-m": self.model != "base"})
            if "photo" in self.initial:
                raise UsageError("--trained does not detect people: it takes no --initial photo")
            if self.size_px is not None and self.size_px % 32:
                raise UsageError(f"--size must be a multiple of 32, as in training, got {self.size_px}")
        elif self.stage1 is not None or self.size_px is not None:
            raise UsageError(f"{'--size' if self.stage1 is None else '--stage1'} goes with --trained BEST.safetensors")
        if not self.content:
            refuse("--no-content measures masks only", self._about_content())
        if self.against is not None:
            from deocclude.evaluation.scores import OURS, STORED, TRAINED

            if self.against.absolute().name in (OURS, STORED, TRAINED):
                raise UsageError(
                    f"--against: the folder's name is that of its row; {self.against.name} is that of the model"
                )

    def check_compare(self, others: Mapping[str, object]) -> None:
        """Raise UsageError for options that --compare does not take. others: options that `self` lacks."""
        own = {"--pred": self.pred, "--save-pred": self.save_pred, "--inception": self.inception}
        own |= {"--lpips": self.lpips, "--initial": self.initial or None, "--limit": self.limit}
        own |= {"--weights": self.weights, "--trained": self.trained, "--against": self.against}
        own |= {"-m": self.model != "base", "--device": self.device != "auto", "--no-content": not self.content}
        refuse("--compare reads two eval.json", dict(others) | own)

    def check_prompts(self, others: Mapping[str, object]) -> None:
        """Raise UsageError for options without effect on --completion-prompts. others: options that `self` lacks."""
        own = {"--pred": self.pred, "--save-pred": self.save_pred, "--trained": self.trained}
        own |= {"--initial": self.initial or None, "--no-content": not self.content}
        refuse("--completion-prompts measures masks of a model", dict(others) | own | self._about_content())

    def _about_content(self) -> dict[str, Path | None]:
        """Options that need the recovered appearance."""
        return {"--inception": self.inception, "--lpips": self.lpips, "--against": self.against}

    def measure(self, eval_set: EvalSet | SceneSet, on_record: OnRecord | None) -> Measured:
        """Evaluate the set and summarise."""
        from deocclude.data.evalsets.scenes import SceneSet

        if isinstance(eval_set, SceneSet):
            return self._measure_scenes(eval_set, on_record)
        return self._measure_people(eval_set, on_record)

    def load_model(self) -> tuple[str, Predictor]:
        """Name and predictor of a model that recovers appearance. Raises UsageError for trained weights of stage 1."""
        if self.trained is None:
            return self.model, self._load(self.weights)
        predictor = self._open_trained(self.trained)
        if not predictor.paints:
            raise UsageError(f"{self.trained} is stage 1 alone and recovers no appearance")
        return _name_of(self.trained, predictor), predictor

    def _measure_scenes(self, scenes: SceneSet, on_record: OnRecord | None) -> Measured:
        """Evaluate detection, masks and depth order on a set of scenes."""
        from deocclude.evaluation import draw_scene_sheet, evaluate_scenes, scenes_to_markdown, summarise_scenes

        others = {"--pred": self.pred, "--save-pred": self.save_pred, "--trained": self.trained}
        refuse(f"{scenes.folder} is a set of scenes", others | self._about_content())
        predictor = self._load(self.weights)
        evaluation = evaluate_scenes(scenes, predictor, limit=self.limit, on_record=on_record)
        summary = summarise_scenes(evaluation, model=self.model)
        return Measured(
            summary, scenes_to_markdown(summary), lambda rows: draw_scene_sheet(scenes, predictor, rows=rows)
        )

    def _measure_people(self, eval_set: EvalSet, on_record: OnRecord | None) -> Measured:
        """Evaluate masks and recovered appearance on a set of people."""
        from deocclude.evaluation import (
            INITIAL_KINDS,
            PROMPTED_KINDS,
            PerceptualMetrics,
            PredictionWriter,
            StoredPredictions,
            draw_people_sheet,
            draw_records,
            evaluate,
            summarise,
            to_markdown,
        )
        from deocclude.evaluation.scores import OURS, TRAINED, WORKING_PX

        if not eval_set.has_truth:
            refuse(f"{eval_set.folder} has no unoccluded truth", self._about_content())
        content, notes, about = self.content, [], {}
        if self.pred is not None:
            records = draw_records(eval_set.records, self.limit)
            predictor = StoredPredictions.open(self.pred, records, allow_missing=self.allow_missing)
            name, kinds = self.pred.resolve().name, self.initial or PROMPTED_KINDS[:1]
        elif self.trained is not None:
            predictor = self._open_trained(self.trained)
            if not predictor.paints:
                refuse(f"{self.trained} is stage 1 alone and only its masks are measured", self._about_content())
            name, kinds = _name_of(self.trained, predictor), self.initial or PROMPTED_KINDS
            notes, about = [_note_on(predictor)], {"trained": _about_trained(self.trained, self.stage1, predictor)}
            content = content and predictor.paints
        else:
            predictor = self._load(self.weights)
            name, kinds = self.model, self.initial or (INITIAL_KINDS if predictor.finds_people else PROMPTED_KINDS)
        perceptual_metrics = PerceptualMetrics.open(self.inception, self.lpips, size_px=WORKING_PX)
        writer = PredictionWriter(self.save_pred, with_content=content) if self.save_pred is not None else None
        evaluation = evaluate(
            eval_set,
            predictor,
            initial_kinds=kinds,
            typical_poses=_typical_poses(self.weights),
            content=content,
            perceptual_metrics=perceptual_metrics,
            against={} if self.against is None else {self.against.absolute().name: self._recovery_of(eval_set)},
            limit=self.limit,
            method=OURS if self.trained is None else TRAINED,
            on_person=writer,
            on_record=on_record,
        )
        evaluation.notes += notes
        summary = summarise(evaluation, model=name) | about
        return Measured(
            summary, to_markdown(summary), lambda rows: draw_people_sheet(evaluation, eval_set, predictor, rows=rows)
        )

    def _recovery_of(self, eval_set: EvalSet) -> Callable[[EvalSample], NDArray[np.uint8]]:
        """The function of --against from a sample to the recovered photo, by a folder of photos or of weights."""
        from deocclude.evaluation.blind_comparison import occluded_records, read_recovered

        if any(self.against.glob("*.png")):
            return read_recovered(self.against, occluded_records(eval_set, self.limit))
        other = self._load(self.against)
        return lambda sample: other.recover(sample.photo, sample.visible, sample.amodal)

    def _open_trained(self, file: Path) -> TorchPredictor:
        """The predictor of --trained, on --device."""
        from deocclude.evaluation.torch_predictor import open_trained
        from deocclude.train.engine import choose_device

        return open_trained(file, device=choose_device(self.device), size_px=self.size_px, parser=self.stage1)

    def _load(self, weights: Path | None) -> Deoccluder:
        """The pipeline of --model from a weights folder; None: the bundled weights."""
        import deocclude

        return deocclude.load(self.model, device=self.device, weights_dir=weights)


def refuse(why: str, options: Mapping[str, object]) -> None:
    """Raise UsageError if one of the options was given, that is, neither None nor False."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise UsageError(f"{why}: it takes no {name}")


def _typical_poses(weights: Path | None) -> TypicalPoses | None:
    """The typical poses beside the weights in use, else the bundled ones, else None."""
    from deocclude.evaluation import TypicalPoses
    from deocclude.inference.runtime import BUNDLED_WEIGHTS
    from deocclude.io.typical_poses import POSES_NAME, read_poses

    for folder in (weights, BUNDLED_WEIGHTS):
        if folder is not None and (folder / POSES_NAME).is_file():
            return TypicalPoses(read_poses(folder / POSES_NAME))
    return None


def _name_of(weights: Path, predictor: TorchPredictor) -> str:
    """The name of trained weights in a report: FOLDER/FILE (NETWORK), since most files are called best.safetensors."""
    file = weights.resolve()
    return f"{file.parent.name}/{file.name} ({predictor.network})"


def _note_on(predictor: TorchPredictor) -> str:
    """How the network was run, in one line for the report."""
    how = f"the network runs in torch: one prediction on each crop of {predictor.size_px} px, no averaging, and "
    how += "everyone is completed, however little seems hidden"
    return how if predictor.paints else f"{how}; stage 1 alone recovers no appearance, so that only masks are measured"


def _about_trained(weights: Path, stage1: Path | None, predictor: TorchPredictor) -> dict[str, Any]:
    """Key trained of eval.json: file, sha256, network, side of the crops in pixels, and file and sha256 of stage 1."""
    about = {"network": predictor.network, "size_px": predictor.size_px}
    return _path_and_digest(weights) | about | {"stage1": None if stage1 is None else _path_and_digest(stage1)}


def _path_and_digest(weights: Path) -> dict[str, str | None]:
    """File and sha256 of trained weights, for eval.json."""
    from deocclude.checkpoints.files import weights_file
    from deocclude.io.request_stamp import file_digest

    return {"file": str(weights), "sha256": file_digest(weights_file(weights))}
