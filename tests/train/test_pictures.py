"""Pictures for TensorBoard, pixel by pixel, and those of each stage."""

from __future__ import annotations

import numpy as np
import torch

from deocclude.train.config import load_config
from deocclude.train.content_stage import ContentStage
from deocclude.train.mask_stage import MaskStage
from deocclude.train.people_stage import PeopleStage
from deocclude.train.pictures import boxes_rgb, composed, first_people, in_a_row, mask_rgb, to_rgb

ORANGE = [255, 140, 0]


def test_images_become_bytes() -> None:
    image = torch.tensor([[[0.0, 1.0]], [[0.2, 1.7]], [[-0.5, 0.5]]])
    assert to_rgb(image).tolist() == [[[0, 51, 0], [255, 255, 128]]]


def test_hidden_parts_are_orange() -> None:
    visible, amodal = torch.tensor([[[0.9, 0.1, 0.2]]]), torch.tensor([[[1.0, 0.8, 0.4]]])
    assert mask_rgb(visible, amodal).tolist() == [[[255] * 3, ORANGE, [0] * 3]]


def test_boxes_are_outlined_and_cut_at_the_edge() -> None:
    picture = boxes_rgb(torch.zeros(3, 6, 8), np.array([[1.0, 1, 5, 4], [6, 4, 20, 20]]))
    painted = (picture == ORANGE).all(-1)
    expected = np.zeros((6, 8), bool)
    expected[1:4, 1:5] = True
    expected[2, 2:4] = False
    expected[4:, 6:] = True
    assert np.array_equal(painted, expected)
    assert not boxes_rgb(torch.zeros(3, 4, 4), np.zeros((0, 4))).any()


def test_a_composed_person_is_photo_content_and_grey() -> None:
    photo, content = torch.full((1, 3, 1, 3), 0.1), torch.full((1, 3, 1, 3), 0.9)
    visible, amodal = torch.tensor([[[[1.0, 0, 0]]]]), torch.tensor([[[[1.0, 1, 0]]]])
    torch.testing.assert_close(composed(photo, content, visible, amodal)[0, 0, 0], torch.tensor([0.1, 0.9, 0.5]))


def test_image_row_and_first_people() -> None:
    row = in_a_row(np.zeros((2, 3, 3), np.uint8), np.ones((2, 4, 3), np.uint8))
    assert row.shape == (2, 7, 3) and row[0, 2].tolist() == [0] * 3 and row[0, 3].tolist() == [1] * 3
    assert first_people({"photo": torch.arange(9)})["photo"].tolist() == [0, 1, 2, 3]


def test_stage_1_shows_photo_initial_predicted_and_truth(write_config) -> None:
    stage = MaskStage(load_config(write_config()))
    pictures = stage.pictures(stage.network.eval())
    assert pictures.keys() == {f"person_{i}" for i in range(4)}
    batch = stage.validation[0]
    for number, picture in enumerate(pictures.values()):
        assert picture.shape == (32, 4 * 32, 3) and picture.dtype == np.uint8
        photo, initial, _, truth = np.split(picture, 4, axis=1)
        assert np.array_equal(photo, batch["photo"][number].permute(1, 2, 0).numpy())
        assert np.array_equal(initial[..., 0] == 255, batch["initial"][number, 0].numpy() == 1)
        hidden = (batch["amodal"] & ~batch["visible"].bool())[number, 0].numpy() == 1
        assert np.array_equal((truth == ORANGE).all(-1), hidden)


def test_stage_2_shows_photo_given_recovered_and_truth(write_config, parser_weights) -> None:
    path, size = write_config(), "content.schedule.phases=[{until: 1.0, size_px: 64, batch_size: 4}]"
    stage = ContentStage(load_config(path, [size]))
    stage.network.eval()
    batch = stage.validation[0]
    picture = stage.pictures(stage.network)["person_1"]
    photo, given, recovered, truth = np.split(picture, 4, axis=1)
    visible, amodal = (batch[name][1, 0].numpy() == 1 for name in ("visible", "amodal"))
    assert np.array_equal(photo, batch["photo"][1].permute(1, 2, 0).numpy())
    assert np.array_equal(given[visible], photo[visible]) and (given[~visible] == 128).all()
    assert np.array_equal(recovered[visible], photo[visible]) and (recovered[~amodal] == 128).all()
    assert np.array_equal(truth[amodal], batch["truth"][1].permute(1, 2, 0).numpy()[amodal])
    settings = [size, f"content.stage1={parser_weights}", "content.p_predicted=1.0"]
    predicted = ContentStage(load_config(path, settings))
    shown = predicted.pictures(predicted.network.eval())["person_1"]
    assert not np.array_equal(np.split(shown, 4, axis=1)[1], given), "what stage 1 predicts is what is given"


def test_detector_shows_predictions_and_truth(write_config) -> None:
    schedule = {"steps": 1, "phases": [{"until": 1.0, "size_px": 64, "batch_size": 2}]}
    network = {"stem_width": 8, "widths": [8, 16, 16], "blocks": [0, 0, 0]}
    data = {"p_wild": 0.0}
    path = write_config(people={"network": network, "schedule": schedule, "data": data})
    stage = PeopleStage(load_config(path))
    samples = stage.validation["composed"]
    pictures = stage.pictures(stage.network.eval())
    assert len(pictures) == 4
    found, truth = np.split(pictures["person_0"], 2, axis=1)
    boxes = samples[0].boxes_xyxy[samples[0].counted]
    wanted = boxes_rgb(torch.from_numpy(samples[0].photo).permute(2, 0, 1) / 255, boxes)
    assert np.array_equal(truth, wanted) and found.shape == (64, 64, 3)
