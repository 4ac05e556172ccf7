"""The mean of two lifters lies where it should, and nothing else of the network moves."""

import pytest
import torch

from stsp_model.checkpoint import load_model, save
from stsp_model.network import STSPNet
from stsp_model.training import mean


@pytest.mark.parametrize("share", [0.5, 0.25, 1.0])
def test_the_lifter_lies_between_and_the_rest_is_that_after(tmp_path, share):
    before, after = STSPNet(seed=1), STSPNet(seed=2)
    after.trained = True
    after.note = "finetune: done"
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("before", "after", "out")]
    save(before, paths[0])
    save(after, paths[1])
    mean.main(*paths, *([] if share == 0.5 else [str(share)]))
    result = load_model(paths[2])
    first, second = before.state_dict(), after.state_dict()
    for name, value in result.state_dict().items():
        expected = second[name]
        if name.startswith("lifter."):
            expected = share * first[name] + (1 - share) * second[name]
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)
    assert result.trained
    assert result.note.split("\n")[0] == "finetune: done"


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(ValueError, match="three files"):
        mean.main("one")
    for share in ("1.5", "half"):
        with pytest.raises(ValueError, match="SHARE"):
            mean.main("before", "after", "out", share)
    with pytest.raises(OSError, match=r"nowhere\.safetensors"):
        mean.main("edge.safetensors", str(tmp_path / "nowhere.safetensors"), "out")
