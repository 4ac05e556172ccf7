"""Work beside the network: when it begins, in which order, and what becomes of its errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stsp_model import STSPNet
from stsp_model.hrnet import STRIDE
from stsp_model.replay.beside import announcing, beside
from stsp_model.runtime import ONNXRUNTIME, TORCH
from stsp_model.runtime.backends import open_network
from stsp_model.runtime.running import Network


def _find(network: Network) -> Tensor:
    return network.find_people(torch.zeros(1, 3, *network.finder_size[::-1]))[0]


def _observe(network: Network) -> Tensor:
    width, height = network.input_size
    motion = torch.zeros(1, 1, height // STRIDE, width // STRIDE)
    return network.observe(torch.zeros(1, 3, height, width), motion).joints


@pytest.mark.parametrize("backend", [TORCH, ONNXRUNTIME])
@pytest.mark.parametrize("look", [_find, _observe])
def test_it_begins_when_the_network_looks(backend: str, look: Callable[[Network], Tensor]):
    network = open_network(STSPNet("edge").eval(), backend)
    done: list[int] = []
    with beside() as thread, torch.inference_mode():
        announced = announcing(network, thread)
        work = thread.add(lambda: done.append(threading.get_ident()))
        time.sleep(0.05)
        assert done == []
        seen = look(announced)
        assert work.begun
        work.result()
        assert len(done) == 1
        assert done[0] != threading.get_ident()
        torch.testing.assert_close(seen, look(network))
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
