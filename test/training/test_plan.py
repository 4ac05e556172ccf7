"""The plan: which item is in which place of which batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsp_model.training.plan import generator, item, places


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(0, 3))
def test_every_round_holds_every_item_once(seed, count, round_):
    found = [item(seed, "people", round_ * count + place, count) for place in range(count)]
    assert sorted(found) == list(range(count))


def test_rounds_and_purposes_have_orders_of_their_own():
    orders = {
        tuple(item(0, purpose, start + place, 50) for place in range(50))
        for purpose in ("a", "b")
        for start in (0, 50)
    }
    assert len(orders) == 4


@given(st.integers(1, 6), st.integers(1, 6))
def test_parts_share_a_batch_without_overlap(parts, each):
    shared = [list(places(parts * each, part, parts)) for part in range(parts)]
    assert {len(own) for own in shared} == {each}
    assert sorted(place for own in shared for place in own) == list(range(parts * each))


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    with pytest.raises(ValueError, match="32 cannot be shared by 3"):
        places(32, 0, 3)


def test_numbers_depend_on_seed_purpose_and_place_alone():
    first = generator(1, "crop", 5, 2).random(4)
    assert (generator(1, "crop", 5, 2).random(4) == first).all()
    for other in (generator(2, "crop", 5, 2), generator(1, "frame", 5, 2), generator(1, "crop", 5)):
        assert (other.random(4) != first).all()
