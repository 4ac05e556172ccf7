"""Work beside the network: when it begins, in which order, and what becomes of its errors."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from stsp_model import STSPNet
from stsp_model.replay.beside import announcing, beside
from stsp_model.runtime import ONNXRUNTIME, TORCH
from stsp_model.runtime.backends import open_network


@pytest.mark.parametrize("backend", [TORCH, ONNXRUNTIME])
def test_it_begins_when_the_network_observes(backend: str):
    network = open_network(STSPNet("edge").eval(), backend)
    width, height = network.input_size
    done: list[int] = []
    with beside() as thread, torch.inference_mode():
        announced = announcing(network, thread)
        announced.find_people(torch.zeros(1, 3, *network.finder_size[::-1]))
        work = thread.add(lambda: done.append(threading.get_ident()))
        time.sleep(0.05)
        assert done == []
        crops, motion = torch.zeros(1, 3, height, width), torch.zeros(1, 1, height // 4, width // 4)
        seen = announced.observe(crops, motion)
        work.result()
        assert len(done) == 1
        assert done[0] != threading.get_ident()
        torch.testing.assert_close(seen.joints, network.observe(crops, motion).joints)
    assert announced.input_size == network.input_size


def test_asking_for_a_result_begins_all_before_it_in_order():
    done: list[int] = []
    with beside() as thread:
        for i in range(5):
            thread.add(lambda i=i: done.append(i))
        last = thread.add(lambda: len(done))
        assert last.result() == 5
    assert done == [0, 1, 2, 3, 4]


def test_asking_for_what_has_begun_begins_nothing_else():
    done: list[int] = []
    with beside() as thread:
        first = thread.add(lambda: done.append(1))
        thread.begin()
        thread.add(lambda: done.append(2))
        first.result()
        time.sleep(0.05)
        assert done == [1]


def test_what_nobody_asked_for_is_done_at_the_end():
    done: list[str] = []

    def stopped_in_the_middle() -> None:
        with beside() as thread:
            thread.add(lambda: done.append("written"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_in_the_middle()
    assert done == ["written"]


def test_an_error_is_raised_where_the_result_is_asked_for_and_the_thread_goes_on():
    def fail() -> None:
        raise OSError("disk full")

    with beside() as thread:
        failed, next_one = thread.add(fail), thread.add(lambda: 7)
        with pytest.raises(OSError, match="disk full"):
            failed.result()
        assert next_one.result() == 7
