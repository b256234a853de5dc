"""Building evaluation sets: each held-out person behind several occluders, as in AHP's synthetic split."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from deocclude.data.evalsets.persons import EvalSample, EvalSet, write_eval_set
from deocclude.data.evalsets.scenes import SceneSample, SceneSet, write_scene_set
from deocclude.data.sources.layers import Library, PersonPhoto
from deocclude.data.sources.lazy import Selected
from deocclude.data.sources.library import Places, SourceWeights, load_library
from deocclude.data.sources.real_photos import read_wild
from deocclude.data.synthesis.config import SynthesisConfig
from deocclude.data.synthesis.multi_person import AssetPool, CrowdConfig, compose_crowd
from deocclude.data.synthesis.rendering import render
from deocclude.data.synthesis.scene import Placed, Scene, invert, own_photo_frame
from deocclude.data.synthesis.single_person import plan_occlusion
from deocclude.errors import InputError

Rng = np.random.Generator

KINDS = ("object", "person", "low")  # each person has one record of each kind
_CONFIG = SynthesisConfig(attempts=40, p_second_occluder=0.15)  # of the scenes of evaluation sets
_MIN_HIDDEN = 0.03  # least occluded fraction of a person behind an occluder
_MAX_DRAWS = 200  # scenes drawn for one record; occluders that never reach _MIN_HIDDEN are an error
_CROWD_PX = 640  # longer side of a composed photo of several people
_NEW_PHOTO_PX = 512  # side of the photo composed for a person without background


def build_eval_set(
    folder: Path, root: Path | str, *, seed: int = 0, people: str = "ccp", unoccluded: bool = True,
    limit: int | None = None, split: str = "val", overwrite: bool = False,
) -> EvalSet:  # fmt: skip
    """Write the evaluation set of the people of one source, held-out ones unless `split` is "train".

    Each person is occluded three times: by an object, by another person, and by an object in front of the lower body.
    Occluded fractions are drawn from 0.03 + 0.77 * Beta(1.3, 1.9); a scene with less than 3 % is drawn again.
    Occluders are of the same split. The same seed gives the same images.

    Args:
        folder: where the set is written.
        root: the data folder (docs/data.md); for "built" the built set, a path or URL; for "folder" an image + mask
            folder.
        seed: seed of the scenes and of the corrupted masks.
        people: "ccp", "full", a name of PHOTO_SETS (photos of their own), "cutouts", "built" or "folder".
        unoccluded: whether each person gets a fourth record without an occluder.
        limit: largest number of people, evenly spaced over all; None for all.
        split: "val", or "train" for a set that settings and calibrations are fitted on.
        overwrite: whether an existing evaluation set is replaced.

    Raises:
        InputError: a source is missing, two people have one name, or no occluder can occlude a person.
        UsageError: another folder exists at `folder`, or a set without `overwrite`.
        DeoccludeError: the set cannot be written.
    """
    weights = SourceWeights(**{name: float(name == people) for name in SourceWeights.__dataclass_fields__})
    places = Places(built=str(root) if people == "built" else None, folder=Path(root) if people == "folder" else None)
    library = load_library(Path(root), split, weights, places, max_px=None)
    source = f"held-out people of {people}, occluders held out from training"
    if split == "train":
        source = f"training people of {people}, training occluders"
    return write_eval_set(
        folder, _samples(library, seed, unoccluded, limit), name=f"{people}-{split}", seed=seed, source=source,
        overwrite=overwrite,
    )  # fmt: skip


def build_scene_set(
    folder: Path, root: Path, *, kind: str, count: int = 120, seed: int = 0, overwrite: bool = False
) -> SceneSet:
    """Write an evaluation set of whole photos, on which detection is measured.

    Args:
        folder: where the set is written.
        root: the data folder (docs/data.md).
        kind: "crowds", composed photos of 640 px of held-out people, objects and backgrounds with exact visible and
            amodal masks; "wild", the held-out third of the real photos, with visible masks only; or "nobody", the
            held-out photos without people.
        count: number of composed photos.
        seed: seed of the composed photos.
        overwrite: whether an existing evaluation set is replaced.

    Raises:
        As `build_eval_set`.
    """
    samples: Iterator[SceneSample]
    if kind == "wild":
        samples = (
            SceneSample(
                folder_name(photo.name), photo.rgb,
                np.array([photo.instances == i for i in photo.boxes_xyxy], bool).reshape(-1, *photo.ignore.shape),
                None, photo.ignore,
            )
            for photo in read_wild(root / "wild", "val")
        )  # fmt: skip
        source = "held-out real photos (COCO)"
    elif kind == "nobody":
        library = load_library(root, "val", SourceWeights(0, 1, 0, 0), max_px=None)
        samples = (_photo_of_nobody(f"{number:04d}", photo) for number, photo in enumerate(library.backgrounds))
        source = "held-out photos without people"
    else:
        pool = AssetPool.of(load_library(root, "val", SourceWeights(ccp=0.4, cutouts=0.3, full=0.15, upper=0.15)))
        samples = _crowds(pool, seed, count)
        source = "photos composed from held-out people, things and places"
    return write_scene_set(folder, samples, name=f"{kind}-val", seed=seed, source=source, overwrite=overwrite)


def _photo_of_nobody(name: str, photo: np.ndarray) -> SceneSample:
    """The sample of a photo without people."""
    nobody = np.zeros((0, *photo.shape[:2]), bool)
    return SceneSample(name, photo, nobody, None, np.zeros(photo.shape[:2], bool))


def _crowds(pool: AssetPool, seed: int, count: int) -> Iterator[SceneSample]:
    """`count` composed photos; fully occluded people are left out."""
    for number in range(count):
        scene = compose_crowd(pool, np.random.default_rng((seed, number)), CrowdConfig(), _CROWD_PX)
        is_seen = scene.visible.any((1, 2))
        yield SceneSample(f"{number:04d}", scene.photo, scene.visible[is_seen], scene.amodal[is_seen], scene.ignore)


def _samples(library: Library, seed: int, unoccluded: bool, limit: int | None) -> Iterator[EvalSample]:
    """The samples of each person: one for each of KINDS, and with `unoccluded` one without occluder.

    Raises InputError for two people whose names give one folder.
    """
    count, person_ids = len(library.people), set()
    for number in evenly_spaced(count, limit):
        person = library.people[number]
        library_of_others = replace(
            library, clutter_people=Selected(library.people, np.delete(np.arange(count), number))
        )
        rng = np.random.default_rng((seed, int(number)))
        background = None if person.has_background else library.backgrounds[int(rng.integers(len(library.backgrounds)))]
        person_id = folder_name(person.name)
        if person_id in person_ids:
            raise InputError(f"person {person.name} comes twice, or another person's name differs in '-' and '/' alone")
        person_ids.add(person_id)
        for kind in (*KINDS, *(("none",) if unoccluded else ())):
            scene = _scene(person, library_of_others, rng, kind, background)
            yield EvalSample(
                id=f"{person_id}-{kind}", person_id=person_id, occluder_kind=kind, photo=scene.photo, truth=scene.truth,
                visible=scene.visible, amodal=scene.amodal, parsing=scene.parsing,
            )  # fmt: skip


def evenly_spaced(count: int, limit: int | None) -> np.ndarray:
    """Numbers from 0 to `count` - 1, all of them or `limit` in even steps."""
    return np.arange(count) if limit is None or limit >= count else np.arange(limit) * count // limit


def folder_name(name: str) -> str:
    """A person's name as a folder name, in which "/" becomes "-".

    Other characters that a folder's name may not have become "-" too; then a CRC-32 of the name is appended.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return plain if plain == name.replace("/", "-") else f"{plain}-{zlib.crc32(name.encode()):08x}"


def _scene(person: PersonPhoto, library: Library, rng: Rng, kind: str, background: np.ndarray | None) -> Scene:
    """A scene of the person behind an occluder of a kind; kind "none" places no occluder.

    background: None for the person's own photo. Raises InputError where no occluder hides enough of the person.
    """
    frame = own_photo_frame(person)
    if background is None:
        to_frame, size_hw, background_to_person = invert(frame), person.rgb.shape[:2], frame
    else:
        s = _NEW_PHOTO_PX / 2.4  # the photo shows [-1.2, 1.2]^2 in person coordinates
        middle = _NEW_PHOTO_PX / 2 - 0.5
        to_frame, size_hw = np.array([[s, 0, middle], [0, s, middle]]), (_NEW_PHOTO_PX, _NEW_PHOTO_PX)
        h, w = background.shape[:2]
        b = 2.5 / min(h, w)
        background_to_person = np.array([[b, 0, -b * w / 2], [0, b, -b * h / 2]])
    for _ in range(_MAX_DRAWS):
        hidden_target = 0.0
        if kind != "none":
            span = _CONFIG.hidden_max - _CONFIG.hidden_min
            hidden_target = _CONFIG.hidden_min + span * rng.beta(_CONFIG.hidden_alpha, _CONFIG.hidden_beta)
        plan = plan_occlusion(
            Placed(person, frame), library, rng, _CONFIG, hidden_target, background, background_to_person, kind=kind
        )
        scene = render(plan, to_frame, size_hw)
        hidden = 1 - scene.visible.sum() / max(1, scene.amodal.sum())
        if kind == "none" or (hidden >= _MIN_HIDDEN and scene.visible.any()):
            return scene
    raise InputError(f"{person.name}: in {_MAX_DRAWS} scenes no occluder ({kind}) hid {_MIN_HIDDEN:.0%} of this person")
