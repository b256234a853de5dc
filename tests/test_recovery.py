import numpy as np

from deocclude.crop import Region, SquareCrop
from deocclude.recovery import ContentRecovery, hidden_on_photo


class FakeNetwork:
    """Keeps what it was asked; answers with a ramp inside the body and with garbage outside."""

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
    return ContentRecovery(network)(image, visible, amodal, parsing, parsing), network.inputs, image, visible, amodal


def test_only_visible_pixels_are_a_source():
    _, inputs, image, visible, amodal = recovered()
    source = inputs["image"][0].transpose(1, 2, 0)
    assert (source[~visible] == 0).all()
    assert np.allclose(source[visible], image[visible] / 255)
    assert np.array_equal(inputs["visible"][0, 0], visible)
    assert np.array_equal(inputs["amodal"][0, 0], amodal)
    assert inputs["amodal_parsing"].shape == (1, 12, 64, 64)


def test_content_is_eight_bit_and_reaches_past_the_body():
    content, _, _, _, amodal = recovered()
    assert content.dtype == np.uint8
    assert np.array_equal(
        content[amodal], np.broadcast_to(np.rint(np.arange(256))[None, :, None], (256, 256, 3))[amodal]
    )
    # What the network says outside the body is white here; two pixels out the body's own colour stands instead.
    assert content[100, 161].tolist() == content[100, 159].tolist() or abs(int(content[100, 161, 0]) - 159) < 2
    assert content[100, 200, 0] == 255


def test_only_the_hidden_box_is_grown_to_photo_size():
    content = np.zeros((64, 64, 3), np.uint8)
    content[..., 0] = np.arange(64)[None] * 4
    crop = SquareCrop((100, 100), 128, 64)
    region = Region(60, 60, 140, 140)
    invisible = np.zeros((80, 80), bool)
    invisible[10:20, 30:50] = True
    box, colours = hidden_on_photo(content, crop, invisible, region, (200, 200))
    assert box == Region(70, 90, 80, 110)
    assert colours.shape == (10, 20, 3)
    # Photo x = 90.5 lies at crop coordinate (90.5 - 36) / 2 = 27.25, that is 26.75 pixels from the first centre.
    assert abs(int(colours[0, 0, 0]) - 4 * 26.75) <= 1


def test_nothing_hidden_gives_an_empty_box():
    box, colours = hidden_on_photo(
        np.zeros((8, 8, 3), np.uint8), SquareCrop((4, 4), 8, 8), np.zeros((8, 8), bool), Region(0, 0, 8, 8), (8, 8)
    )
    assert box.is_empty
    assert colours.size == 0
