"""Object arrays are read without running anything that a file asks for."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from stsp_model.data.errors import DataError
from stsp_model.data.npz import load_npz

CONTENT = {
    "S1": {"Walking 1": np.arange(12.0, dtype=np.float32).reshape(2, 2, 3)},
    "list": [np.float64(2.5), np.int64(3), "name", (1, 2), None, True],
}


class Attack:
    """Pickled as a call of os.system, as hostile files do."""

    state = None

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments, self.state


def write_objects(path, payload: bytes) -> None:
    """An .npz whose one member `data` is an object array () with this pickle."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        member, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", member.getvalue() + payload)


def test_what_numpy_saves_is_read(tmp_path):
    plain = np.arange(6).reshape(2, 3)
    np.savez_compressed(tmp_path / "a.npz", data=CONTENT, plain=plain, turned=plain.T)
    content = load_npz(tmp_path / "a.npz")
    assert (content["plain"] == plain).all()
    assert (content["turned"] == plain.T).all()
    read = content["data"]
    assert (read["S1"]["Walking 1"] == CONTENT["S1"]["Walking 1"]).all()
    assert read["list"] == CONTENT["list"]


def test_an_array_of_objects_is_read(tmp_path):
    rows = np.empty(2, object)
    rows[0], rows[1] = {"a": 1}, [1, 2]
    np.savez(tmp_path / "a.npz", rows=rows)
    assert list(load_npz(tmp_path / "a.npz")["rows"]) == [{"a": 1}, [1, 2]]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
def test_files_of_old_and_new_numpy_are_read(tmp_path, protocol, module):
    array = np.empty((), object)
    array[()] = CONTENT
    payload = pickle.dumps(array, protocol=protocol)
    if protocol < 4:  # later ones write the name's length beside it
        for name in (b"numpy.core", b"numpy._core"):
            payload = payload.replace(b"c" + name, b"c" + module)
    write_objects(tmp_path / "a.npz", payload)
    assert (load_npz(tmp_path / "a.npz")["data"]["S1"]["Walking 1"][1, 1] == [9, 10, 11]).all()


@pytest.mark.parametrize(
    ("call", "name"),
    [(os.system, "system"), (eval, "eval"), (subprocess.Popen, "subprocess.Popen")],
)
def test_a_hostile_pickle_is_refused_and_does_nothing(tmp_path, call, name):
    mark = tmp_path / "mark"
    argument = f"open({str(mark)!r}, 'w')" if call is eval else f"touch {mark}"
    array = np.empty((), object)
    array[()] = {"S1": Attack(call, argument)}
    np.savez(tmp_path / "a.npz", data=array)
    with pytest.raises(DataError, match=f"is refused: it asks for .*{name}, but only plain data"):
        load_npz(tmp_path / "a.npz")
    assert not mark.exists()


def test_loading_it_the_usual_way_would_have_run_it(tmp_path):
    """The attack of the test above is a real one."""
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Attack(os.system, f"touch {mark}")))
    assert mark.exists()


def test_even_numpy_functions_that_load_files_are_refused(tmp_path):
    write_objects(tmp_path / "a.npz", pickle.dumps(Attack(np.load, "x.npy"), protocol=2))
    with pytest.raises(DataError, match=r"asks for numpy\..*load"):
        load_npz(tmp_path / "a.npz")


def of_numpy(name):
    """One of the functions by which NumPy unpickles what it wrote."""
    return {"array": np.empty(0), "scalar": np.float64(0)}[name].__reduce__()[0]


# A type of objects that says of itself that it holds none, so that bytes pass for addresses.
BLIND = Attack(np.dtype, "O8", False, True)
BLIND.state = (3, "|", None, None, None, -1, -1, 0)


def array(shape, kind, content):
    """Pickled as an array with that state."""
    attack = Attack(of_numpy("array"), np.ndarray, (0,), b"b")
    attack.state = (1, shape, kind, False, content)
    return attack


def test_bytes_of_a_file_never_pass_for_addresses_in_memory(tmp_path):
    """In a process of its own, which without these checks each of the attacks brings down."""
    attacks = [
        array((6, 17, 3), BLIND, b"A" * 8 * 306),
        array((6, 17, 3), np.dtype("O"), [1.0]),  # NumPy reads on behind the list
        array((-1, -1), np.dtype("O"), [1.0]),
        array((-2, -4), np.dtype("f8"), b"A" * 64),
        array((2, 2), np.dtype("f8"), b"A" * 24),
        array((2,), np.dtype([("a", "O")]), b"A" * 16),
        Attack(of_numpy("scalar"), BLIND, b"A" * 8),
        Attack(np.ndarray, (6, 17, 3), BLIND, b"A" * 8 * 306),
        Attack(np.ndarray, (6, 17, 3), BLIND),
    ]
    files = [str(tmp_path / f"{number}.npz") for number in range(len(attacks))]
    for file, attack in zip(files, attacks, strict=True):
        whole = np.empty((), object)
        whole[()] = {"S1": {"Walking 1": attack}}
        write_objects(file, pickle.dumps(whole))
    code = (
        "import sys\n"
        "from stsp_model.data.npz import load_npz\n"
        "for file in sys.argv[1:]:\n"
        "    try:\n"
        "        print(load_npz(file)['data'])\n"
        "    except ValueError as error:\n"
        "        print('told:', error, flush=True)\n"
    )
    command = [sys.executable, "-c", code, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    told = done.stdout.splitlines()
    assert len(told) == len(attacks)
    assert all(line.startswith("told: ") for line in told)


@pytest.mark.parametrize("kind", [">f8", "<i2", "U3", "S3", "?", "c16"])
def test_arrays_of_all_kinds_of_numbers_and_text_come_back(tmp_path, kind):
    values = np.array([[0, 1, 2], [1, 0, 1]]).astype(kind)
    np.savez(tmp_path / "a.npz", data={"a": values, "turned": values.T, "one": values[0, 1]})
    read = load_npz(tmp_path / "a.npz")["data"]
    for name, expected in (("a", values), ("turned", values.T), ("one", values[0, 1])):
        np.testing.assert_array_equal(read[name], expected)
        assert read[name].dtype.kind == expected.dtype.kind


def test_text_is_decoded_as_latin1_alone(tmp_path):
    import _codecs

    write_objects(tmp_path / "a.npz", pickle.dumps(Attack(_codecs.encode, "x", "zip"), protocol=2))
    with pytest.raises(DataError, match="refused: text encoded as 'zip'"):
        load_npz(tmp_path / "a.npz")


def test_other_files_are_told(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_npz(tmp_path / "none.npz")
    (tmp_path / "a.npz").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"no whole .npz file"):
        load_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", data=np.random.default_rng(0).normal(size=1000))
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:4000])
    with pytest.raises(DataError, match="is it half a download"):
        load_npz(tmp_path / "b.npz")
    write_objects(tmp_path / "c.npz", pickle.dumps({"not": "an array"}, protocol=2))
    with pytest.raises(DataError, match=r"no whole .npz file"):
        load_npz(tmp_path / "c.npz")
