"""Blind comparison of recovered appearance: the judge sees two candidates of one person, not their methods.

    DIR/pictures/0007.png    the photo with the occluded region hatched, then candidate 1 and candidate 2
    DIR/answers.csv          picture, answer (1, 2 or =), note: the judge fills it in
    DIR-key.json             beside DIR, not for the judge: record, opponent and position of the model for every picture

Both candidates are photos with the occluded part recovered from the true masks. Masks are not compared.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deocclude.data.evalsets.persons import EvalRecord, EvalSample, EvalSet
from deocclude.errors import InputError, UsageError
from deocclude.evaluation.baselines import inpaint_from_body, mean_colour, require_cv2
from deocclude.evaluation.predictions import of_photo_size
from deocclude.evaluation.predictors import Predictor
from deocclude.evaluation.protocol import draw_records
from deocclude.evaluation.scores import WORKING_MARGIN, WORKING_PX, Recover
from deocclude.evaluation.tables import json_ready, markdown_table, with_interval
from deocclude.imaging.appearance import Appearance, hidden_on_photo
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.compositing import paste_hidden_box
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.inference.occlusion_probability import HIDDEN_SHARE
from deocclude.io.files import save_text
from deocclude.io.images import load_image, save_image
from deocclude.metrics.significance import wilson_interval

FORMAT = 1  # of the key's file
ANSWERS_FILE = "answers.csv"
TIE = "="  # an answer: both candidates are equal

_BASELINES = {"inpainting": inpaint_from_body, "mean-colour": mean_colour}

_CANDIDATE_PX = 512  # longer side of a candidate, at most
_MARGIN = 0.125  # of the person's box, at each side, as in the working crop
_GAP_PX = 8
_CAPTION_PX = 20
_TEXT_PX = 14
_HATCH_PX = 4
_HATCH_RGB = np.array([(255, 0, 255), (190, 0, 190)], np.uint8)


# --- pictures ------------------------------------------------------------------------------------------------------


def write_comparison(
    eval_set: EvalSet,
    predictor: Predictor,
    folder: str | Path,
    *,
    model: str,
    against: Sequence[str] = ("inpainting",),
    seed: int = 0,
    limit: int | None = None,
    on_record: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write pictures of the model against every opponent, empty answers and the key.

    Args:
        eval_set: the evaluation set.
        predictor: recovers the model's candidates.
        folder: new or empty. The key is written beside it, before any picture.
        model: name of the predictor in the key.
        against: opponents: "inpainting", "mean-colour", or a folder that `save_recovered` wrote.
        seed: of the order of pictures and candidates; the model is first in half of each opponent's pictures.
        limit: at most this many records, see `draw_records`; unsuitable people among them are skipped.
        on_record: called with (done, all) after every picture.

    Returns:
        JSON-ready: folder, key, model, against, pictures, people, skipped.

    Raises:
        UsageError: the folder is not empty, the key exists, or an opponent is named twice.
        InputError: no suitable people, an unknown opponent, or a folder with a missing photo or one of another size.
        MissingExtraError: OpenCV is needed for inpainting and not installed.
    """
    folder = Path(folder)
    key = key_of(folder)
    _check_empty(folder)
    if key.exists():
        raise UsageError(f"{key} is the key of another comparison: remove it, or name another folder")
    if len(set(against)) < len(against):
        raise UsageError(f"each opponent must be named once, got {', '.join(against)}")
    records, skipped = _people_to_judge(eval_set, limit)
    opponents = {name: _opponent(name, records) for name in against}
    pictures = _shuffled_pairs(records, list(opponents), np.random.default_rng(seed))
    content = {"format": FORMAT, "set": eval_set.name, "model": model, "against": list(against), "seed": seed}
    save_text(json.dumps(content | {"pictures": pictures}, indent=1) + "\n", key)
    by_id = {record.id: record for record in records}
    # in the order of file names: the times of the files must not reveal the opponent
    for done, row in enumerate(pictures, start=1):
        sample = eval_set.load(by_id[row["record_id"]])
        own = predictor.recover(sample.photo, sample.visible, sample.amodal)
        other = opponents[row["opponent"]](sample)
        candidates = (own, other) if row["model_is"] == 1 else (other, own)
        save_image(draw_candidates(sample, *candidates), folder / "pictures" / row["picture"])
        if on_record is not None:
            on_record(done, len(pictures))
    save_text("picture,answer,note\n" + "".join(f"{row['picture']},,\n" for row in pictures), folder / ANSWERS_FILE)
    now = time.time()
    for row in pictures:
        os.utime(folder / "pictures" / row["picture"], (now, now))
    return {
        "folder": str(folder),
        "key": str(key),
        "model": model,
        "against": list(against),
        "pictures": len(pictures),
        "people": len(records),
        "skipped": skipped,
    }


def _shuffled_pairs(
    records: Sequence[EvalRecord], opponents: Sequence[str], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Rows of the key, one for each picture: every person against every opponent, in random order."""
    pairs = [
        {
            "record_id": record.id,
            "person_id": record.person_id,
            "hidden_fraction": record.hidden_fraction,
            "opponent": name,
            "model_is": int(position),
        }
        for name in opponents
        for record, position in zip(records, _model_positions(len(records), rng), strict=True)
    ]
    return [
        {"picture": f"{number:04d}.png"} | pairs[index]
        for number, index in enumerate(rng.permutation(len(pairs)), start=1)
    ]


def save_recovered(
    eval_set: EvalSet,
    predictor: Predictor,
    folder: str | Path,
    *,
    limit: int | None = None,
    on_record: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write FOLDER/ID.png for every occluded person: the photo, recovered from the true masks, at its size.

    Another build of the package can take them as opponents.

    Args:
        eval_set: the evaluation set.
        predictor: recovers the photos.
        folder: new or empty; it is not made if nobody is occluded.
        limit: at most this many records, see `draw_records`; unoccluded people among them are skipped.
        on_record: called with (done, all) after every photo.

    Returns:
        JSON-ready: folder, people (photos written), skipped.

    Raises:
        UsageError: the folder is not empty.
    """
    folder = Path(folder)
    _check_empty(folder)
    records = occluded_records(eval_set, limit)
    skipped = len(draw_records(eval_set.records, limit)) - len(records)
    for done, record in enumerate(records, start=1):
        sample = eval_set.load(record)
        save_image(predictor.recover(sample.photo, sample.visible, sample.amodal), _recovered_path(folder, record.id))
        if on_record is not None:
            on_record(done, len(records))
    return {"folder": str(folder), "people": len(records), "skipped": skipped}


def occluded_records(eval_set: EvalSet, limit: int | None) -> list[EvalRecord]:
    """The occluded people among at most `limit` records, see `draw_records`."""
    return [record for record in draw_records(eval_set.records, limit) if record.hidden_fraction > 0]


def key_of(folder: str | Path) -> Path:
    """Path of the key of a comparison: DIR-key.json beside DIR."""
    folder = Path(folder).resolve()
    return folder.with_name(f"{folder.name}-key.json")


def draw_candidates(sample: EvalSample, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture for the judge: the hatched photo at half size, then both candidates.

    All three show the person's box with a margin, the longer side at most 512 px; small people are enlarged by an
    integer factor without interpolation.

    Args:
        sample: the person.
        first: (H, W, 3) uint8, photo with the occluded part recovered.
        second: as `first`.

    Returns:
        (H', W', 3) uint8.
    """
    size_hw = sample.photo.shape[:2]
    x0, y0, x1, y1 = mask_to_box_xyxy(sample.amodal)
    margin_px = round(_MARGIN * max(x1 - x0, y1 - y0))
    view = Region(y0, x0, y1, x1).grow(margin_px, size_hw)
    height, width = view.size_hw
    longer = max(height, width)
    scale = _CANDIDATE_PX // longer or _CANDIDATE_PX / longer
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    half_wh = max(1, size_wh[0] // 2), max(1, size_wh[1] // 2)

    given = np.array(_resized(sample.photo[view.slices], half_wh))
    hidden = (sample.amodal & ~sample.visible)[view.slices].astype(np.uint8) * np.uint8(255)
    hidden = np.asarray(_resized(hidden, half_wh)) >= 128
    rows, columns = np.nonzero(hidden)
    given[rows, columns] = _HATCH_RGB[(rows + columns) // _HATCH_PX % 2]

    tiles = {"given": Image.fromarray(given)}
    tiles |= {"1": _resized(first[view.slices], size_wh), "2": _resized(second[view.slices], size_wh)}
    canvas_wh = sum(tile.width + _GAP_PX for tile in tiles.values()) + _GAP_PX, size_wh[1] + _CAPTION_PX + _GAP_PX
    canvas = Image.new("RGB", canvas_wh, "white")
    draw, font, left = ImageDraw.Draw(canvas), ImageFont.load_default(_TEXT_PX), _GAP_PX
    for caption, tile in tiles.items():
        draw.text((left, 1), caption, fill="black", font=font)
        canvas.paste(tile, (left, _CAPTION_PX))
        left += tile.width + _GAP_PX
    return np.asarray(canvas)


def _people_to_judge(eval_set: EvalSet, limit: int | None) -> tuple[list[EvalRecord], int]:
    """Records of partly visible people with at least HIDDEN_SHARE occluded, and the number of other records.

    Raises InputError without such people.
    """
    drawn = draw_records(eval_set.records, limit)
    records = [record for record in drawn if HIDDEN_SHARE <= record.hidden_fraction < 1]
    if not records:
        raise InputError(
            f"no blind comparison: none of {len(drawn)} people in {eval_set.folder} is partly visible with "
            f"{100 * HIDDEN_SHARE:.0f} % or more occluded"
        )
    return records, len(drawn) - len(records)


def _model_positions(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(count,) the candidate that is the model, 1 or 2: equally often, so that a preferred side has no effect."""
    return rng.permutation((np.arange(count) + rng.integers(2)) % 2) + 1


def _opponent(name: str, records: Sequence[EvalRecord]) -> Recover:
    """The function that gives an opponent's candidate for a sample. Raises as `write_comparison`."""
    if name in _BASELINES:
        if name == "inpainting":
            require_cv2()  # fail before the first picture
        return lambda sample: _recovered_by_baseline(_BASELINES[name], sample)
    if not Path(name).is_dir():
        raise InputError(f"an opponent is {', '.join(_BASELINES)} or a folder of recovered photos: no folder {name}")
    return read_recovered(Path(name), records)


def read_recovered(folder: Path, records: Sequence[EvalRecord]) -> Recover:
    """Recovery from a folder that `save_recovered` wrote. Raises InputError if a record's photo is missing."""
    lacking = [record.id for record in records if not _recovered_path(folder, record.id).is_file()]
    if lacking:
        lacks = f"{len(lacking)} of {len(records)} recovered photos, the first {lacking[0]}.png"
        raise InputError(f"{folder} lacks {lacks}")

    def read(sample: EvalSample) -> NDArray[np.uint8]:
        path = _recovered_path(folder, sample.id)
        return of_photo_size(load_image(path), sample, path)

    return read


def _recovered_by_baseline(
    paint: Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.uint8]], sample: EvalSample
) -> NDArray[np.uint8]:
    """The photo, (H, W, 3) uint8, with the occluded part by a baseline, pasted as the model's.

    paint: the baseline's function of crop and visible mask. The crop is the working crop of the scores.
    """
    size_hw = sample.amodal.shape
    crop = SquareCrop.from_box_xyxy(mask_to_box_xyxy(sample.amodal), WORKING_MARGIN, WORKING_PX)
    content = paint(crop.extract(sample.photo), crop.extract(sample.visible))
    hidden = sample.amodal & ~sample.visible
    picture = sample.photo.copy()
    whole = Region(0, 0, *size_hw)
    box, colours = hidden_on_photo(Appearance(content), crop, sample.photo, sample.visible, hidden, whole)
    paste_hidden_box(picture, box, colours, hidden, sample.amodal)
    return picture


def _recovered_path(folder: Path, record_id: str) -> Path:
    """The file of `save_recovered` for a record."""
    return folder / f"{record_id}.png"


def _check_empty(folder: Path) -> None:
    """Raise UsageError for a folder with anything in it."""
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"pictures go to a new or an empty folder, got {folder}")


def _resized(array: NDArray[np.uint8], size_wh: tuple[int, int]) -> Image.Image:
    """Resize: nearest neighbour when enlarging, Lanczos when reducing."""
    grows = size_wh[0] >= array.shape[1]
    kernel = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return Image.fromarray(np.ascontiguousarray(array)).resize(size_wh, kernel)


# --- answers -------------------------------------------------------------------------------------------------------


def score_answers(answers: str | Path, key: str | Path | None = None) -> dict[str, Any]:
    """Count the judge's preferences by opponent.

    Args:
        answers: the filled-in answers.csv. A picture without a row or an answer counts as unanswered.
        key: the key of the comparison; None takes the one beside the folder of the answers.

    Returns:
        JSON-ready: set, model, answers, key, pictures, unanswered (names), and rows by opponent: preferred,
        not_preferred, tied, pictures; share = preferred / (preferred + not_preferred) with its 95 % interval, None
        without a preference; lost, pictures with the opponent preferred, with records and notes.

    Raises:
        InputError: no key, an unreadable file, an unknown picture, a picture twice, or an answer other than 1, 2 and =.
    """
    path = Path(answers)
    key = key_of(path.resolve().parent) if key is None else Path(key)
    content = _read_key(key)
    pictures = {row["picture"]: row for row in content["pictures"]}
    given = _read_answers(path, pictures)
    rows = []
    for opponent in content["against"]:
        of_opponent = [row for name, row in pictures.items() if row["opponent"] == opponent and name in given]
        decided = [row for row in of_opponent if given[row["picture"]][0] != TIE]
        lost = [row for row in decided if given[row["picture"]][0] != str(row["model_is"])]
        preferred = len(decided) - len(lost)
        rows.append(
            {
                "opponent": opponent,
                "preferred": preferred,
                "not_preferred": len(lost),
                "tied": len(of_opponent) - len(decided),
                "pictures": len(of_opponent),
                "share": preferred / len(decided) if decided else None,
                "interval": wilson_interval(preferred, len(decided)),
                "lost": [
                    {"record_id": row["record_id"], "picture": row["picture"], "note": given[row["picture"]][1]}
                    for row in sorted(lost, key=lambda row: row["record_id"])
                ],
            }
        )
    return json_ready(
        {
            "set": content["set"],
            "model": content["model"],
            "answers": str(answers),
            "key": str(key),
            "pictures": len(pictures),
            "unanswered": [name for name in pictures if name not in given],
            "rows": rows,
        }
    )


def score_to_markdown(score: Mapping[str, Any]) -> str:
    """The score as a Markdown table with explanations and a final line break."""
    rows = [
        [
            row["opponent"],
            str(row["preferred"]),
            str(row["not_preferred"]),
            str(row["tied"]),
            with_interval(row["share"], row["interval"]),
            str(row["pictures"]),
        ]
        for row in score["rows"]
    ]
    header = ["against", "preferred", "not preferred", "tied", "share preferred, 95 % interval", "pictures"]
    lines = [
        f"- Share preferred: fraction of pictures with {score['model']} preferred, without ties. 0.5 means no "
        "difference.",
        "- Interval: Wilson score interval (Wilson 1927), which assumes independent pictures; pictures of one person "
        "are correlated.",
    ]
    for row in score["rows"]:
        if row["lost"]:
            lost = [f"{one['record_id']} ({one['picture']}{one['note'] and ': ' + one['note']})" for one in row["lost"]]
            lines.append(f"- Lost to {row['opponent']}: {', '.join(lost)}")
    if score["unanswered"]:
        names = ", ".join(score["unanswered"])
        lines.append(f"- note: {len(score['unanswered'])} of {score['pictures']} pictures are unanswered: {names}")
    head = f"# Blind comparison of {score['model']} on {score['set']}"
    return "\n\n".join([head, markdown_table(header, rows), "\n".join(lines)]) + "\n"


def _read_answers(path: Path, known: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """(answer, note) of answered pictures. Raises InputError with the first bad row and the number of others."""
    # utf-8-sig, because spreadsheets write a byte-order mark
    table = csv.DictReader(io.StringIO(_read_text(path, encoding="utf-8-sig"), newline=""))
    try:
        columns, rows = table.fieldnames or [], [(table.line_num, row) for row in table]
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    if not {"picture", "answer"} <= set(columns):
        got = ",".join(columns) or "nothing"
        raise InputError(f"{path} must begin with the columns picture,answer,note, got {got}")
    found: dict[str, tuple[str, str]] = {}
    bad = []
    for line, row in rows:
        picture, answer = ((row[column] or "").strip() for column in ("picture", "answer"))
        note = ",".join([row.get("note") or "", *row.get(None, [])])  # unquoted commas have split the note
        if picture not in known:
            bad.append(f"line {line}: no picture {picture!r} in the key")
        elif answer not in ("", "1", "2", TIE):
            bad.append(f"line {line}: the answer to {picture} must be 1, 2 or =, got {answer!r}")
        elif picture in found:
            bad.append(f"line {line}: {picture} comes twice")
        else:
            found[picture] = answer, " ".join(note.split())
    if bad:
        others = f" ({len(bad) - 1} more bad rows)" if len(bad) > 1 else ""
        raise InputError(f"{path}: {bad[0]}{others}")
    return {picture: given for picture, given in found.items() if given[0]}


def _read_key(path: Path) -> dict[str, Any]:
    """Read a key. Raises InputError for another file."""
    if not path.is_file():
        raise InputError(f"no key of a blind comparison: looked for {path}")
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not {"set", "model", "against", "pictures"} <= content.keys()
    ):
        raise InputError(f"{path} is not the key of a blind comparison, as `deocclude eval --blind` writes it")
    return content


def _read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file. Raises InputError if it cannot be read."""
    try:
        return path.read_text(encoding=encoding)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
