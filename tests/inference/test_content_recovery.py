import numpy as np

from deocclude.imaging.appearance import (
    Appearance,
    blend_seam,
    hidden_on_photo,
    smooth,
    unmixed_visible,
    visible_in_crop,
)
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.inference.content_recovery import ContentRecovery


class FakeNetwork:
    """Records its inputs; returns a ramp inside the body and arbitrary values outside."""

    input_size = 256

    def __call__(self, **inputs):
        self.inputs = inputs
        ramp = np.broadcast_to(np.linspace(0, 1, 256, dtype=np.float32), (1, 3, 256, 256))
        return {"content": np.where(inputs["amodal"] > 0, ramp, 5.0)}


def recovered():
    image = np.random.default_rng(0).integers(1, 256, (256, 256, 3), dtype=np.uint8)
    amodal = np.zeros((256, 256), bool)
    amodal[50:200, 60:160] = True
    visible = amodal.copy()
    visible[:120] = False
    parsing = np.full((12, 64, 64), 1 / 12, np.float32)
    network = FakeNetwork()
    found = ContentRecovery(network, exemplars=False)(image, visible, amodal, parsing, parsing)
    return found.rgb, network.inputs, image, visible, amodal


def test_network_receives_only_visible_pixels():
    _, inputs, image, visible, amodal = recovered()
    source = inputs["image"][0].transpose(1, 2, 0)
    assert (source[~visible] == 0).all()
    assert np.allclose(source[visible], image[visible] / 255)
    assert np.array_equal(inputs["visible"][0, 0], visible)
    assert np.array_equal(inputs["amodal"][0, 0], amodal)
    assert inputs["amodal_parsing"].shape == (1, 12, 64, 64)


def test_content_is_uint8_and_extends_past_the_body():
    content, _, _, _, amodal = recovered()
    assert content.dtype == np.uint8
    assert np.array_equal(
        content[amodal], np.broadcast_to(np.rint(np.arange(256))[None, :, None], (256, 256, 3))[amodal]
    )
    # The network's output outside the body is white; two pixels out the body's own colour replaces it.
    assert content[100, 161].tolist() == content[100, 159].tolist() or abs(int(content[100, 161, 0]) - 159) < 2
    assert content[100, 200, 0] == 255


def test_only_the_hidden_box_is_upscaled_to_photo_size():
    content = np.zeros((64, 64, 3), np.uint8)
    content[..., 0] = np.arange(64)[None] * 4
    crop = SquareCrop((100, 100), 128, 64)
    region = Region(60, 60, 140, 140)
    invisible = np.zeros((80, 80), bool)
    invisible[10:20, 30:50] = True
    photo = np.zeros((200, 200, 3), np.uint8)
    box, colours = hidden_on_photo(Appearance(content), crop, photo, np.zeros_like(invisible), invisible, region)
    assert box == Region(70, 90, 80, 110)
    assert colours.shape == (10, 20, 3)
    # Photo x = 90.5 lies at crop coordinate (90.5 - 36) / 2 = 27.25, that is 26.75 pixels from the first centre.
    assert abs(int(colours[0, 0, 0]) - 4 * 26.75) <= 1


def test_unoccluded_person_has_an_empty_hidden_region():
    nothing, photo = np.zeros((8, 8), bool), np.zeros((8, 8, 3), np.uint8)
    box, colours = hidden_on_photo(
        Appearance(photo), SquareCrop((4, 4), 8, 8), photo, ~nothing, nothing, Region(0, 0, 8, 8)
    )
    assert box.is_empty
    assert colours.size == 0


def speckled_body(size=256):
    """A body in two cloths, red above and blue below, hidden across the middle by something green: image, visible,
    amodal."""
    speckle = np.random.default_rng(1).integers(0, 2, (size // 4, size // 4)).repeat(4, 0).repeat(4, 1) * 80
    image = np.zeros((size, size, 3), np.uint8)
    image[:130, :, 0], image[130:, :, 2] = 120 + speckle[:130], 120 + speckle[130:]
    amodal = np.zeros((size, size), bool)
    amodal[20:236, 70:190] = True
    visible = amodal.copy()
    visible[90:170, 90:170] = False
    image[~visible] = (0, 255, 0)
    return image, visible, amodal


def one_garment(size=256):
    parsing = np.zeros((12, size // 4, size // 4), np.float32)
    parsing[6] = 1
    return parsing


class Mean:
    """A network that answers with one colour."""

    def __init__(self, colour):
        self.colour = np.float32(colour) / 255

    def __call__(self, **inputs):
        size = inputs["image"].shape[-1]
        return {"content": np.broadcast_to(self.colour, (size, size, 3)).transpose(2, 0, 1)[None].copy()}


def test_cloth_texture_continues_behind_the_occluder():
    image, visible, amodal = speckled_body()
    network = Mean((160, 0, 0))
    network.colour = np.where(np.arange(256)[:, None, None] < 130, (160, 0, 0), (0, 0, 160)).astype(np.float32) / 255
    found = ContentRecovery(network)(image, visible, amodal, one_garment(), one_garment()).rgb
    assert np.array_equal(found[visible], image[visible])
    assert found[amodal][:, 1].max() == 0  # nothing green
    for rows, cloth in ((slice(95, 120), 0), (slice(140, 165), 2)):
        part = found[rows, 95:165].astype(float)
        assert part[..., 2 - cloth].mean() < 10
        assert abs(part[..., cloth].mean() - 160) < 12
        assert 12 < part[..., cloth].std() < 45  # the cloth's own is 40, the network's 0


def test_face_pixels_are_not_copied_from_exemplars():
    image, visible, amodal = speckled_body()
    face = np.roll(one_garment(), 3 - 6, axis=0)
    found = ContentRecovery(Mean((200, 150, 120)))(image, visible, amodal, face, face)
    middle = np.zeros_like(visible)
    middle[100:160, 100:160] = True
    assert (found.rgb[middle] == (200, 150, 120)).all()
    assert found.copied.weight.max() == 0


def test_unseen_part_is_not_copied_from_another_part():
    image, visible, amodal = speckled_body()
    shoe = np.roll(one_garment(), 10 - 6, axis=0)
    found = ContentRecovery(Mean((60, 40, 20)))(image, visible, amodal, one_garment(), shoe)
    assert (found.rgb[100:160, 100:160] == (60, 40, 20)).all()


def test_network_colours_are_kept_with_less_than_a_patch_visible():
    image, _, amodal = speckled_body()
    visible = np.zeros_like(amodal)
    visible[30:34, 100:104] = True
    found = ContentRecovery(Mean((9, 8, 7)))(image, visible, amodal, one_garment(), one_garment())
    assert found.copied is None
    assert (found.rgb[amodal] == (9, 8, 7)).all()


def test_smoothing_ignores_pixels_outside_the_mask():
    rgb = np.full((32, 32, 3), 40, np.uint8)
    inside = np.zeros((32, 32), bool)
    inside[8:24, 8:24] = True
    rgb[~inside] = (255, 0, 255)
    assert np.abs(smooth(rgb, inside, 4.0)[inside].astype(int) - 40).max() <= 2


def test_known_colours_blend_into_the_recovered_ones():
    region = np.ones((1, 16), bool)
    known = region & (np.arange(16) < 4)
    image = np.full((1, 16, 3), 100, np.uint8)
    led = blend_seam(Appearance(np.zeros((1, 16, 3), np.uint8)), image, known, region).rgb[0, :, 0]
    # the weight falls by the factor e every pixel, over three pixels
    assert led[4:].tolist() == np.rint(100 * np.exp(-np.arange(3))).tolist() + [0] * 9
    assert not led[:4].any()  # known pixels are left to the photo


def test_colours_beside_the_occluder_are_not_spread():
    photo = np.full((40, 40, 3), (10, 200, 30), np.uint8)
    visible, hidden = np.zeros((2, 40, 40), bool)
    visible[10:20, 10:30], hidden[20:30, 10:30] = True, True
    photo[19, 10:30] = (255, 0, 255)  # mixed with the occluder
    crop = SquareCrop((20, 20), 64, 64)
    whole = Region(0, 0, 40, 40)
    image, known = visible_in_crop(photo, unmixed_visible(visible, hidden, crop.scale), whole, crop)
    body = crop.extract(visible | hidden)
    led = blend_seam(Appearance(np.zeros((64, 64, 3), np.uint8)), image, known, body)
    _, colours = hidden_on_photo(led, crop, photo, visible, hidden, whole)
    assert colours[0, 1:-1, 1].min() > 40 and colours[..., 0].max() < 20
    assert np.array_equal(unmixed_visible(visible[19:20], hidden[20:21], 1.0), visible[19:20])


def test_crop_contains_only_visible_pixels():
    photo = np.full((80, 80, 3), (255, 0, 255), np.uint8)
    visible = np.zeros((80, 80), bool)
    visible[21:59, 21:59] = True  # half of the crop's outermost pixels
    photo[visible] = (10, 200, 30)
    crop = SquareCrop((40, 40), 64, 32)
    image, seen = visible_in_crop(photo, visible, Region(0, 0, 80, 80), crop)
    assert seen.sum() == 20 * 20 - 4  # the corners are covered by a quarter only
    assert np.abs(image[seen].astype(int) - (10, 200, 30)).max() <= 1


def test_body_thinner_than_a_crop_pixel_stays_visible():
    photo = np.zeros((400, 400, 3), np.uint8)
    visible = np.zeros((400, 400), bool)
    visible[100:300, 200] = True
    photo[visible] = (250, 120, 10)
    image, seen = visible_in_crop(photo, visible, Region(0, 0, 400, 400), SquareCrop((200, 200), 320, 64))
    assert seen.any()
    assert np.abs(image[seen].astype(int) - (250, 120, 10)).max() <= 12  # a thin part keeps few of 8 bits
