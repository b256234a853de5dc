"""Report of a build: report.json, report.md, and sheet.jpg with examples of kept and refused people."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from deocclude.data.sources.selection import RULES
from deocclude.data.sources.shard_state import BuildState
from deocclude.data.sources.shard_tally import Example, Tally
from deocclude.data.storage import Folder, read_bytes
from deocclude.data.trainsets.tiles import contact_sheet, person_tile
from deocclude.errors import InputError
from deocclude.io.images import load_image

REPORT_FILES = ("report.json", "report.md", "sheet.jpg")  # that a set's report consists of

_TILE_PX = 128


def write_report(folder: Folder, state: BuildState) -> None:
    """Write the three files. Raises DeoccludeError where that fails."""
    folder.write("report.json", json.dumps(report(state), indent=1).encode())
    folder.write("report.md", markdown(state).encode())
    with io.BytesIO() as file:
        draw_sheet(state.tally).save(file, format="JPEG", quality=90)
        folder.write("sheet.jpg", file.getvalue())


def report(state: BuildState) -> dict[str, Any]:
    """Counts, source and settings as a dictionary for report.json."""
    counts = state.tally.model_dump(exclude={"shown_kept", "shown_refused"})
    shards = [shard.model_dump() for shard in state.shards]
    return {**state.source, "settings": state.settings, **counts, "shards": shards, "seconds": round(state.seconds, 1)}


def markdown(state: BuildState) -> str:
    """Content of report.md."""
    tally, settings = state.tally, state.settings
    splits = ", ".join(f"{count} {split}" for split, count in sorted(tally.by_split.items()))
    lines = [
        "# Built set",
        "",
        f"From `{state.source['records']}`: {tally.photos} photos, {tally.people} people.",
        f"Kept: {tally.kept} ({splits}).",
        f"Parsing labels: {tally.with_parsing} (`{settings['parser']}`). Occluders: {tally.occluders}. "
        f"Backgrounds: {tally.backgrounds}. Without a licence: {tally.without_licence}. "
        f"{len(state.shards)} shards, {state.seconds:.0f} s.",
        "",
        "| rule | refused | by this rule alone | requirement |",
        "|---|---|---|---|",
    ]
    for name, rule in RULES.items():
        # without `size` among the rules, people with an empty visible mask fail it all the same
        is_applied = name in settings["rules"] or name in tally.refused
        refused, alone = (
            str(counts.get(name, 0)) if is_applied else "off" for counts in (tally.refused, tally.only_by)
        )
        lines.append(f"| {name} | {refused} | {alone} | {' '.join((rule.__doc__ or '').split())} |")
    limits = ", ".join(f"{name} {value}" for name, value in settings["limits"].items())
    lines += ["", f"Thresholds: {limits}.", ""]
    if tally.unusable_photos:
        lines += [f"{tally.unusable_photos} photos could not be used:", ""]
        lines += [*(f"* {problem}" for problem in tally.problems), ""]
    return "\n".join([*lines, "![Examples of kept and refused people](sheet.jpg)", ""])


def draw_sheet(tally: Tally) -> Image.Image:
    """Contact sheet: examples of kept people, then of the people that each rule refused."""
    groups = [(f"kept: {tally.kept}", list(_tiles(tally.shown_kept)))]
    for name in RULES:
        groups.append(
            (f"refused by {name}: {tally.refused.get(name, 0)}", list(_tiles(tally.shown_refused.get(name, ()))))
        )
    return contact_sheet(groups)


def _tiles(examples: Iterable[Example]) -> Iterator[np.ndarray]:
    """A thumbnail of each example whose mask is not empty and whose photo can be read and has the mask's size.

    A photo of which a build uses nothing was not opened before.
    """
    for example in examples:
        mask = example.visible.mask()
        if not mask.any():
            continue
        try:
            photo = load_image(read_bytes(example.image))
        except InputError:
            continue
        if photo.shape[:2] == mask.shape:
            yield person_tile(photo, mask, _TILE_PX)
