"""The opened stages of a model: what it lacks is None, and threads bound how many people are processed at once."""

from __future__ import annotations

import pytest

from deocclude.errors import UsageError
from deocclude.people.detector import PeopleFinder
from deocclude.people.stages import Stages


def test_what_a_model_lacks_is_none(weights_dir, finding_weights_dir):
    stages = Stages.open("base", "cpu", weights_dir, threads=1)
    assert (stages.device, stages.model, stages.finder, stages.prompted) == ("cpu", "base", None, None)
    assert isinstance(Stages.open("base", "cpu", finding_weights_dir, threads=1).finder, PeopleFinder)


@pytest.mark.parametrize(("threads", "workers"), [(1, 1), (2, 2), (3, 2)])
def test_two_people_at_once_at_most(weights_dir, threads, workers):
    assert Stages.open("base", "cpu", weights_dir, threads=threads).workers == workers


def test_settings_and_calibration_are_the_models(weights_dir):
    stages = Stages.open("base", "cpu", weights_dir, threads=1)
    by_hand = Stages(stages.completion, stages.recovery, device="cpu", model="own")
    assert (by_hand.settings, by_hand.calibration, by_hand.workers) == (stages.settings, stages.calibration, 1)


def test_a_model_is_given_by_its_name(weights_dir):
    with pytest.raises(UsageError, match="a model is given by its name, got PosixPath"):
        Stages.open(weights_dir)
