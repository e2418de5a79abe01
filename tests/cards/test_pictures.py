"""Pictures of a card: which samples are shown, and how."""

import dataclasses
import io

import numpy as np
import torch
from PIL import Image

from cl_suite import Samples, TaskData
from cl_suite.cards import drawing
from cl_suite.cards.drawing import fitted, image_rows
from cl_suite.cards.pictures import as_pixels, draw_picture, plane
from cl_suite.cards.shown_samples import spread_over_classes
from tests.helpers.robot_streams import robot_stream


def test_states_of_robots_without_cameras_have_no_picture():
    assert draw_picture(robot_stream(), [], []) == (b"", "samples are states of a robot, and no camera is among them")


def test_samples_are_shown_class_by_class_in_turn():
    samples = Samples(torch.arange(7.0)[:, None], torch.tensor([1, 1, 1, 0, 0, 2, 1]))
    assert samples.targets[spread_over_classes(samples, 6)].tolist() == [0, 1, 2, 0, 1, 1]
    assert spread_over_classes(samples, 3).tolist() == [3, 0, 5]
    assert len(spread_over_classes(samples, 100)) == 7
    assert len(spread_over_classes(Samples(torch.zeros(5, 2), torch.zeros(5, 4)), 3)) == 3  # actions


def test_pixels_are_as_stored_and_other_numbers_are_scaled():
    grey = torch.arange(4, dtype=torch.uint8).view(1, 1, 2, 2)
    assert as_pixels(grey)[0, :, :, 2].tolist() == [[0, 1], [2, 3]]
    assert as_pixels(torch.tensor([-1.0, 0.0, 3.0, float("nan")]).view(1, 1, 2, 2))[0, :, :, 0].tolist() == [
        [0, 64],
        [255, 64],
    ]
    assert fitted(np.zeros((8, 4, 3), dtype=np.uint8), 20).shape == (16, 8, 3)
    assert fitted(np.zeros((400, 200, 3), dtype=np.uint8), 100).shape == (100, 50, 3)


def test_the_plane_of_a_cloud_is_the_same_wherever_it_is_drawn():
    points = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.arange(1, 7)
    flat = plane(points)
    assert flat.shape == (50, 2) and torch.allclose(flat, plane(points.clone()))
    spread = flat.var(dim=0)
    assert spread[0] > spread[1] and torch.allclose(spread[0], torch.linalg.eigvalsh(points.T.cov())[-1])
    assert plane(points[:, :2]) is not None and plane(points[:, :1]).shape == (50, 2)
    assert plane(points[:1, :3]).shape == (1, 2)


def test_a_picture_stays_small_and_is_drawn_alike_each_time(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)  # which does not compress
    usual = image_rows(["task 0", "task 1"], list(noise), cell=64)
    assert usual == image_rows(["task 0", "task 1"], list(noise), cell=64)
    monkeypatch.setattr(drawing, "MOST_BYTES", 5_000)
    small = image_rows(["task 0", "task 1"], list(noise), cell=64)
    assert len(small) <= 5_000 < len(usual)
    monkeypatch.setattr(drawing, "MOST_BYTES", 1_000)
    assert Image.open(io.BytesIO(image_rows(["task 0", "task 1"], list(noise), cell=64))).width < 200


def test_samples_that_nothing_draws_are_named():
    whole = Samples(torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    data = dataclasses.replace(robot_stream(), tasks=(TaskData("ids", whole, whole, ("a",)),))
    assert draw_picture(data, [], []) == (b"", "samples are (4,) int64, which nothing here draws")
