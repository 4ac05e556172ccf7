"""Of many bags each is replayed once, whatever becomes of the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bags import film

from stsp_model import cli
from stsp_model.replay.batch import Job, attempt, on_ray, plan
from stsp_model.replay.options import Options, ReplayError
from stsp_model.replay.run import METRICS, RECORD, REPORT


def two_and_a_broken_one(folder: Path) -> list[Path]:
    """a, b and c, of which b is cut off."""
    whole = [film(folder / name, frames=2) for name in ("a", "c")]
    (file,) = whole[0].glob("*.mcap")
    broken = folder / "b.mcap"
    broken.write_bytes(file.read_bytes()[:1000])
    return [whole[0], broken, whole[1]]


def replayed(bags: list[Path], out: Path, *more: str) -> int:
    return cli.main(["replay", *map(str, bags), "-o", str(out), *more])


def test_each_of_several_bags_gets_a_folder() -> None:
    out = Path("out")
    assert plan([Path("x/run.mcap")], out) == [Job(Path("x/run.mcap"), out)]
    assert [job.out for job in plan([Path("x/a.mcap"), Path("y/b"), Path("c.v2.db3")], out)] == [
        out / "a",
        out / "b",
        out / "c.v2",
    ]
    with pytest.raises(ReplayError, match=r"x/run\.mcap and y/run would both go to out/run"):
        plan([Path("x/run.mcap"), Path("y/run")], out)


def test_several_bags_do_not_go_where_one_has_gone(tmp_path: Path) -> None:
    (tmp_path / RECORD).touch()
    with pytest.raises(ReplayError, match="holds the replay of one bag"):
        plan([Path("a"), Path("b")], tmp_path)
    assert plan([Path("a")], tmp_path) == [Job(Path("a"), tmp_path)]


def test_a_failing_bag_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags, out = two_and_a_broken_one(tmp_path), tmp_path / "out"
    assert replayed(bags, out) == 1
    told = capsys.readouterr()
    assert "b.mcap: bag" in told.err
    assert "if it is cut off or damaged" in told.err
    rows = [line.split() for line in told.out.splitlines()]
    assert [row[:2] for row in rows[2:5]] == [
        ["a", "complete"],
        ["b.mcap", "failed"],
        ["c", "complete"],
    ]
    assert rows[5][0] == "mean"
    summary = json.loads((out / "summary.json").read_text())["bags"]
    assert [bag["status"] for bag in summary] == ["complete", "failed", "complete"]
    assert "cut off" in summary[1]["error"]
    assert summary[0]["metrics"] == json.loads((out / "a" / METRICS).read_text())
    page = (out / "summary.html").read_text()
    assert [f'href="{name}/{REPORT}"' in page for name in ("a", "b", "c")] == [True, False, True]
    assert "if it is cut off" in page

    written = {name: (out / name / METRICS).stat().st_mtime_ns for name in ("a", "c")}
    mended = film(tmp_path / "mended" / "b", frames=2)
    assert replayed([bags[0], mended, bags[2]], out) == 0
    assert {name: (out / name / METRICS).stat().st_mtime_ns for name in written} == written
    statuses = [bag["status"] for bag in json.loads((out / "summary.json").read_text())["bags"]]
    assert statuses == ["complete"] * 3


def test_an_unforeseen_failure_is_recorded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("stsp_model.replay.batch.replay", fail)
    result = attempt(Job(tmp_path / "bag", tmp_path / "out"), Options())
    assert (result.error, result.status) == ("KeyError: 'surprise'", "failed")


def test_one_bag_that_fails_has_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replayed([tmp_path / "none.mcap"], tmp_path / "out") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "none.mcap does not exist" in told.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags, file = two_and_a_broken_one(tmp_path), tmp_path / "file"
    file.touch()
    assert replayed(bags, file / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"stsp replay: [Errno 20] Not a directory: '{file / 'out'}'"
    # The place of the summary is taken by what is no file.
    (tmp_path / "taken" / "summary.json").mkdir(parents=True)
    assert replayed([bags[1], tmp_path / "none.mcap"], tmp_path / "taken") == 1
    assert "stsp replay: [Errno 21] Is a directory" in capsys.readouterr().err


def test_a_cluster_without_its_engine_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = film(tmp_path / "bag", frames=1)
    assert replayed([bag], tmp_path / "out", "--address", "127.0.0.1:6379") == 1
    assert "--address is of a cluster of Ray: add --engine ray" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a cluster of one core on this machine."""
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    from ray.cluster_utils import Cluster

    own = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield own.address
    finally:
        own.shutdown()


@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_on_a_cluster_too(tmp_path: Path, cluster: str, capsys: pytest.CaptureFixture[str]) -> None:
    bags, out = two_and_a_broken_one(tmp_path), tmp_path / "out"
    command = ("--engine", "ray", "--address", cluster)
    assert replayed(bags, out, *command) == 1
    summary = json.loads((out / "summary.json").read_text())["bags"]
    assert [bag["status"] for bag in summary] == ["complete", "failed", "complete"]
    assert "cut off" in summary[1]["error"]
    assert "b.mcap: bag" in capsys.readouterr().err

    # The same skeletons as without it; and what is complete is not run again.
    written = (out / "a" / METRICS).stat().st_mtime_ns
    assert replayed([bags[0], bags[2]], out, *command) == 0
    assert (out / "a" / METRICS).stat().st_mtime_ns == written

    # A stop leaves the rest to the next time.
    late = [film(tmp_path / "late" / name, frames=30) for name in ("d", "e")]
    jobs = plan(late, tmp_path / "late_out")
    assert list(on_ray(jobs, Options(), lambda: True, bar=False, address=cluster)) == []
    assert not any((job.out / METRICS).exists() for job in jobs)


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    jobs = [Job(tmp_path / "bag", tmp_path / "out")]
    with pytest.raises(ReplayError, match=r"no cluster of Ray at 127\.0\.0\.1:1: .*refused"):
        list(on_ray(jobs, Options(), lambda: False, bar=False, address="127.0.0.1:1"))
