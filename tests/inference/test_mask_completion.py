import contextlib

import numpy as np
import pytest

from deocclude.errors import InputError, NoPersonError
from deocclude.imaging.boxes import box_to_mask
from deocclude.imaging.masks import dilate, mask_iou
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.settings import CropSettings, InferenceSettings

SIZE_HW = (300, 400)
PHOTO = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)


class FakeNetwork:
    """Returns `answer(image, initial)` for each entry of the batch, and records its inputs.

    answer: (3, S, S) and (S, S) float32 -> visible and amodal probability, (S, S) each.
    """

    input_size = 256

    def __init__(self, answer, fine_size=256):
        self.answer = answer
        self.fine_size = fine_size
        self.inputs = []

    def __call__(self, image, initial):
        self.inputs.append((image, initial))
        pairs = [self.answer(one_image, one_initial[0]) for one_image, one_initial in zip(image, initial, strict=True)]
        visible, amodal = (np.stack(maps)[:, None].astype(np.float32) for maps in zip(*pairs, strict=True))
        cells = image.shape[-1] // 4
        parsing = np.zeros((len(image), 12, cells, cells), np.float32)
        # The upper half of the crop is hair, the lower half leg; background is likelier than both.
        parsing[:, 0], parsing[:, 2, : cells // 2], parsing[:, 5, cells // 2 :] = 0.6, 0.4, 0.4
        return {"visible": visible, "amodal": amodal, "visible_parsing": parsing, "amodal_parsing": parsing}


def as_it_is(image, initial):
    return initial * 0.9, initial * 0.9


def upwards(share):
    """A body that goes on over the visible part by `share` of its height."""

    def answer(image, initial):
        rows = np.flatnonzero(initial.any(axis=1))
        columns = np.flatnonzero(initial.any(axis=0))
        amodal = initial.copy()
        reach = round(share * (rows[-1] + 1 - rows[0]))
        amodal[max(0, rows[0] - reach) : rows[-1] + 1, columns[0] : columns[-1] + 1] = 1
        return initial * 0.9, amodal * 0.9

    return answer


def spread(output, part):
    whole = np.zeros(SIZE_HW, part.dtype)
    whole[output.region.slices] = part
    return whole


def visible_in_crop(output):
    """(256, 256) bool: the visible mask, brought back into the crop."""
    mask = spread(output, output.visible)
    return output.in_crop.crop.extract(mask.astype(np.uint8) * np.uint8(255)) >= 128


def test_unoccluded_person_is_unchanged():
    visible_mask = box_to_mask((100, 80, 180, 240), SIZE_HW)
    output = MaskCompletion(FakeNetwork(as_it_is))(PHOTO, visible_mask)
    assert mask_iou(spread(output, output.amodal), visible_mask) > 0.98
    # No rim of "hidden" pixels where the two contours are one.
    assert np.array_equal(output.visible, output.amodal)
    assert mask_iou(visible_in_crop(output), output.in_crop.amodal) > 0.98
    assert output.score == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("average", ["always", "never"])
def test_hidden_part_is_added_to_the_amodal_mask(average):
    visible_mask = box_to_mask((100, 150, 180, 230), SIZE_HW)
    whole = box_to_mask((100, 110, 180, 230), SIZE_HW)
    network = FakeNetwork(upwards(0.5))
    output = MaskCompletion(network, average=average)(PHOTO, visible_mask)
    assert mask_iou(spread(output, output.amodal), whole) > 0.97
    assert mask_iou(spread(output, output.visible), visible_mask) > 0.95
    assert not (output.visible & ~output.amodal).any()
    assert [len(image) for image, _ in network.inputs] == ([1, 2, 2] if average == "always" else [1, 1])


def test_crops_are_wide_then_tight_and_zoomed_out_with_mirrors():
    visible_mask = box_to_mask((100, 150, 180, 230), SIZE_HW)
    network = FakeNetwork(upwards(0.5))
    output = MaskCompletion(network, average="always")(PHOTO, visible_mask)
    (_, wide), (image, tight), (_, further) = network.inputs
    assert wide.sum() == pytest.approx((256 / 2.2) ** 2, rel=0.03)
    assert output.in_crop.crop.side_px == pytest.approx(1.25 * 120, rel=0.03)
    assert output.in_crop.crop.center_xy == pytest.approx((140, 170), abs=2)
    assert np.array_equal(image[1], image[0, ..., ::-1])
    assert np.array_equal(tight[1], tight[0, ..., ::-1])
    assert np.array_equal(further[1], further[0, ..., ::-1])
    assert further.sum() == pytest.approx(tight.sum() * (1.25 / 1.5) ** 2, rel=0.03)
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1


def test_final_crops_are_finer_unless_the_mask_is_kept():
    visible_mask = box_to_mask((100, 150, 180, 230), SIZE_HW)
    whole = box_to_mask((100, 110, 180, 230), SIZE_HW)
    coarse, fine = FakeNetwork(upwards(0.5)), FakeNetwork(upwards(0.5), fine_size=320)
    usual = MaskCompletion(coarse, average="always")(PHOTO, visible_mask)
    output = MaskCompletion(fine, average="always")(PHOTO, visible_mask)
    assert [image.shape[-1] for image, _ in fine.inputs] == [256, 320, 320], "a box: fine at once"
    assert mask_iou(spread(output, output.amodal), whole) > 0.97
    assert output.in_crop.crop.size_px == 256 and output.in_crop.crop.side_px == pytest.approx(
        usual.in_crop.crop.side_px, abs=2
    )
    assert output.in_crop.image.shape == (256, 256, 3)
    assert output.in_crop.visible_parsing.shape == output.in_crop.amodal_parsing.shape == (12, 64, 64)
    assert np.allclose(output.in_crop.amodal_parsing.sum(0), 1, atol=1e-3)
    assert mask_iou(output.in_crop.amodal, usual.in_crop.amodal) > 0.97
    assert mask_iou(visible_in_crop(output), visible_in_crop(usual)) > 0.95
    assert not (output.visible & ~output.amodal).any()

    def sizes(mask, answer):
        network = FakeNetwork(answer, fine_size=320)
        MaskCompletion(network, average="always")(PHOTO, mask)
        return [image.shape[-1] for image, _ in network.inputs]

    drawn = visible_mask.copy()
    drawn[150:160, 100:110] = False  # no box
    assert sizes(drawn, as_it_is) == [256, 256, 256], "kept as drawn: its contour is known"
    assert sizes(drawn, lambda image, initial: (dilate(initial > 0, 9) * 0.9,) * 2) == [256, 256, 320, 320]
    known = FakeNetwork(as_it_is, fine_size=320)
    parsed = MaskCompletion(known).parse(PHOTO, visible_mask, whole)
    assert parsed.crop.size_px == len(parsed.image) == 256
    assert parsed.visible_parsing.shape == parsed.amodal_parsing.shape == (12, 64, 64)


def test_second_pass_starts_from_the_mean_of_box_and_visible_mask():
    box = box_to_mask((100, 110, 180, 230), SIZE_HW)

    def left_half(image, initial):
        columns = np.flatnonzero((initial >= 0.5).any(axis=0))
        visible_mask = (initial >= 0.5).astype(np.float32)
        visible_mask[:, (columns[0] + columns[-1] + 1) // 2 :] = 0
        return visible_mask * 0.8, visible_mask * 0.8

    def initials(mask, **options):
        network = FakeNetwork(left_half, fine_size=320)
        MaskCompletion(network, average="always", **options)(PHOTO, mask)
        return [initial[0, 0] for _, initial in network.inputs]

    first, *later = initials(box, second_pass=True)
    assert set(np.unique(first)) == {0, 1}, "the first prediction has no earlier one"
    assert len(later) == 2

    def halves(prompt):
        rows, columns = np.nonzero(prompt > 0.25)
        middle_row, width = rows.mean().astype(int), columns.max() + 1 - columns.min()
        line = prompt[middle_row, columns.min() : columns.max() + 1]
        return line[width // 8 : width * 3 // 8], line[width * 5 // 8 : width * 7 // 8]

    left, right = halves(later[0])
    assert np.allclose(left, 0.9, atol=0.02), "the mean of the box and the visible mask"
    assert np.allclose(right, 0.5, atol=0.02), "the box alone"
    # the tight prediction has the left half of the person and of the mirror image: half the probability everywhere
    assert np.allclose(halves(later[1]), 0.7, atol=0.02), "a prediction starts from the previous one"
    assert all(set(np.unique(prompt)) == {0, 1} for prompt in initials(box)), "only for a network trained for it"
    drawn = box.copy()
    drawn[110:130, 100:120] = False
    assert all(set(np.unique(prompt)) == {0, 1} for prompt in initials(drawn, second_pass=True)), (
        "a mask prompt needs no second pass"
    )
    assert len(initials(box, second_pass=True, tight=False)) == 2, "no second pass without a first one"


class FakeBoxNetwork(FakeNetwork):
    """The same for a network without parsing."""

    def __call__(self, image, initial):
        found = super().__call__(image, initial)
        return {name: found[name] for name in ("visible", "amodal")}


def lower_half(image, initial):
    """The lower half of a box is visible, the amodal mask fills it."""
    rows = np.flatnonzero(initial.any(axis=1))
    visible_mask = initial.copy()
    if len(rows):
        visible_mask[: (rows[0] + rows[-1] + 1) // 2] = 0
    return visible_mask * 0.8, initial * 0.7


@pytest.mark.parametrize("average", ["always", "never"])
@pytest.mark.parametrize("second_pass", [True, False])
def test_box_prompt_combines_box_segmenter_and_direct_stage_1(average, second_pass):
    box = box_to_mask((100, 110, 180, 230), SIZE_HW)
    boxes = FakeBoxNetwork(lower_half, fine_size=320)
    network = FakeNetwork(lambda image, initial: ((initial > 0.75) * 0.9, (initial > 0.25) * 0.9), fine_size=288)
    options = {"average": average, "second_pass": second_pass, "box_segmenter": boxes}
    output = MaskCompletion(network, **options)(PHOTO, box, crowded=True)
    times = 2 if average == "always" else 1
    assert [(len(image), image.shape[-1]) for image, _ in boxes.inputs] == [(1, 256), (times, 320)], "wide, then tight"
    sizes = [(len(image), image.shape[-1]) for image, _ in network.inputs]
    assert sizes == [(times, 320), *([(1, 256)] if second_pass else []), (times, 320)]
    (_, given), *_, (_, own) = network.inputs
    assert set(np.unique(given)) == {0, 1}, "a mask, as anyone may draw it"
    assert given.sum() == pytest.approx(boxes.inputs[1][1].sum() / 2, rel=0.05), "the visible half"
    # the direct prediction is zoomed out: on the box and, where trained for it, on the first prediction there
    reach = np.flatnonzero((own[0, 0] > 0.25).any(axis=1))
    assert len(reach) == pytest.approx(320 / 1.5, abs=3)
    assert (0.9 < own[0, 0].max() <= 0.95) == second_pass, "the mean of 1, the box, and 0.9"
    assert output.in_crop.crop.side_px == pytest.approx(1.25 * 120, rel=0.03)
    assert mask_iou(spread(output, output.amodal), box) > 0.95
    assert set(np.unique(output.parsing[output.amodal])) == {2, 5}, "the parts are those of stage 1 alone"
    assert output.in_crop.amodal_parsing.sum(0).max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("crowded", "probability", "is_visible"),
    [(True, 0.41, True), (True, 0.34, False), (False, 0.26, True), (False, 0.2, False)],
)
def test_box_visible_mask_is_the_weighted_mean_of_predictions(crowded, probability, is_visible):
    """0.9 by the box-prompted network, and stage 1 once, in crowds twice: (0.9 + weight * it) / (1 + weight)."""
    box, right = box_to_mask((100, 110, 180, 230), SIZE_HW), box_to_mask((140, 110, 180, 230), SIZE_HW)
    boxes = FakeBoxNetwork(lambda image, initial: (initial * 0.9,) * 2)

    def less_on_the_right(image, initial):
        columns = np.flatnonzero((initial >= 0.5).any(axis=0))
        visible_mask = 0.9 * (initial >= 0.5)
        visible_mask[:, (columns[0] + columns[-1] + 1) // 2 :] *= probability / 0.9
        return visible_mask, visible_mask

    complete = MaskCompletion(FakeNetwork(less_on_the_right), average="never", box_segmenter=boxes)
    output = complete(PHOTO, box, crowded=crowded)
    visible_mask = spread(output, output.visible)
    assert (np.count_nonzero(visible_mask & right) > 0.9 * np.count_nonzero(right)) == is_visible
    assert np.count_nonzero(visible_mask & ~right) > 0.9 * np.count_nonzero(box & ~right)


def test_mask_prompt_skips_the_box_segmenter():
    drawn = box_to_mask((100, 110, 180, 230), SIZE_HW)
    drawn[110:150, 100:140] = False
    boxes = FakeBoxNetwork(lower_half)
    with_it, without = (
        MaskCompletion(FakeNetwork(as_it_is), box_segmenter=network)(PHOTO, drawn) for network in (boxes, None)
    )
    assert not boxes.inputs
    assert np.array_equal(with_it.amodal, without.amodal)


def test_stage_1_replaces_an_empty_box_segmenter_prediction():
    box = box_to_mask((100, 110, 180, 230), SIZE_HW)
    empty = FakeBoxNetwork(lambda image, initial: (initial * 0.3, initial * 0.4))
    network = FakeNetwork(as_it_is)
    output = MaskCompletion(network, box_segmenter=empty)(PHOTO, box)
    alone = MaskCompletion(FakeNetwork(as_it_is))(PHOTO, box)
    assert empty.inputs and network.inputs
    assert np.array_equal(output.amodal, alone.amodal) and output.score == alone.score


def test_residual_person_is_segmented_without_the_known_one():
    box = box_to_mask((100, 110, 180, 230), SIZE_HW)
    known = MaskCompletion(FakeNetwork(as_it_is))(PHOTO, box_to_mask((80, 110, 140, 230), SIZE_HW))
    boxes = FakeBoxNetwork(lambda image, initial: (initial * 0.9, initial * 0.9))
    network = FakeNetwork(as_it_is)
    complete = MaskCompletion(network, box_segmenter=boxes, splits_boxes=True)
    rest = complete.complete_residual(PHOTO, box, known)
    left = box & ~spread(known, known.visible)
    assert mask_iou(spread(rest, rest.visible), left) > 0.95
    assert [initial.max() for _, initial in boxes.inputs] == [1, 1], (
        "wide, then tight: the box without the known person"
    )
    scale = (boxes.inputs[1][0].shape[-1] / rest.in_crop.crop.side_px) ** 2
    assert boxes.inputs[1][1][0].sum() == pytest.approx(left.sum() * scale, rel=0.05)
    assert len(network.inputs) == 1, "stage 1 completes the residual mask, and makes no prediction on the box"


def test_residual_without_a_person_returns_none():
    box = box_to_mask((100, 110, 180, 230), SIZE_HW)
    known, all_of_it = (
        MaskCompletion(FakeNetwork(as_it_is))(PHOTO, box_to_mask(edges, SIZE_HW))
        for edges in ((80, 110, 140, 230), (98, 110, 178, 230))
    )
    empty = FakeBoxNetwork(lambda image, initial: (initial * 0.3, initial * 0.4))
    assert (
        MaskCompletion(FakeNetwork(as_it_is), box_segmenter=empty, splits_boxes=True).complete_residual(
            PHOTO, box, known
        )
        is None
    )
    assert empty.inputs
    for options, who in (({"splits_boxes": True}, all_of_it), ({}, known)):
        boxes = FakeBoxNetwork(lambda image, initial: (initial * 0.9,) * 2)
        rest = MaskCompletion(FakeNetwork(as_it_is), box_segmenter=boxes, **options).complete_residual(PHOTO, box, who)
        assert rest is None and not boxes.inputs, (
            "too small a part of the box is left, or the network was not trained for it"
        )
    assert MaskCompletion(FakeNetwork(as_it_is), splits_boxes=True).complete_residual(PHOTO, box, known) is None


def test_disabled_tight_crop_gives_one_wide_prediction():
    visible_mask = box_to_mask((100, 150, 180, 230), SIZE_HW)
    network = FakeNetwork(upwards(0.5))
    complete = MaskCompletion(network, average="never", tight=False)
    output = complete(PHOTO, visible_mask)
    assert len(network.inputs) == 1
    crop = output.in_crop.crop
    assert crop.side_px == pytest.approx(2.2 * 80) and crop.center_xy == (140, 190)
    assert mask_iou(spread(output, output.amodal), box_to_mask((100, 110, 180, 230), SIZE_HW)) > 0.95
    parsed = complete.parse(PHOTO, visible_mask, box_to_mask((100, 110, 180, 230), SIZE_HW))
    assert parsed.crop == crop, "around the visible part for a known body too"


def test_mirrored_predictions_are_flipped_back_and_averaged():
    mirror_alone = InferenceSettings(crop=CropSettings(zoomed_out_scale=CropSettings.tight_scale))

    def left_half(image, initial):
        visible = initial * 0.9
        visible[:, 128:] *= 0.5
        return visible, initial * 0.9

    visible_mask = box_to_mask((100, 80, 200, 180), SIZE_HW)
    output = MaskCompletion(FakeNetwork(left_half), average="always", settings=mirror_alone)(PHOTO, visible_mask)
    # Each prediction has 0.45 in its own right half; averaged with the mirrored one, both halves get (0.9 + 0.45) / 2.
    assert output.score == pytest.approx(0.675, abs=1e-3)


def test_mask_prompt_takes_two_passes_without_averaging():
    visible_mask = box_to_mask((100, 80, 180, 240), SIZE_HW)
    visible_mask[80:90, 100:110] = False  # no box
    network = FakeNetwork(as_it_is)
    output = MaskCompletion(network, average="never")(PHOTO, visible_mask)
    assert [len(image) for image, _ in network.inputs] == [1, 1]
    averaged = MaskCompletion(FakeNetwork(as_it_is), average="always")(PHOTO, visible_mask)
    assert mask_iou(spread(output, output.amodal), spread(averaged, averaged.amodal)) > 0.99


@pytest.mark.parametrize(("share", "passes"), [(0.0, [1, 1]), (0.1, [1, 1, 1, 2]), (0.5, [1, 1])])
def test_doubtful_people_alone_are_averaged(share, passes):
    """Nothing, a tenth and a third of the body is hidden. Averaging runs no single prediction again."""
    visible_mask = box_to_mask((100, 150, 180, 230), SIZE_HW)
    visible_mask[150:160, 100:110] = False  # no box
    network = FakeNetwork(upwards(share))
    output = MaskCompletion(network)(PHOTO, visible_mask)
    assert [len(image) for image, _ in network.inputs] == passes
    assert output.probable_hidden == pytest.approx(share / (1 + share), abs=0.03)
    if len(passes) > 2:
        averaged = MaskCompletion(FakeNetwork(upwards(share)), average="always")(PHOTO, visible_mask)
        np.testing.assert_array_equal(output.amodal_prob, averaged.amodal_prob)


@pytest.mark.parametrize(("average", "crowded", "passes"), [
    ("never", False, [2, 1]), ("never", True, [2, 3]), ("always", False, [3, 5]), ("always", True, [3, 5]),
])  # fmt: skip
def test_passes_of_a_box_prompt(average, crowded, passes):
    boxes, network = FakeNetwork(as_it_is), FakeNetwork(as_it_is)
    complete = MaskCompletion(network, average=average, second_pass=True, box_segmenter=boxes)
    complete(PHOTO, box_to_mask((100, 80, 180, 240), SIZE_HW), crowded=crowded)
    assert [sum(len(image) for image, _ in one.inputs) for one in (boxes, network)] == passes


def test_a_doubtful_box_is_segmented_once_on_each_crop():
    boxes, network = FakeNetwork(upwards(0.1)), FakeNetwork(upwards(0.1))
    box = box_to_mask((100, 150, 180, 230), SIZE_HW)
    output = MaskCompletion(network, box_segmenter=boxes)(PHOTO, box)
    assert [len(image) for image, _ in boxes.inputs] == [1, 1, 1], "wide, tight, and the tight one's mirror image"
    runs = [np.concatenate([image.ravel(), initial.ravel()]).tobytes() for image, initial in boxes.inputs]
    assert len(set(runs)) == len(runs)
    always = MaskCompletion(FakeNetwork(upwards(0.1)), average="always", box_segmenter=FakeNetwork(upwards(0.1)))
    np.testing.assert_array_equal(output.amodal_prob, always(PHOTO, box).amodal_prob)


def test_zoomed_out_prediction_is_averaged_with_the_tight_one():
    answers = iter((0.9, 0.9, 0.9, 0.7, 0.7))  # wide, tight and further away, the latter two mirrored too

    def fading(image, initial):
        sure = next(answers)
        return initial * sure, initial * sure

    visible_mask = box_to_mask((100, 80, 180, 240), SIZE_HW)
    output = MaskCompletion(FakeNetwork(fading), average="always")(PHOTO, visible_mask)
    assert mask_iou(spread(output, output.visible), visible_mask) > 0.98
    assert output.score == pytest.approx(0.8, abs=0.01)


def test_body_reaching_the_crop_edge_gets_a_wider_crop():
    visible_mask = box_to_mask((180, 250, 220, 290), SIZE_HW)
    network = FakeNetwork(upwards(4))
    output = MaskCompletion(network)(PHOTO, visible_mask)
    assert 3 < len(network.inputs) <= CropSettings.max_wide_crops + 2
    # Wide crops grow; the last one covers 5.6 times the visible box, half of it above the centre.
    assert output.in_crop.crop.side_px > 1.25 * 120


def test_number_of_wide_crops_is_bounded():
    network = FakeNetwork(lambda image, initial: (initial * 0.9, np.full_like(initial, 0.8)))
    MaskCompletion(network)(np.zeros((2000, 2000, 3), np.uint8), box_to_mask((990, 990, 1010, 1010), (2000, 2000)))
    assert len(network.inputs) == CropSettings.max_wide_crops + 1


def test_amodal_mask_ends_at_the_image_border():
    network = FakeNetwork(lambda image, initial: (initial * 0.9, dilate(initial > 0, 60) * 0.9))
    output = MaskCompletion(network)(PHOTO, box_to_mask((0, 0, 60, 100), SIZE_HW))
    assert output.region.top == output.region.left == 0
    assert output.amodal[0, 0]
    inside = output.in_crop.crop.inside_photo(SIZE_HW)
    assert not (output.in_crop.amodal & ~inside).any()
    image = network.inputs[-1][0][0]
    assert np.allclose(image[:, 0, 0], 128 / 255)


def test_small_components_are_removed_and_hidden_holes_filled():
    def answer(image, initial):
        visible = np.zeros((256, 256))
        visible[60:120, 60:180] = 0.9
        visible[80:84, 80:84] = 0.0  # a hole in the visible mask, as between an arm and the body
        amodal = visible.copy()
        amodal[120:200, 60:180] = 0.9
        amodal[150:156, 100:106] = 0.1  # a hole in what is guessed
        amodal[230:236, 230:236] = 0.9  # a small component
        visible[170:172, 90:92] = amodal[170:172, 90:92]  # occluder taken for body
        return visible, amodal

    output = MaskCompletion(FakeNetwork(answer), average="never")(PHOTO, box_to_mask((100, 80, 180, 240), SIZE_HW))
    assert output.in_crop.amodal[150:156, 100:106].all()
    assert not output.in_crop.amodal[80:84, 80:84].any()
    assert not output.in_crop.amodal[228:238, 228:238].any()
    assert not visible_in_crop(output)[165:175, 85:95].any()
    assert visible_in_crop(output)[100, 100]
    assert not output.amodal[-1].any()


def test_boundary_slivers_are_removed_but_a_thin_pole_stays_hidden():
    def answer(image, initial):
        amodal = np.zeros((256, 256))
        amodal[60:200, 60:180] = 0.9
        visible = amodal.copy()
        visible[:, 60] = 0  # a contour one pixel further in
        visible[60:200, 120:122] = 0  # a pole two pixels wide
        return visible, amodal

    output = MaskCompletion(FakeNetwork(answer), average="never")(PHOTO, box_to_mask((100, 80, 180, 240), SIZE_HW))
    assert visible_in_crop(output)[60:200, 60].all()
    hidden = spread(output, output.amodal & ~output.visible)
    rows = np.flatnonzero(hidden.any(1))
    assert np.ptp(rows) + 1 == len(rows) > 100 and hidden.sum(1).max() <= 3, "the pole, and nothing at the rim"


def test_parsing_covers_exactly_the_amodal_mask():
    visible_mask = box_to_mask((100, 80, 180, 240), SIZE_HW)
    output = MaskCompletion(FakeNetwork(as_it_is))(PHOTO, visible_mask)
    assert np.array_equal(output.parsing > 0, output.amodal)
    whole = spread(output, output.parsing)
    assert set(np.unique(whole[100:150])) == {0, 2}
    assert set(np.unique(whole[170:230])) == {0, 5}
    assert whole[158, 140] == 2
    assert whole[162, 140] == 5


def test_empty_prediction_keeps_the_mask_with_a_low_score():
    visible_mask = box_to_mask((100, 80, 180, 240), SIZE_HW)
    network = FakeNetwork(lambda image, initial: (initial * 0.1, initial * 0.1))
    output = MaskCompletion(network)(PHOTO, visible_mask)
    assert mask_iou(spread(output, output.amodal), visible_mask) > 0.98
    assert np.array_equal(output.visible, output.amodal)
    assert output.score == pytest.approx(0.1, abs=0.001)


def test_a_mask_thinner_than_a_crop_pixel_does_not_vanish():
    photo = np.zeros((1500, 2000, 3), np.uint8)
    mask = np.zeros((1500, 2000), bool)
    mask[100:1400, 900] = True
    network = FakeNetwork(as_it_is)
    MaskCompletion(network)(photo, mask)
    assert all(initial.any() for _, initial in network.inputs)


def test_two_distant_single_pixels_do_not_vanish():
    # each is a ten-thousandth of a crop pixel, which the coverage rounds to nothing
    mask = np.zeros((400, 20_000), bool)
    mask[200, 10] = mask[200, 19_000] = True
    network = FakeNetwork(as_it_is)
    with contextlib.suppress(NoPersonError):  # so small that nothing may be left of them in the end
        MaskCompletion(network)(np.zeros((400, 20_000, 3), np.uint8), mask)
    assert network.inputs and all(initial.any() for _, initial in network.inputs)


def test_an_empty_mask_is_refused():
    with pytest.raises(InputError, match="initial mask is empty"):
        MaskCompletion(FakeNetwork(as_it_is))(PHOTO, np.zeros(SIZE_HW, bool))


def test_parse_uses_the_tight_crop_of_the_amodal_mask():
    amodal = box_to_mask((100, 80, 180, 240), SIZE_HW)
    parsed = MaskCompletion(FakeNetwork(as_it_is)).parse(PHOTO, amodal, amodal)
    assert parsed.crop.center_xy == (140, 160)
    assert parsed.crop.side_px == 1.25 * 160
    assert parsed.image.shape == (256, 256, 3)
    assert parsed.visible_parsing.shape == parsed.amodal_parsing.shape == (12, 64, 64)


def test_exact_mask_prompt_keeps_its_own_contour():
    # finer than a crop pixel: 2000 image pixels on 256, and the network's mask is half a crop pixel too wide
    size_hw = (2000, 1600)
    visible_mask = box_to_mask((503, 301, 1101, 1703), size_hw)
    output = MaskCompletion(FakeNetwork(lambda image, initial: (initial * 0.9, dilate(initial > 0, 1) * 0.9)))(
        np.zeros((*size_hw, 3), np.uint8), visible_mask
    )
    drawn = visible_mask[output.region.slices]
    assert np.array_equal(output.visible, drawn)
    assert np.array_equal(output.amodal, drawn)
    assert np.array_equal(output.amodal_prob >= 128, drawn)


def test_hidden_contour_does_not_follow_the_edges_of_its_occluder():
    # the hidden lower half is 400 pixels wide; before it stands an occluder whose right edge is saw-toothed
    photo = np.full((900, 1200, 3), 90, np.uint8)
    teeth = 595 + 10 * (np.arange(450, 900) // 16 % 2)
    photo[450:][np.arange(1200) < teeth[:, None]] = 220
    box = box_to_mask((200, 150, 600, 750), (900, 1200))

    def answer(image, initial):
        rows = np.flatnonzero((initial > 0.5).any(axis=1))
        amodal = sum(dilate(initial > 0.5, reach) * 0.2 for reach in range(5))  # a soft contour
        visible = amodal.copy()
        visible[(rows[0] + rows[-1]) // 2 :] *= 0.05
        return visible, amodal

    output = MaskCompletion(FakeNetwork(answer), average="never")(photo, box)
    rows = slice(520 - output.region.top, 720 - output.region.top)
    assert not output.visible[rows].any()
    right = output.region.left + output.amodal.shape[1] - output.amodal[rows, ::-1].argmax(axis=1)
    assert np.ptp(right) <= 2 and abs(right.mean() - 600) < 12


def test_inaccurate_mask_prompt_is_replaced():
    whole = box_to_mask((100, 80, 180, 240), SIZE_HW)
    crude = box_to_mask((80, 60, 200, 260), SIZE_HW)

    def shrunk(image, initial):
        rows, columns = np.flatnonzero(initial.any(axis=1)), np.flatnonzero(initial.any(axis=0))
        out = np.zeros_like(initial)
        dy, dx = round((rows[-1] + 1 - rows[0]) * 0.1), round((columns[-1] + 1 - columns[0]) / 6)
        out[rows[0] + dy : rows[-1] + 1 - dy, columns[0] + dx : columns[-1] + 1 - dx] = 0.9
        return out, out

    output = MaskCompletion(FakeNetwork(shrunk))(PHOTO, crude)
    assert mask_iou(spread(output, output.visible), whole) > 0.95


def test_hole_in_an_exact_mask_prompt_is_repaired():
    whole = box_to_mask((100, 80, 180, 240), SIZE_HW)
    holed = whole & ~box_to_mask((130, 150, 145, 165), SIZE_HW)

    def filled(image, initial):
        rows, columns = np.flatnonzero(initial.any(axis=1)), np.flatnonzero(initial.any(axis=0))
        out = np.zeros_like(initial)
        out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 0.9
        return out, out

    output = MaskCompletion(FakeNetwork(filled))(PHOTO, holed)
    assert np.array_equal(spread(output, output.visible), whole)


def test_mask_prompt_with_shifted_contour_is_corrected():
    # a coarse mask: in large parts right, its edge off by a pixel of the network everywhere
    whole = box_to_mask((100, 80, 180, 240), SIZE_HW)
    coarse = dilate(whole, 2)

    def narrower(image, initial):
        rows, columns = np.flatnonzero(initial.any(axis=1)), np.flatnonzero(initial.any(axis=0))
        out = np.zeros_like(initial)
        out[rows[0] + 2 : rows[-1] - 1, columns[0] + 2 : columns[-1] - 1] = 0.9
        return out, out

    flat = np.full_like(PHOTO, 90)
    output = MaskCompletion(FakeNetwork(narrower))(flat, coarse)
    assert mask_iou(spread(output, output.visible), whole) > 0.97 > mask_iou(coarse, whole)
