"""Gates and routers under autocast: 1,000 steps with inputs up to 10^4, and no NaN."""
import os

import pytest
import torch
from mmengine.utils import digit_version
from toy import SMALL_AIG

from mmdyn.layers.gate import Gate
from mmdyn.layers.router import Router
from mmdyn.registry import MODELS

# Of a whole backbone; half precision is slow on CPUs.
STEPS = 1000 if os.environ.get('MMDYN_TEST_ALL') else 50
SMALL_DG = {key: value for key, value in SMALL_AIG.items() if key != 'type'} | dict(type='mmdyn.DGResNet')
HALF = [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.3'), reason='it autocasts to bfloat16 alone on CPUs'))]


def assert_finite(*tensors: torch.Tensor) -> None:
    assert all(tensor.isfinite().all() for tensor in tensors)


def inputs(step: int, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Noise whose scale goes from 10^-4 to 10^4 and back, again and again."""
    return (torch.randn(shape) * 10.0**(8 * abs(step / 50 % 2 - 1) - 4)).to(dtype)


@pytest.mark.parametrize('dtype', HALF, ids=str)
@pytest.mark.parametrize('layer', [
    Gate(32), Gate(32, norm='BN'), Gate(32, norm=None), Router(32, [1.0] * 4, scale=2.0),
    Router(32, [1.0] * 4, scale=2.0, norm='LN', dynamic=1.0), Router(32, [1.0] * 4, scale=2.0, norm='BN'),
], ids=['gate, LN', 'gate, BN', 'gate, no norm', 'router', 'router, LN', 'router, BN'])
def test_a_gate_or_router_stays_finite(layer, dtype):
    layer.train()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    for step in range(1000):
        with torch.autocast('cpu', dtype=dtype):
            out = layer(inputs(step, dtype, 4, 32))
            values = (out.decision, out.logit) if isinstance(layer, Gate) else (out, )
            loss = (values[0].float().mean() - 0.5).square()
        optimizer.zero_grad()
        loss.backward()
        assert all(value.dtype == torch.float32 for value in values)
        assert_finite(*values, *(p.grad for p in layer.parameters()))
        optimizer.step()
    assert_finite(*layer.parameters(), *layer.buffers())


@pytest.mark.slow
@pytest.mark.parametrize('dtype', HALF, ids=str)
@pytest.mark.parametrize('options', [
    dict(SMALL_AIG, target_rates=0.5), SMALL_DG, dict(SMALL_DG, node_gates=True, node='block', column_bound=1.0),
], ids=['AIG', 'DG', 'DG with gates'])
def test_decisions_of_a_backbone_stay_finite(options, dtype):
    """The decisions, not the features: those of a tiny net without a loss scale may overflow, and gates must bear it."""
    backbone = MODELS.build(options)
    backbone.losses_attached = True
    backbone.train()
    parameters = [p for decider in backbone.deciders() for p in decider.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for step in range(STEPS):
        with torch.autocast('cpu', dtype=dtype):
            backbone(inputs(step, torch.float32, 2, 3, 8, 8))
        decisions = backbone.decisions
        found = [*decisions.gates.values(), *decisions.gate_logits.values(), *decisions.adjacency.values()]
        assert_finite(*found)
        optimizer.zero_grad()
        sum((value.mean() - 0.5).square() for value in found).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    assert_finite(*parameters)
