"""Sum, activation and average in pieces equal the three operations one after the other."""
import pytest
import torch

from mmdyn.functional import residual_sum as module
from mmdyn.functional.residual_sum import residual_sum

CELLS = (4, 3)


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('sources', ['both', 'branch', 'shortcut', 'in place'])
@pytest.mark.parametrize('piece', [1, 40, 1 << 17])
def test_equals_the_operations_one_by_one(monkeypatch, channels_last, sources, piece):
    monkeypatch.setattr(module, '_PIECE', piece)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    branch, shortcut, out = (
        torch.randn(1, 7, 6, 5, dtype=torch.float64).contiguous(memory_format=memory_format)[0] for _ in range(3))
    branch = None if sources == 'shortcut' else branch
    shortcut = None if sources == 'branch' else shortcut
    wanted = sum(source for source in (branch, shortcut) if source is not None).relu()
    if sources == 'in place':
        out = shortcut
    pooled = torch.empty(7, dtype=torch.float64)
    residual_sum(out, branch, shortcut, activation=torch.relu_, cells=CELLS, pooled=pooled)
    assert torch.equal(out, wanted)
    assert torch.allclose(pooled, wanted[:, :4, :3].mean(dim=(1, 2)), rtol=1e-14)
