"""The finder's maps decode to the boxes they describe, at a bounded cost."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stsp_model.finder import FINDER_SIZE, Finder, decode_people


def maps(people: list[tuple[int, int, float, tuple[float, ...]]]):
    """Maps of a 20x15 grid for people (x cell, y cell, score, distances)."""
    centres, distances = torch.full((1, 15, 20), -9.0), torch.ones(1, 4, 15, 20)
    for x, y, score, sides in people:
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near = score / 2 if dx or dy else score
                centres[0, y + dy, x + dx] = torch.logit(torch.tensor(near))
        distances[0, :, y, x] = torch.tensor(sides)
    return centres, distances


def test_people_come_out_best_first_and_once_each():
    centres, distances = maps(
        [(5, 3, 0.6, (10.0, 20.0, 30.0, 40.0)), (12, 8, 0.9, (16.0, 50.0, 16.0, 50.0))]
    )
    boxes, scores = decode_people(centres, distances, limit=3)
    # Cell 12 has its centre at pixel 8 * 12 + 3.5.
    np.testing.assert_allclose(boxes[0, 0], [83.5, 17.5, 115.5, 117.5])
    np.testing.assert_allclose(boxes[0, 1], [33.5, 7.5, 73.5, 67.5])
    np.testing.assert_allclose(scores[0, :2], [0.9, 0.6], rtol=1e-5)
    assert scores[0, 2] < 1e-3


@given(
    cells=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=5, unique=True
    ),
    data=st.data(),
)
def test_any_people_that_do_not_touch_are_all_found(cells, data):
    scores = data.draw(
        st.lists(st.floats(0.3, 0.99), min_size=len(cells), max_size=len(cells), unique=True)
    )
    people = [
        (4 * x + 1, 4 * y + 1, s, (9.0,) * 4) for (x, y), s in zip(cells, scores, strict=True)
    ]
    boxes, found = decode_people(*maps(people), limit=len(people))
    expected = sorted(people, key=lambda person: -person[2])
    np.testing.assert_allclose(found[0], [p[2] for p in expected], rtol=1e-4)
    centres = (boxes[0, :, :2] + boxes[0, :, 2:]) / 2
    np.testing.assert_allclose(centres, [(8 * p[0] + 3.5, 8 * p[1] + 3.5) for p in expected])


def test_where_nothing_stands_out_further_boxes_score_zero():
    centres, distances = torch.zeros(1, 4, 4), torch.ones(1, 4, 4, 4)
    centres[0, 2, 2] = 1
    _, scores = decode_people(centres - 0.1 * torch.arange(16).view(4, 4).flip(0), distances, 16)
    assert (scores[0] == 0).any()
    assert scores[0, 0] > 0


@pytest.mark.parametrize("limit", [0, 17])
def test_a_limit_outside_the_grid_is_refused(limit):
    with pytest.raises(ValueError, match="limit"):
        decode_people(torch.zeros(1, 4, 4), torch.ones(1, 4, 4, 4), limit)


def test_untrained_it_finds_somebody_of_a_plausible_size():
    torch.manual_seed(0)
    finder = Finder().eval()
    width, height = FINDER_SIZE
    with torch.no_grad():
        centres, distances = finder(torch.rand(2, 3, height, width))
    assert centres.shape == (2, height // 8, width // 8)
    assert distances.shape == (2, 4, height // 8, width // 8)
    assert (distances > 0).all()
    boxes, scores = decode_people(centres, distances, limit=1)
    assert (scores > 0.5).all()
    sides = boxes[..., 2:] - boxes[..., :2]
    assert ((sides > 20) & (sides < 1000)).all()
