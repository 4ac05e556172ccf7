"""Runs go on exactly after kill -9, and processes and micro-batches add up to one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import minisets
import pytest
import torch
from minisets import short_epe, short_lift

from stsp_model.checkpoint import load_model
from stsp_model.network import STSPNet
from stsp_model.training import loop
from stsp_model.training.config import ConfigError
from stsp_model.training.run import train_stage
from stsp_model.training.state import BEST, CHECKPOINT, Average, Progress, save_checkpoint

HERE = Path(__file__).parent
PATH = os.pathsep.join([str(HERE), *sys.path])
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PATH}

RUN = """
import sys
import torch
import minisets
from stsp_model.network import STSPNet
from stsp_model.training.run import train_stage

torch.set_num_threads(1)
for kind, data, out in zip(*[iter(sys.argv[1:])] * 3):
    train_stage(STSPNet(minisets.TINY), getattr(minisets, kind)(), [data], out, device="cpu")
"""


def start(*arguments: str, processes: int = 1) -> subprocess.Popen[bytes]:
    """Runs (kind, data, folder) one after the other, with torchrun if in several processes."""
    file = Path(arguments[2]).with_suffix(".py")
    file.write_text(RUN)
    runner = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(runner if processes > 1 else []), str(file), *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT)


def weights(out: Path, of: str = "network") -> dict[str, torch.Tensor]:
    return torch.load(out / CHECKPOINT, weights_only=True)[of]


def apart(one: Path, other: Path) -> float:
    """How far two runs ended from each other, as a share of how far the first one went."""
    start = STSPNet(minisets.TINY).state_dict()
    ends = [weights(out) for out in (one, other)]

    def flat(of: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([of[name].flatten().float() for name in start])

    way, difference = flat(ends[0]) - flat(start), flat(ends[1]) - flat(ends[0])
    return float(difference.norm() / way.norm())


def step(out: Path) -> int:
    return torch.load(out / CHECKPOINT, weights_only=True)["progress"]["step"]


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path, lspet):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    history = train_stage(STSPNet(minisets.TINY), short_epe(), [lspet], whole, device="cpu")
    process = start("short_epe", lspet, str(broken))
    try:
        end = time.monotonic() + 60
        while not (broken / CHECKPOINT).exists() or step(broken) < 2:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert step(broken) % 6 != 0, "the run was killed between two epochs"
    resumed = train_stage(
        STSPNet(minisets.TINY), short_epe(), [lspet], broken, resume=True, device="cpu"
    )
    for of in ("network", "average"):
        expected, found = weights(whole, of), weights(broken, of)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    # Means of the log reach back to where a run went on; scores and weights do not know.
    assert [entry["pck"] for entry in resumed] == [entry["pck"] for entry in history]


def test_two_processes_get_the_result_of_one(tmp_path, cmu, lspet):
    asked = []
    for kind, data in (("short_lift", cmu), ("short_epe_slow", lspet)):
        config = getattr(minisets, kind)()
        train_stage(STSPNet(minisets.TINY), config, [data], tmp_path / kind, device="cpu")
        asked += [kind, data, str(tmp_path / f"two_{kind}")]
    assert start(*asked, processes=2).wait(timeout=120) == 0
    for kind in ("short_lift", "short_epe_slow"):
        assert apart(tmp_path / kind, tmp_path / f"two_{kind}") < 1e-3


def test_micro_batches_add_up_to_the_batch(tmp_path, cmu):
    config = short_lift()
    halves = replace(config, optimisation=replace(config.optimisation, accumulate=2))
    for name, settings in (("whole", config), ("halves", halves)):
        train_stage(STSPNet(minisets.TINY), settings, [cmu], tmp_path / name, device="cpu")
    assert apart(tmp_path / "whole", tmp_path / "halves") < 1e-3


def test_a_second_run_does_not_overwrite_the_first(tmp_path, cmu):
    config = replace(short_lift(), optimisation=replace(short_lift().optimisation, epochs=1))
    train_stage(STSPNet(minisets.TINY), config, [cmu], tmp_path, device="cpu")
    with pytest.raises(ConfigError, match="holds a run already"):
        train_stage(STSPNet(minisets.TINY), config, [cmu], tmp_path, device="cpu")
    other = replace(config, optimisation=replace(config.optimisation, learning_rate=0.5))
    with pytest.raises(ConfigError, match=r"learning_rate \(0.001 -> 0.5\)"):
        train_stage(STSPNet(minisets.TINY), other, [cmu], tmp_path, resume=True, device="cpu")
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:1000])
    with pytest.raises(ConfigError, match="damaged"):
        train_stage(STSPNet(minisets.TINY), config, [cmu], tmp_path, resume=True, device="cpu")
    with pytest.raises(ConfigError, match="to resume from"):
        train_stage(
            STSPNet(minisets.TINY), config, [cmu], tmp_path / "no", resume=True, device="cpu"
        )


def test_weights_of_another_run_are_neither_lost_nor_passed_off_as_this_ones(tmp_path, cmu):
    config = replace(short_lift(), optimisation=replace(short_lift().optimisation, epochs=1))
    (tmp_path / BEST).write_bytes(b"of before")
    with pytest.raises(ConfigError, match=f"holds a {BEST} of another run"):
        train_stage(STSPNet(minisets.TINY), config, [cmu], tmp_path, device="cpu")
    assert (tmp_path / BEST).read_bytes() == b"of before"


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    def full(_content, file):
        file.write(b"half")
        raise RuntimeError("unexpected pos 448 vs 342")

    (tmp_path / CHECKPOINT).write_bytes(b"of before")
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=rf"{CHECKPOINT} cannot be written .*the disk may be full"):
        save_checkpoint(tmp_path, "", Progress(), STSPNet(minisets.TINY), {}, {})
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]
    assert (tmp_path / CHECKPOINT).read_bytes() == b"of before"


DAMAGED = """
from stsp_model.data.errors import DataError
from stsp_model.training.machine import load, make_fabric
from minisets import short_lift
from dataclasses import replace

class Damaged:
    def batch(self, *_):
        raise DataError("im00007.jpg does not decode")

try:
    settings = replace(short_lift().optimisation, workers=1)
    next(load(make_fabric("cpu"), Damaged(), settings, range(1)))
except DataError as error:
    print(error)
"""


STOPPED = """
import signal
import time
from dataclasses import replace

from minisets import short_lift
from stsp_model.training.machine import load, make_fabric

class Slow:
    def batch(self, step, *_):
        signal.pause() if step else None
        return step

signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command does
try:
    settings = replace(short_lift().optimisation, workers=1)
    batches = load(make_fabric("cpu"), Slow(), settings, range(9))
    for _ in batches:
        print("at work", flush=True)
        sum(range(10**8))  # a step, which no handler interrupts
except KeyboardInterrupt:
    time.sleep(0.1)  # where handlers run that are still due
    print("interrupted")
"""


def test_the_average_follows_all_weights_and_statistics():
    """Also of weights that were loaded, and it leaves those that are trained alone."""
    model = STSPNet(minisets.TINY)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    average = Average(model, decay=0.9)
    model.load_state_dict(STSPNet(minisets.TINY, seed=1).state_dict())
    model.epe.backbone.bn1.num_batches_tracked += 7
    end = {name: value.clone() for name, value in model.state_dict().items()}
    average.update(1)  # which keeps (1 + step) / (10 + step)
    found = average.network.state_dict()
    assert found.keys() == start.keys()
    for name, value in found.items():
        mean = start[name] * (2 / 11) + end[name] * (9 / 11)
        expected = mean if value.is_floating_point() else end[name]
        torch.testing.assert_close(value, expected)
        assert torch.equal(model.state_dict()[name], end[name])
    average.update(1000)  # now as slowly as it may
    weight = "lifter.gsr.readout_bias"
    before = start[weight] * (2 / 11) + end[weight] * (9 / 11)
    torch.testing.assert_close(found[weight], 0.9 * before + 0.1 * end[weight])


def test_what_a_worker_cannot_read_is_told_in_its_sentence():
    """In a process of its own, as a worker is forked."""
    command = [sys.executable, "-c", DAMAGED]
    told = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert told.stdout == "im00007.jpg does not decode\n", told.stderr


def test_a_signal_to_a_run_and_its_workers_is_an_interruption():
    """As `timeout` and containers send it: to all processes at once."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        os.killpg(process.pid, signal.SIGTERM)
        told, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (told, process.returncode) == ("interrupted\n", 0), error


def test_a_run_can_be_made_longer_unless_its_schedule_knows_the_end(tmp_path, cmu):
    def begin(epochs, schedule, out, resume):
        config = minisets.lift_config(epochs=epochs, steps_per_epoch=2, schedule=schedule)
        model = STSPNet(minisets.TINY)
        return train_stage(model, config, [cmu], out, resume=resume, device="cpu")

    begin(1, "plateau", tmp_path / "p", False)
    assert len(begin(2, "plateau", tmp_path / "p", True)) == 3
    begin(1, "cosine", tmp_path / "c", False)
    with pytest.raises(ConfigError, match="epochs"):
        begin(2, "cosine", tmp_path / "c", True)


def test_who_a_network_is_survives_a_stop(tmp_path, cmu):
    began = STSPNet(minisets.TINY)
    began.note, began.trained = "finder: a\nepe: b\nlift: c", True
    config = minisets.lift_config(epochs=1, steps_per_epoch=8)
    train_stage(began, config, [cmu], tmp_path, device="cpu")
    longer = minisets.lift_config(epochs=2, steps_per_epoch=8)
    train_stage(STSPNet(minisets.TINY), longer, [cmu], tmp_path, resume=True, device="cpu")
    best = load_model(tmp_path / BEST, preset=minisets.TINY)
    assert best.trained
    assert best.note.split("\n")[:-1] == ["finder: a", "epe: b", "lift: c"]


def test_a_run_goes_on_with_the_selection_it_began_with(tmp_path, cmu):
    config = minisets.lift_config(epochs=1, steps_per_epoch=2)
    train_stage(STSPNet(minisets.TINY), config, [cmu], tmp_path, [cmu], device="cpu")
    with pytest.raises(ConfigError, match="select"):
        train_stage(STSPNet(minisets.TINY), config, [cmu], tmp_path, resume=True, device="cpu")


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, cmu):
    """Before it spoils the weights, and with advice that is not refused when followed."""
    config = minisets.lift_config(epochs=1, steps_per_epoch=2)
    train_stage(STSPNet(minisets.TINY), config, [cmu], tmp_path, device="cpu")
    content = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    content["network"]["lifter.gsr.readout_bias"].fill_(float("nan"))
    torch.save(content, tmp_path / CHECKPOINT)
    longer = minisets.lift_config(epochs=2, steps_per_epoch=2)
    with pytest.raises(loop.TrainingError, match=r"nan at step 2; begin anew, .*learning_rate"):
        train_stage(STSPNet(minisets.TINY), longer, [cmu], tmp_path, resume=True, device="cpu")
    assert step(tmp_path) == 2


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path, cmu):
    config = short_lift()
    config = replace(config, optimisation=replace(config.optimisation, accumulate=3))
    with pytest.raises(ConfigError, match="16 cannot be shared by 3"):
        train_stage(STSPNet(minisets.TINY), config, [cmu], tmp_path, device="cpu")


def test_the_rate_follows_its_schedule():
    settings = short_lift().optimisation
    plateau = replace(settings, warmup_steps=10, schedule="plateau", plateau_factor=0.1)
    assert loop.learning_rate(plateau, 0, 100, 0) == pytest.approx(0.0001)
    assert loop.learning_rate(plateau, 50, 100, 2) == pytest.approx(0.00001)
    cosine = replace(settings, schedule="cosine")
    assert loop.learning_rate(cosine, 50, 100, 0) == pytest.approx(0.0005)
    assert loop.learning_rate(cosine, 100, 100, 0) == pytest.approx(0, abs=1e-12)
