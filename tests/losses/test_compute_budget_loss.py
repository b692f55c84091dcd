"""The budget loss: value, gradient, several ranks, and that alone it meets the budget."""
import copy
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from processes import start_ranks
from toy import SMALL_AIG, Classifier

import mmdyn
from mmdyn.cost import CostAccount
from mmdyn.hooks import GateScheduleHook
from mmdyn.engine import leave_process_group
from mmdyn.layers.decisions import Decisions
from mmdyn.losses import ComputeBudgetLoss

SIZE = (64, 64)


class Costs:
    """An account of two blocks: 1 always runs, and the blocks cost 1 and 2 more."""

    def dense_macs(self, input_size):
        return 4

    def conditional_macs(self, input_size):
        return {'a': 1, 'b': 2}

    def batch_gmacs(self, decisions):
        dynamic = 1 + decisions.gates['a'] + 2 * decisions.gates['b']
        return dynamic, torch.full_like(dynamic, 4)


def decisions(a: torch.Tensor, b: torch.Tensor) -> Decisions:
    made = Decisions(torch.full((len(a), 2), 64), SIZE)
    made.gates.update(a=a, b=b)
    return made


def test_value_and_gradient():
    a = torch.tensor([1., 0., 1., 1.], requires_grad=True)
    b = torch.tensor([0., 0., 1., 1.], requires_grad=True)
    loss = ComputeBudgetLoss(target=0.5, loss_weight=3.0)(decisions(a, b), Costs())
    ratio = (2 + 1 + 4 + 4) / 16
    assert loss.item() == pytest.approx(3 * (ratio - 0.5)**2)
    loss.backward()
    wanted = 3 * 2 * (ratio - 0.5) / 16
    assert a.grad.tolist() == pytest.approx([wanted] * 4)
    assert b.grad.tolist() == pytest.approx([2 * wanted] * 4)


def test_nothing_to_leave_out_is_no_loss():
    backbone = MODELS.build(dict(type='mmdyn.AIGResNet', depth=18, base_channels=8, target_rates=1))
    backbone.eval()(torch.randn(1, 3, *SIZE))
    assert ComputeBudgetLoss(target=0.5)(backbone.decisions, CostAccount(backbone)) is None


@pytest.mark.parametrize('target, learns, why', [
    (0.2, True, '0.250 of the dense cost is that of what always runs'),
    (0.5, False, 'no decision has a gradient (frozen gates, or confidence gates)'),
])
def test_a_target_out_of_reach_is_named_once(target, learns, why, recwarn):
    loss = ComputeBudgetLoss(target=target)
    made = decisions(*(torch.ones(2, requires_grad=learns) for _ in 'ab'))
    with torch.no_grad():
        loss(made, Costs())  # nothing is to be learned here
    for _ in range(2):
        loss(made, Costs())
    messages = [str(w.message) for w in recwarn if 'ComputeBudgetLoss' in str(w.message)]
    assert messages == [f'ComputeBudgetLoss has target {target}, but {why}; the target cannot be reached']


def test_attached_it_reaches_the_loss_dict_and_every_gate():
    model = Classifier(copy.deepcopy(SMALL_AIG)).train()
    mmdyn.attach(model, [dict(type='mmdyn.ComputeBudgetLoss', target=0.9)])
    samples = [BaseDataElement(label=n % 2) for n in range(4)]
    losses = model(torch.randn(4, 3, 16, 16), samples, mode='loss')
    losses['loss_compute_budget'].backward()
    for gate in model.backbone.deciders():
        assert gate.fc2.bias.grad.abs().sum() > 0


@pytest.mark.parametrize('node', ['branch', 'block'])
def test_every_router_of_a_wired_backbone_gets_gradient(node):
    backbone = MODELS.build(dict(type='mmdyn.DGResNet', depth=50, base_channels=8, node=node)).train()
    backbone.losses_attached = True
    backbone(torch.randn(2, 3, *SIZE))
    ComputeBudgetLoss(target=0.5)(backbone.decisions, CostAccount(backbone)).backward()
    for name, stage in backbone.stages():
        # The last node leads to the output alone, which always runs.
        for block in list(stage)[:-1]:
            assert block.router.bias.grad.abs().sum() > 0, name


@pytest.mark.parametrize('options, error, message', [
    (dict(target=0), ValueError, 'target must be above 0, got 0'),
    (dict(target=1.2), ValueError, r'target must lie in \[0.0, 1.0\], got 1.2'),
    (dict(target=float('nan')), ValueError, 'target'),
    (dict(target='half'), TypeError, "target must be a number .* got 'half'"),
    (dict(target=0.5, loss_weight=-1), ValueError, 'loss_weight must lie'),
])
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        ComputeBudgetLoss(**options)


def _gradient_of_a_share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank,
                                         world_size=2)
    share = slice(0, 3) if rank == 0 else slice(3, 4)
    gates = GATES.clone().requires_grad_()
    loss = ComputeBudgetLoss(target=0.5)(decisions(*gates[:, share]), Costs())
    loss.backward()
    torch.save((loss.detach(), gates.grad), Path(folder, f'{rank}.pth'))
    leave_process_group()


GATES = torch.tensor([[1., 0, 1, 1], [1, 1, 0, 1]])


@pytest.mark.slow
@pytest.mark.e2e
def test_two_ranks_with_three_images_and_one_are_one_process_with_four(tmp_path):
    gates = GATES.clone().requires_grad_()
    loss = ComputeBudgetLoss(target=0.5)(decisions(*gates), Costs())
    loss.backward()
    start_ranks(_gradient_of_a_share, str(tmp_path))
    shares = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    for value, _ in shares:
        torch.testing.assert_close(value, loss.detach())
    # DDP averages the gradients of the ranks.
    torch.testing.assert_close((shares[0][1] + shares[1][1]) / 2, gates.grad)


def pictures(count: int) -> torch.Tensor:
    """Noise of many contrasts and colours, so that gates and routers can tell images apart."""
    return torch.randn(count, 3, 32, 32) * torch.rand(count, 1, 1, 1) + torch.randn(count, 3, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize('target', [0.5, 0.7, 0.9])
@pytest.mark.parametrize('backbone', [dict(type='mmdyn.AIGResNet', depth=18), dict(type='mmdyn.DGResNet', depth=34),
                                      dict(type='mmdyn.DGResNet', depth=34, node='block'),
                                      dict(type='mmdyn.DGResNet', depth=34, node_gates=True)],
                         ids=['AIG', 'DG-branch', 'DG-block', 'DG-gates'])
def test_alone_it_brings_the_measured_cost_to_the_target(backbone, target):
    three_stages = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2, ))
    backbone = MODELS.build(dict(backbone, base_channels=8, norm_eval=False, **three_stages)).train()
    backbone.losses_attached = True
    with torch.no_grad():
        for _ in range(20):
            backbone(pictures(64))
    # From here on the norms stay as they are: at evaluation, others would give other decisions.
    backbone.norm_eval = True
    backbone.train()
    account, loss, iterations = CostAccount(backbone), ComputeBudgetLoss(target=target), 200
    optimizer = torch.optim.SGD(backbone.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    noise = GateScheduleHook(end=0.5)
    for step in range(iterations):
        for gate in backbone.gates().values():
            gate.noise = noise.value_at(step / iterations)
        backbone(pictures(16))
        optimizer.zero_grad()
        loss(backbone.decisions, account).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        backbone.eval()(pictures(512))
    costs = account.images(backbone.decisions)
    measured = sum(cost.macs for cost in costs) / sum(cost.dense_macs for cost in costs)
    assert abs(measured - target) < 0.02, measured
