"""What `deocclude eval --trained` says of the network that it measured: in the title, the notes and eval.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deocclude.evaluation.torch_predictor import TrainedPredictor


def name_of(weights: Path, predictor: TrainedPredictor) -> str:
    """The file with its folder, which in a run says more than best.safetensors, and the network in it."""
    file = weights.resolve()
    return f"{file.parent.name}/{file.name} ({predictor.network})"


def note_on(predictor: TrainedPredictor) -> str:
    """How it was asked, in a line."""
    asked = f"the network is asked in torch: one look a crop of {predictor.size_px} px, nothing averaged, and everyone "
    asked += "is completed, however little seems hidden"
    return asked if predictor.paints else f"{asked}; stage 1 alone paints nothing, so that only masks are measured"


def about_trained(weights: Path, stage1: Path | None, predictor: TrainedPredictor) -> dict[str, Any]:
    """For eval.json: the file and its hash, its network, the side of its crops, and of stage 2 the same of stage 1."""
    about = {"network": predictor.network, "size_px": predictor.size_px}
    return _file(weights) | about | {"stage1": None if stage1 is None else _file(stage1)}


def _file(weights: Path) -> dict[str, str | None]:
    from deocclude.checkpoints.files import weights_file
    from deocclude.io.request_stamp import file_digest

    return {"file": str(weights), "sha256": file_digest(weights_file(weights))}
