"""Blind comparison in `deocclude eval`: write the pictures, count the answers of a judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deocclude.cli.eval_request import Measured, OnRecord, Request, refuse
from deocclude.errors import UsageError

if TYPE_CHECKING:
    from deocclude.data.evalsets.persons import EvalSet
    from deocclude.data.evalsets.scenes import SceneSet


@dataclass(frozen=True)
class BlindRequest:
    """The options of the blind comparison; None, or an empty tuple, if not given.

    Attributes:
        folder: --blind.
        against: --blind-against.
        seed: --seed.
        recovered: --save-recovered.
        answers: --blind-score.
        key: --blind-key.
    """

    folder: Path | None
    against: tuple[str, ...]
    seed: int | None
    recovered: Path | None
    answers: Path | None
    key: Path | None

    @property
    def target(self) -> Path | None:
        """Output folder of pictures; None without pictures."""
        return self.recovered if self.folder is None else self.folder

    def check(self, request: Request, others: Mapping[str, object]) -> None:
        """Raise UsageError for options that do not go together. others: the options of `eval` that `request` lacks."""
        modes = {"--blind": self.folder, "--save-recovered": self.recovered, "--blind-score": self.answers}
        if self.folder is None:
            for name, value in {"--blind-against": self.against, "--seed": self.seed}.items():
                if value not in ((), None):
                    raise UsageError(f"{name} goes with --blind DIR")
        if self.key is not None and self.answers is None:
            raise UsageError("--blind-key goes with --blind-score ANSWERS")
        given_modes = [name for name, value in modes.items() if value is not None]
        if not given_modes:
            return
        others = dict(others)
        others |= {"--initial": request.initial or None, "--no-content": not request.content, "--pred": request.pred}
        others |= {"--save-pred": request.save_pred, "--inception": request.inception, "--lpips": request.lpips}
        others |= {"--against": request.against}
        others |= {name: modes[name] for name in given_modes[1:]}
        if self.answers is None:
            others.pop("EVAL_SET")
        else:
            others.pop("-o")
            others |= {"--weights": request.weights, "--trained": request.trained, "--limit": request.limit}
            others |= {"-m": request.model != "base", "--device": request.device != "auto"}
        refuse(f"{given_modes[0]} does not measure", others)

    def score(self) -> Measured:
        """Count the answers."""
        from deocclude.evaluation.blind_comparison import score_answers, score_to_markdown

        score = score_answers(self.answers, self.key)
        return Measured(score, score_to_markdown(score))

    def write(self, eval_set: EvalSet | SceneSet, request: Request, on_record: OnRecord | None) -> Measured:
        """Write the pictures of --blind or --save-recovered. on_record: as in `Request.measure`."""
        from deocclude.data.evalsets.scenes import SceneSet
        from deocclude.evaluation.blind_comparison import save_recovered, write_comparison

        if isinstance(eval_set, SceneSet):
            refuse(
                f"{eval_set.folder} is a set of scenes", {"--blind": self.folder, "--save-recovered": self.recovered}
            )
        model, predictor = request.load_model()
        if self.folder is None:
            done = save_recovered(eval_set, predictor, self.recovered, limit=request.limit, on_record=on_record)
            why = "not occluded"
            text = f"{self.recovered}: {done['people']} recovered photos"
        else:
            done = write_comparison(
                eval_set, predictor, self.folder, model=model, against=self.against or ("inpainting",),
                seed=self.seed or 0, limit=request.limit, on_record=on_record,
            )  # fmt: skip
            why = "less than 5 % or all of the person is occluded"
            text = f"{self.folder}: {done['pictures']} pictures, {model} against {', '.join(done['against'])}"
            text += f"; the key, which judges must not see, is {done['key']}"
        if done["skipped"]:
            text += f"\n{done['skipped']} skipped: {why}"
        return Measured(done, f"{text}\n")
