"""The evaluation protocol: what is predicted, what it is compared with, and how the figures are told. No training."""

from deocclude.evaluation.baselines import TypicalPoses
from deocclude.evaluation.protocol import INITIAL_KINDS, Evaluation, Predictor, evaluate
from deocclude.evaluation.report import summarise, to_markdown
from deocclude.evaluation.sheet import draw_sheet

__all__ = [
    "INITIAL_KINDS",
    "Evaluation",
    "Predictor",
    "TypicalPoses",
    "draw_sheet",
    "evaluate",
    "summarise",
    "to_markdown",
]
