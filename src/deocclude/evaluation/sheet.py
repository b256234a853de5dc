"""Contact sheets of an evaluation: prompt, prediction and truth side by side, easy people first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deocclude.data.evalsets.persons import EvalSample, EvalSet
from deocclude.data.evalsets.scenes import SceneSet
from deocclude.errors import InputError
from deocclude.evaluation.predictions import StoredPredictions
from deocclude.evaluation.predictors import Predictor
from deocclude.evaluation.prompts import InitialPrompt, predict
from deocclude.evaluation.scores import Evaluation, MaskScore
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.crop import SquareCrop
from deocclude.types import Result

COLUMNS = ("photo", "initial mask", "prediction", "truth", "recovered", "without occluder")

_TILE_WIDTH_PX = 186
_TILE_HEIGHT_PX = 280
_SCENE_PX = 320  # longer side of a whole photo
_GAP_PX = 4
_CAPTION_PX = 18
_TEXT_PX = 12
# side of a tile over that of the true body: room for predictions beyond it
_MARGIN = 1.25
_BEYOND_PHOTO = 255  # grey level of a tile beyond the photo
_VISIBLE_RGB = (40, 140, 255)
_OCCLUDED_RGB = (255, 120, 20)


def draw_people_sheet(
    evaluation: Evaluation,
    eval_set: EvalSet,
    predictor: Predictor | StoredPredictions,
    *,
    rows: int = 12,
    initial: str | None = None,
) -> Image.Image:
    """Draw `rows` pictures of an evaluation, from the best amodal IoU to the worst in even steps.

    The selected people are predicted again. The visible part is blue, the occluded part orange. The caption of a row
    names the picture and its IoU.

    Args:
        evaluation: scores of the set.
        eval_set: the set.
        predictor: the evaluated predictor.
        rows: at most so many.
        initial: kind of initial mask of the evaluation; None takes the first.

    Raises:
        InputError: no occluded person with that kind of initial mask.
    """
    initial = evaluation.initial_kinds[0] if initial is None else initial
    scores = easy_to_hard(evaluation, initial, rows)
    if not scores:
        raise InputError(
            f"no contact sheet: {eval_set.folder} has no occluded people with the initial mask {initial!r}"
        )
    width = len(COLUMNS) * (_TILE_WIDTH_PX + _GAP_PX) + _GAP_PX
    row_height = _CAPTION_PX + _TILE_HEIGHT_PX + _GAP_PX
    sheet = Image.new("RGB", (width, _CAPTION_PX + len(scores) * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_TEXT_PX)
    for column, title in enumerate(COLUMNS):
        draw.text((_column_left(column), 2), f"{title} ({initial})" if column == 1 else title, fill="black", font=font)
    records = {record.id: record for record in eval_set.records}
    for row, score in enumerate(scores):
        top = _CAPTION_PX + row * row_height
        sample = eval_set.load(records[score.record_id])
        draw.text((_column_left(0), top + 2), caption(score), fill="black", font=font)
        for column, tile in enumerate(_tiles(sample, predictor, InitialPrompt.of(sample, initial, eval_set.seed))):
            sheet.paste(Image.fromarray(tile), (_column_left(column), top + _CAPTION_PX))
    return sheet


def draw_scene_sheet(
    scenes: SceneSet, predictor: Callable[[NDArray[np.uint8]], Result], *, rows: int = 12
) -> Image.Image:
    """Draw `rows` photos of a set of scenes in even steps: the photo, true boxes, and the prediction.

    The visible part is blue, the occluded part orange; detected people have their number and score.

    Raises:
        InputError: the set has no photos, or one cannot be read.
    """
    if not scenes.records:
        raise InputError(f"no contact sheet: {scenes.folder} has no photos")
    picked = sorted({round(i) for i in np.linspace(0, len(scenes.records) - 1, rows)})
    font = ImageFont.load_default(_TEXT_PX)
    sheet = Image.new("RGB", (3 * (_SCENE_PX + _GAP_PX) + _GAP_PX, len(picked) * (_SCENE_PX + _GAP_PX)), "white")
    for row, index in enumerate(picked):
        sample = scenes.load(scenes.records[index])
        result = predictor(sample.photo)
        truth, found = Image.fromarray(sample.photo), Image.fromarray(result.overlay())
        for visible in filter(np.any, sample.visible):  # a person may be hidden completely
            ImageDraw.Draw(truth).rectangle(mask_to_box_xyxy(visible), outline=_VISIBLE_RGB, width=2)
        for person in result.people:
            x0, y0, x1, y1 = person.box_xyxy
            draw = ImageDraw.Draw(found)
            draw.rectangle((x0, y0, x1, y1), outline="yellow")
            draw.text((x0 + 2, y0 + 1), f"{person.id}: {person.score:.2f}", fill="yellow", font=font)
        for column, picture in enumerate((Image.fromarray(sample.photo), truth, found)):
            picture.thumbnail((_SCENE_PX, _SCENE_PX))
            sheet.paste(picture, (_GAP_PX + column * (_SCENE_PX + _GAP_PX), row * (_SCENE_PX + _GAP_PX)))
    return sheet


def easy_to_hard(evaluation: Evaluation, initial: str, count: int) -> list[MaskScore]:
    """At most `count` scores of the model on occluded people by descending amodal IoU, first and last included."""
    scores = [
        score
        for score in evaluation.masks
        if score.initial == initial and score.method == evaluation.method and score.visible_ratio < 1.0
    ]
    scores.sort(key=lambda score: (-score.full_iou, score.record_id))
    if len(scores) <= count:
        return scores
    return [scores[index] for index in np.linspace(0, len(scores) - 1, count).round().astype(int)]


def caption(score: MaskScore) -> str:
    """One line of a row: record id, occluder, occluded percentage, and IoU."""
    return (
        f"{score.record_id}   {score.occluder_kind}, {100 * (1 - score.visible_ratio):.0f} % occluded   "
        f"IoU amodal {score.full_iou:.3f}, invisible {score.invisible_iou:.3f}"
    )


def _column_left(column: int) -> int:
    """The left edge of a column of tiles, in pixels."""
    return _GAP_PX + column * (_TILE_WIDTH_PX + _GAP_PX)


def _tiles(
    sample: EvalSample, predictor: Predictor | StoredPredictions, prompt: InitialPrompt
) -> list[NDArray[np.uint8]]:
    """One image (_TILE_HEIGHT_PX, _TILE_WIDTH_PX, 3) for each of COLUMNS.

    The initial mask replaces a missing visible mask, and the photo missing content. The last tile is blank without an
    unoccluded truth.
    """
    person = predict(predictor, sample, prompt)
    visible = prompt.mask if person.visible_mask is None else person.visible_mask
    crop = _square_around(sample.amodal)
    left = (_TILE_HEIGHT_PX - _TILE_WIDTH_PX) // 2

    def cut(array: NDArray) -> NDArray:
        """The upright middle of the square crop: the tile."""
        return crop.extract(array, 0 if array.dtype == bool else _BEYOND_PHOTO)[:, left : left + _TILE_WIDTH_PX]

    photo = cut(sample.photo)

    def marked(visible: NDArray[np.bool_], amodal: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The photo's tile with the visible part in blue and the occluded part in orange."""
        visible, amodal = cut(visible), cut(amodal)
        return _blend(_blend(photo, visible, _VISIBLE_RGB), amodal & ~visible, _OCCLUDED_RGB)

    return [
        photo,
        marked(prompt.mask, prompt.mask),
        marked(visible, person.amodal_mask),
        marked(sample.visible, sample.amodal),
        cut(sample.photo if person.content is None else person.content),
        np.full_like(photo, _BEYOND_PHOTO) if sample.truth is None else cut(sample.truth),
    ]


def _square_around(amodal: NDArray[np.bool_]) -> SquareCrop:
    """A square of _TILE_HEIGHT_PX whose upright middle, the tile, contains the body with a margin."""
    x0, y0, x1, y1 = mask_to_box_xyxy(amodal)
    side = _MARGIN * max(y1 - y0, (x1 - x0) * _TILE_HEIGHT_PX / _TILE_WIDTH_PX)
    return SquareCrop(((x0 + x1) / 2, (y0 + y1) / 2), side, _TILE_HEIGHT_PX)


def _blend(picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The picture with half of a colour over the mask."""
    mixed = picture.copy()
    mixed[mask] = (picture[mask].astype(np.uint16) + np.array(colour, np.uint16)) // 2
    return mixed
