"""The opened stages of a model.

The people detector gives boxes, and the box-prompted segmentation network the visible mask of a box. Stage 1, mask
completion, repairs a person's visible mask, completes it and predicts body parts; its prompted head completes it again
as a user says. Stage 2, content recovery, gives the appearance of the hidden part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deocclude.errors import UsageError
from deocclude.inference.content_recovery import ContentRecovery, Recovery
from deocclude.inference.cores import limit_blas, usable_cores
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.memory import give_back_freed
from deocclude.inference.occlusion_probability import OcclusionCalibration
from deocclude.inference.prompted_completion import PromptedCompletion
from deocclude.inference.runtime import find_model, open_networks
from deocclude.inference.settings import InferenceSettings
from deocclude.people.detector import PeopleFinder

_MAX_WORKERS = 2  # people processed at once: more need more memory, and two already use all cores


@dataclass(frozen=True, eq=False)
class Stages:
    """What the pipeline computes with. Threads may share it.

    Attributes:
        completion: stage 1, with the box-prompted segmentation network where the model has one.
        recovery: stage 2.
        device: where the networks run, for results.
        model: the model's name, for results and errors.
        finder: people detector; None for a model without.
        prompted: stage 1's prompted head; None for a model without.
        calibration: fitted regressions, from predictions to the probabilities that a person is occluded and that a
            hidden region is body.
        settings: tuned numbers.
        workers: people of an image processed at once.
    """

    completion: MaskCompletion
    recovery: Recovery
    device: str
    model: str
    finder: PeopleFinder | None = None
    prompted: PromptedCompletion | None = None
    calibration: OcclusionCalibration = field(default_factory=OcclusionCalibration)
    settings: InferenceSettings = field(default_factory=InferenceSettings)
    workers: int = 1

    @classmethod
    def open(
        cls, model: str, device: str = "auto", weights_dir: str | Path | None = None, *, average: bool = False,
        threads: int | None = None,
    ) -> Stages:  # fmt: skip
        """Open the networks of a model. `deocclude.load` describes the arguments and the errors."""
        if not isinstance(model, str):
            raise UsageError(f"a model is given by its name, got {type(model).__name__}")
        info = find_model(model, weights_dir)
        networks, running_on = open_networks(info, device, threads)
        cores = threads or usable_cores()
        limit_blas(cores)
        give_back_freed()  # opening networks takes more than they keep
        detector, settings = networks.get("people_detector"), info.settings
        return cls(
            MaskCompletion.of(networks, info, "always" if average else "doubtful"),
            ContentRecovery(networks["content_recovery"], settings=settings.recovery),
            device=running_on,
            model=model,
            finder=None if detector is None else PeopleFinder(detector, settings.detector),
            prompted=PromptedCompletion.of(networks, info),
            calibration=OcclusionCalibration.of(info.networks["mask_completion"].info),
            settings=settings,
            workers=min(_MAX_WORKERS, cores),
        )
