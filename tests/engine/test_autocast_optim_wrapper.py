import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


def build(model: nn.Module):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return OPTIM_WRAPPERS.build(dict(type='mmdyn.AutocastOptimWrapper', optimizer=optimizer))


def test_the_forward_pass_is_bfloat16_and_the_parameters_are_not():
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    wrapper = build(model)
    with wrapper.optim_context(model):
        output = model(torch.randn(3, 4))
    assert output.dtype == torch.bfloat16
    assert model(torch.randn(3, 4)).dtype == torch.float32
    wrapper.update_params(output.float().square().sum())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)
