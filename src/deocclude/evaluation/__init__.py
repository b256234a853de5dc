"""Evaluation: protocols, predictors, baselines and reports. No training; pure measures are in metrics/."""

from deocclude.evaluation.appearance import PerceptualMetrics
from deocclude.evaluation.baselines import TypicalPoses
from deocclude.evaluation.comparison import compare, comparison_to_markdown
from deocclude.evaluation.detection_protocol import evaluate_scenes, scenes_to_markdown, summarise_scenes
from deocclude.evaluation.predictions import PredictionWriter, StoredPredictions
from deocclude.evaluation.predictors import Predictor
from deocclude.evaluation.prompts import INITIAL_KINDS, PROMPTED_KINDS, InitialPrompt
from deocclude.evaluation.protocol import draw_records, evaluate
from deocclude.evaluation.report import summarise, to_markdown
from deocclude.evaluation.scores import Evaluation
from deocclude.evaluation.sheet import draw_people_sheet, draw_scene_sheet

__all__ = [
    "INITIAL_KINDS",
    "PROMPTED_KINDS",
    "Evaluation",
    "InitialPrompt",
    "PerceptualMetrics",
    "PredictionWriter",
    "Predictor",
    "StoredPredictions",
    "TypicalPoses",
    "compare",
    "comparison_to_markdown",
    "draw_people_sheet",
    "draw_records",
    "draw_scene_sheet",
    "evaluate",
    "evaluate_scenes",
    "scenes_to_markdown",
    "summarise",
    "summarise_scenes",
    "to_markdown",
]
