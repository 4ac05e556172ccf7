"""The mean of two networks lies where it should, and what is not asked for does not move."""

import pytest
import torch

from stsp_model.checkpoint import load_model, save
from stsp_model.network import STSPNet
from stsp_model.training.mean import main


@pytest.mark.parametrize(
    ("options", "share", "modules"),
    [
        ([], 0.5, ("lifter.",)),
        (["--share", "0.25", "--modules", "epe", "lifter"], 0.25, ("epe.", "lifter.")),
        (["--share", "1"], 1.0, ("lifter.",)),
    ],
)
def test_modules_lie_between_and_the_rest_is_that_after(tmp_path, options, share, modules):
    before, after = STSPNet(seed=1), STSPNet(seed=2)
    after.trained = True
    after.note = "finetune: done"
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("before", "after", "out")]
    save(before, paths[0])
    save(after, paths[1])
    main([*paths, *options])
    result = load_model(paths[2])
    first, second = before.state_dict(), after.state_dict()
    for name, value in result.state_dict().items():
        expected = second[name]
        if name.startswith(modules) and value.is_floating_point():
            expected = share * first[name] + (1 - share) * second[name]
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)
    assert result.trained
    assert result.note.split("\n")[0] == "finetune: done"


def test_what_does_not_fit_is_said(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["one"])
    assert "AFTER, OUT" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        main(["before", "after", "out", "--share", "1.5"])
    with pytest.raises(OSError, match=r"nowhere\.safetensors"):
        main(["edge.safetensors", str(tmp_path / "nowhere.safetensors"), "out"])
