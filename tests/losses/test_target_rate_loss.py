"""The target-rate loss: value, gradient, window, and that it moves gates to their targets."""
from collections import OrderedDict

import pytest
import torch

from mmdyn.layers.decisions import Decisions
from mmdyn.layers.gate import Gate
from mmdyn.losses import TargetRateLoss


def decisions(gates: dict, targets: dict) -> Decisions:
    n = len(next(iter(gates.values())))
    out = Decisions(torch.full((n, 2), 8), (8, 8), targets)
    out.gates = OrderedDict(gates)
    return out


def test_value_and_gradient():
    z = torch.tensor([1.0, 1.0, 0.0, 1.0], requires_grad=True)
    free = torch.zeros(4, requires_grad=True)
    loss = TargetRateLoss(loss_weight=2.0)(decisions({'a': z, 'b': free}, {'a': 0.5}))
    assert loss.item() == pytest.approx(2 * 0.25**2)
    loss.backward()
    torch.testing.assert_close(z.grad, torch.full((4, ), 2 * 2 * 0.25 / 4))
    assert not free.grad.any()  # a gate without a target has no loss


def test_no_loss_without_targets():
    assert TargetRateLoss()(decisions({'a': torch.ones(2)}, {})) is None


def test_window_averages_the_rate_and_keeps_the_gradient_of_the_batch():
    loss = TargetRateLoss(window=2)
    loss(decisions({'a': torch.ones(2)}, {'a': 0.5}))
    z = torch.zeros(2, requires_grad=True)
    value = loss(decisions({'a': z}, {'a': 0.25}))
    assert value.item() == pytest.approx((0.5 - 0.25)**2)  # the mean of rates 1 and 0
    value.backward()
    torch.testing.assert_close(z.grad, torch.full((2, ), 2 * 0.25 / 2))


def test_a_restored_window_continues():
    one = TargetRateLoss(window=3)
    for rate in (1.0, 0.0, 1.0):
        one(decisions({'a': torch.tensor([rate])}, {'a': 0.5}))
    two = TargetRateLoss(window=3)
    two.load_state_dict(one.state_dict())
    batch = decisions({'a': torch.tensor([1.0])}, {'a': 0.5})
    assert one(batch) == two(batch) == pytest.approx((2 / 3 - 0.5)**2)


@pytest.mark.parametrize('options', [dict(loss_weight=-1), dict(window=0), dict(window=1.5),
                                     dict(loss_weight=float('nan'))])
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TargetRateLoss(**options)


def test_alone_it_brings_every_gate_to_its_target():
    targets = {str(i): t for i, t in enumerate([0.3, 0.5, 0.9] * 2)}
    gates = torch.nn.ModuleDict({name: Gate(32) for name in targets})
    loss = TargetRateLoss()
    optimizer = torch.optim.SGD(gates.parameters(), lr=0.5)
    for step in range(200):
        batch = decisions({n: g(torch.rand(256, 32))[0] for n, g in gates.items()}, targets)
        optimizer.zero_grad()
        loss(batch).backward()
        if step == 0:  # no gate starts at its target
            for parameter in gates.parameters():
                assert parameter.grad.abs().sum() > 0
        optimizer.step()
    with torch.no_grad():
        for name, gate in gates.items():
            rate = gate(torch.rand(20_000, 32))[0].mean().item()
            assert abs(rate - targets[name]) < 0.03
