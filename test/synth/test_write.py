"""Sets on disk: the same bytes however they were rendered, resumed, or spread over processes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from figures import write_dancers
from ruamel.yaml import YAML

from stsp_model.bag import BagReader
from stsp_model.cli import main
from stsp_model.data.errors import DataError
from stsp_model.data.shards import INDEX_FILE, load_clip
from stsp_model.lock import locked
from stsp_model.skeleton import INDEX, JOINTS
from stsp_model.sources import open_source
from stsp_model.synth import write
from stsp_model.synth.bag import CAMERA_INFO_TOPIC, IMAGE_TOPIC, TRUTH_TOPIC, write_bag
from stsp_model.synth.clips import ClipSettings, make_clip, open_takes
from stsp_model.synth.write import Job, render_set

SETTINGS = ClipSettings(7, "train", width=64, height=64, frames=8, samples=1)


@pytest.fixture(scope="module")
def mocap(tmp_path_factory):
    return write_dancers(tmp_path_factory.mktemp("mocap"))


@pytest.fixture(scope="module")
def job(mocap, tmp_path_factory):
    """A set of three clips, rendered by two processes."""
    job = Job(tmp_path_factory.mktemp("sets") / "two", (mocap,), SETTINGS)
    tally = render_set(job, clips=3, workers=2, quiet=True)
    assert (tally.clips, tally.frames, tally.kept) == (3, 24, 0)
    return job


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_one_process_and_a_second_run_write_the_same_bytes(job, tmp_path):
    """The second job stopped while it wrote its second clip, and another is told to go on."""
    other = replace(job, out=tmp_path / "one")
    other.out.mkdir()
    whole = contents(job.out)
    for name in (INDEX_FILE, "000000.safetensors"):
        (other.out / name).write_bytes(whole[name])
    part = other.out / ".000001.safetensors.part"
    part.write_bytes(whole["000001.safetensors"][:1000])
    before = other.path(0).stat().st_mtime_ns
    tally = render_set(other, clips=3, workers=1, quiet=True)
    assert (tally.clips, tally.kept) == (2, 1)
    assert other.path(0).stat().st_mtime_ns == before
    assert contents(other.out) == whole


def test_a_finished_set_is_left_alone(job):
    tally = render_set(job, clips=3, quiet=True)
    assert (tally.clips, tally.frames, tally.kept) == (0, 0, 3)


def test_clips_do_not_depend_on_the_process(job, mocap):
    ours = make_clip(2, SETTINGS, open_takes([mocap], "train"))
    stored = load_clip(job.path(2))
    assert list(stored.jpegs) == list(ours.jpegs)
    np.testing.assert_allclose(stored.joints_3d, ours.joints_3d, atol=1e-6)


def test_what_a_set_is_stands_beside_it(job):
    about = json.loads((job.out / INDEX_FILE).read_text())
    assert about["split"] == "train"
    assert about["seed"] == 7
    assert about["motions"] == ["01_01"]
    assert "mocap.cs.cmu.edu" in about["credits"]


def test_other_settings_do_not_mix(job):
    with pytest.raises(DataError, match=r"other settings \(seed\)"):
        render_set(replace(job, settings=replace(SETTINGS, seed=8)), clips=3, quiet=True)


def test_a_set_from_before_a_setting_came_is_gone_on_with_as_it_was(job, tmp_path):
    older = replace(job, out=tmp_path / "older")
    shutil.copytree(job.out, older.out)
    about = json.loads((older.out / INDEX_FILE).read_text())
    del about["tumbled"]
    (older.out / INDEX_FILE).write_text(json.dumps(about))
    assert render_set(older, clips=3, workers=1, quiet=True).kept == 3
    with pytest.raises(DataError, match=r"other settings \(tumbled\)"):
        render_set(
            replace(older, settings=replace(SETTINGS, tumbled=0.5)), clips=3, workers=1, quiet=True
        )


def test_a_folder_of_something_else_is_left_alone(job, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other files"):
        render_set(replace(job, out=tmp_path), clips=1, quiet=True)
    assert (tmp_path / "letter.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["[]", "3", '{"seed": 7', "[" * 100_000])
def test_a_damaged_description_is_told(job, tmp_path, content):
    (tmp_path / INDEX_FILE).write_text(content)
    with pytest.raises(DataError, match=rf"{INDEX_FILE} is damaged; remove {tmp_path} to render"):
        render_set(replace(job, out=tmp_path), clips=1, quiet=True)


def test_two_processes_do_not_write_the_same_files(job):
    with (
        locked(job.out),  # as another process that renders holds it
        pytest.raises(BlockingIOError, match=f"another process writes into {job.out}"),
    ):
        render_set(job, clips=3, quiet=True)
    assert render_set(job, clips=3, quiet=True).kept == 3


@pytest.mark.parametrize(("clips", "workers"), [(0, 1), (1, 0)])
def test_no_clips_or_workers_are_refused(job, clips, workers):
    with pytest.raises(ValueError, match="is 0, expected at least 1"):
        render_set(job, clips, workers, quiet=True)


def test_an_unknown_format_is_told(tmp_path):
    with pytest.raises(ValueError, match="format is 'avi'"):
        Job(tmp_path, (), SETTINGS, "avi")


@pytest.fixture(scope="module")
def clip(mocap):
    settings = replace(SETTINGS, people=(2, 2))
    return make_clip(1, settings, open_takes([mocap], "train"))


def test_a_bag_holds_what_a_camera_publishes_and_the_truth(clip, tmp_path):
    write_bag(tmp_path / "bag", clip)
    source = open_source(tmp_path / "bag")
    frames = list(source.frames())
    assert [f.stamp for f in frames] == np.rint(clip.stamps * 1e9).astype(int).tolist()
    np.testing.assert_array_equal(frames[3].image, clip.image(3))
    assert frames[0].camera_info.k == pytest.approx(clip.camera.K.ravel())
    with BagReader(tmp_path / "bag") as reader:
        assert {t.name: t.count for t in reader.topics.values()} == dict.fromkeys(
            (CAMERA_INFO_TOPIC, IMAGE_TOPIC, TRUTH_TOPIC), 8
        )
        truth = [reader.decode(record) for record in reader.records([TRUTH_TOPIC])]
    skeleton = truth[5].skeletons[1]
    assert truth[5].joint_names == list(JOINTS)
    assert skeleton.height == pytest.approx(clip.heights[1])
    root = np.array([skeleton.root.x, skeleton.root.y, skeleton.root.z])
    wrist = skeleton.joints[INDEX["left_wrist"]].offset
    place = root + np.array([wrist.x, wrist.y, wrist.z])
    assert place == pytest.approx(clip.joints_3d[5, 1, INDEX["left_wrist"]])
    flat = skeleton.joints_2d[INDEX["nose"]]
    assert [flat.u, flat.v] == pytest.approx(clip.joints_2d[5, 1, INDEX["nose"]], rel=1e-5)
    assert [k.confidence for k in skeleton.joints_2d] == clip.visible[5, 1].astype(float).tolist()


def test_a_bag_says_whose_motions_it_holds(clip, tmp_path):
    write_bag(tmp_path / "bag", clip)
    text = (tmp_path / "bag" / "metadata.yaml").read_text(encoding="utf-8")
    about = YAML(typ="safe").load(text)["rosbag2_bagfile_information"]["custom_data"]
    assert about["motions"] == "01_01, 01_01"
    assert "mocap.cs.cmu.edu" in about["credits"]


def test_a_bag_has_the_same_bytes_twice(clip, tmp_path):
    for name in "ab":
        write_bag(tmp_path / name / "clip", clip)
    assert contents(tmp_path / "a" / "clip") == contents(tmp_path / "b" / "clip")


def test_the_command_says_what_is_wrong(mocap, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["synth", out, "--mocap", str(tmp_path / "no"), "--clips", "1"]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert main(["synth", out, "--mocap", str(mocap), "--clips", "1", "--size", "8"]) == 1
    assert "width is 8" in capsys.readouterr().err
    assert main(["synth", out, "--mocap", str(mocap), "--clips", "0"]) == 1
    assert "clips is 0" in capsys.readouterr().err
    assert main(["synth", out, "--mocap", str(mocap), "--frames", "0"]) == 1
    assert "frames is 0" in capsys.readouterr().err
    for length in ("4", "20000"):
        arguments = ["--mocap", str(mocap), "--clips", "1", "--clip-length", length]
        assert main(["synth", out, *arguments]) == 1
        assert f"clip-length is {length}, expected 8 to 10000" in capsys.readouterr().err
    for option in ("mixed", "tumbled"):
        assert main(["synth", out, "--mocap", str(mocap), "--clips", "1", f"--{option}", "2"]) == 1
        assert f"{option} is 2.0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["synth", out, "--mocap", str(mocap), "--clips", "1", "--size", "big"])
    assert "'big' is no size" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_goes_on_with_a_set(job, mocap, capsys):
    arguments = ["--seed", "7", "--size", "64", "--clip-length", "8", "--samples", "1"]
    done = main(["synth", str(job.out), "--mocap", str(mocap), "--frames", "17", *arguments])
    assert done == 0
    assert "3 clips were there already" in capsys.readouterr().out


def test_without_the_extra_the_command_names_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["synth", str(tmp_path), "--mocap", ".", "--clips", "1"]) == 1
    assert "pip install '.[synth]' in stsp's checkout" in capsys.readouterr().err


def test_ctrl_c_does_not_reach_a_worker_that_starts():
    with write._without_interrupts():
        blocked = subprocess.run(["grep", "SigBlk", "/proc/self/status"], capture_output=True)
    free = subprocess.run(["grep", "SigBlk", "/proc/self/status"], capture_output=True)
    masks = [int(found.stdout.split()[1], 16) for found in (blocked, free)]
    assert [mask >> (signal.SIGINT - 1) & 1 for mask in masks] == [1, 0]
