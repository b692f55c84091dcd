"""Taught gates: they learn what closing costs, share one threshold, and meet their rate together."""
import pytest
import torch

from mmdyn.backbones import AIGResNet
from mmdyn.backbones.backbone_gates import BackboneGates
from mmdyn.cost import CostAccount
from mmdyn.layers.decisions import Decisions
from mmdyn.layers.gate import Gate
from mmdyn.losses import TaughtGateLoss

SMALL = dict(depth=18, base_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1, ),
             target_rates=[1, 0.5, 1, 0.5], gate=dict(estimator='taught'))


def backbone_and_account():
    torch.manual_seed(0)
    backbone = AIGResNet(**SMALL).double()
    backbone.losses_attached = True
    return backbone, CostAccount(backbone)


def test_the_deviance_is_least_where_the_gates_expect_the_damage():
    backbone, account = backbone_and_account()
    images = torch.randn(6, 3, 32, 32).double()
    backbone(images)
    decisions = backbone.decisions
    shares = account.conditional_macs((32, 32))
    shares = {name: macs / sum(shares.values()) for name, macs in shares.items()}
    logits = {name: torch.randn(6).double().requires_grad_() for name in decisions.gates}
    decisions.gate_logits.update(logits)
    closed = {name: 1 - gate for name, gate in decisions.gates.items()}
    damage = sum(closed[name] * shares[name] * logits[name].detach().exp() for name in logits)
    unit = damage.mean() / sum(closed[name] * shares[name] for name in logits).mean()
    decisions.damage = damage * 7  # whatever the unit of the measurement is
    scaled = {name: (logit.detach() - unit.log()).requires_grad_() for name, logit in logits.items()}
    decisions.gate_logits.update(scaled)
    TaughtGateLoss()(decisions, account).backward()
    for logit in scaled.values():
        torch.testing.assert_close(logit.grad, torch.zeros(6).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize('gate, said', [(dict(), "is a Gate with estimator='straight_through'"),
                                        (dict(num_classes=3), 'is a ConfidenceGate, which')])
def test_gates_that_are_not_taught_are_refused(gate, said):
    rates = None if 'num_classes' in gate else [1, 0.5, 1, 0.5]
    backbone = AIGResNet(**{**SMALL, 'gate': gate, 'target_rates': rates})
    backbone.losses_attached = True
    backbone(torch.randn(2, 3, 32, 32))
    backbone.decisions.damage = torch.ones(2)
    with pytest.raises(ValueError, match=r"expects gate=dict\(estimator='taught'\).*" + said):
        TaughtGateLoss()(backbone.decisions, CostAccount(backbone))


def test_no_gradient_goes_through_a_taught_decision():
    gate = Gate(4, estimator='taught', target_rate=0.5)
    decision, logit, _ = gate(torch.randn(8, 4))
    assert not decision.requires_grad and logit.requires_grad


class Gates(BackboneGates):
    """A backbone that is nothing but taught gates."""

    def __init__(self, gates, targets):
        super().__init__()
        self._gates = gates
        self._target_rates = dict(zip(gates, targets))
        self.decisions = None

    def gates(self):
        return self._gates

    def hear(self, logits):
        """Calibrates by (G, N) logits."""
        self.decisions = Decisions(torch.full((logits.shape[1], 2), 32), (32, 32))
        self.decisions.gate_logits.update(zip(self._gates, logits))
        self.calibrate()


def known_gates():
    torch.manual_seed(0)
    return {name: Gate(4, estimator='taught', target_rate=0.5) for name in ('layer1.1', 'layer2.1')}


def train_where_damage_is_known(gates, steps, lr=0.01):
    """Closing layer2.1 harms images of the first kind alone, closing layer1.1, as expensive, none."""
    account, loss, backbone = CostAccount(AIGResNet(**SMALL)), TaughtGateLoss(), Gates(gates, [0.5, 0.5])
    macs = account.conditional_macs((32, 32))
    assert macs['layer1.1'] == macs['layer2.1']
    optimiser = torch.optim.Adam([p for gate in gates.values() for p in gate.parameters()], lr=lr)
    for _ in range(steps):
        kind = torch.randint(0, 2, (32, 1)).float()
        pooled = torch.cat([kind, torch.randn(32, 3)], dim=1)
        decisions = Decisions(torch.full((32, 2), 32), (32, 32))
        for name, gate in gates.items():
            decisions.gates[name], decisions.gate_logits[name], _ = gate(pooled)
        decisions.damage = (1 - decisions.gates['layer2.1']) * (0.1 + 2 * kind[:, 0]) + 0.01 * torch.rand(32)
        optimiser.zero_grad()
        loss(decisions, account).backward()
        optimiser.step()
        backbone.hear(torch.stack([*decisions.gate_logits.values()]).detach())


def test_gates_learn_which_images_closing_harms():
    gates = known_gates()
    train_where_damage_is_known(gates, steps=300)
    torch.manual_seed(1)
    pooled = torch.cat([torch.arange(200).remainder(2)[:, None].float(), torch.randn(200, 3)], dim=1)
    first, second = (gate.eval()(pooled)[1].detach() for gate in gates.values())
    assert second[1::2].min() > second[::2].max() > first.max()
    backbone = Gates(gates, [0.5, 0.5])
    for gate in gates.values():
        gate.open_probability = 'calibrated'
    for _ in range(200):
        backbone.hear(torch.stack([first, second]))
    # Half of the cost may run: that is layer2.1 for all, and no layer1.1; at a quarter only for those it helps.
    assert gates['layer1.1'](pooled)[0].mean() == 0 and gates['layer2.1'](pooled)[0][1::2].mean() == 1
    backbone = Gates(gates, [0.25, 0.25])
    backbone.restart_calibration()
    for _ in range(200):
        backbone.hear(torch.stack([first, second]))
    assert (gates['layer2.1'](pooled)[0] != pooled[:, 0]).sum() <= 1


def test_the_threshold_is_one_and_the_share_of_the_cost_is_met():
    torch.manual_seed(0)
    gates = [Gate(4, estimator='taught', target_rate=rate, open_probability='calibrated') for rate in (0.2, 0.6)]
    for gate, cost in zip(gates, (0.25, 0.75)):
        gate.cost = cost
        gate.eval()
    logits = torch.stack([torch.randn(4000), torch.randn(4000) + 1])
    backbone = Gates(dict(a=gates[0], b=gates[1]), [0.2, 0.6])
    for _ in range(300):
        backbone.hear(logits)
    assert gates[0].quantile == gates[1].quantile
    spent = 0.25 * (logits[0] > gates[0].quantile).float().mean() + 0.75 * (logits[1] > gates[1].quantile).float().mean()
    assert abs(spent - (0.25 * 0.2 + 0.75 * 0.6)) < 1e-3


@pytest.mark.parametrize('noise', [0.0, 1.0])
@pytest.mark.parametrize('share', [0.2, 0.9])
@pytest.mark.parametrize('gates, images', [(1, 1), (2, 1), (5, 8)])
def test_the_share_is_met_with_any_number_of_gates_and_images(gates, images, share, noise):
    torch.manual_seed(0)
    gates = {str(i): Gate(4, estimator='taught', target_rate=share) for i in range(gates)}
    backbone, rates = Gates(gates, [share] * len(gates)).train(), []
    for gate in gates.values():
        gate.noise = noise
    for _ in range(1200):
        logits = torch.randn(len(gates), images)
        rates.append(torch.stack([gate._sample(row) for gate, row in zip(gates.values(), logits)]).mean())
        backbone.hear(logits)
    assert abs(torch.stack(rates[200:]).mean() - share) < 0.02


def test_a_calibration_does_not_change_what_training_decides_by():
    torch.manual_seed(0)
    gates = known_gates()
    backbone = Gates(gates, [0.9, 0.9])
    for _ in range(100):
        backbone.hear(torch.randn(2, 8))
    before = {name: gate.sampling.quantile.clone() for name, gate in gates.items()}
    for gate in gates.values():
        gate.eval()
    for _ in range(100):
        backbone.hear(torch.randn(2, 8))
    for name, gate in gates.items():
        assert gate.sampling.quantile == before[name] < gate.quantile  # noise spreads logits, so that 90 % lie above less


def test_thresholds_of_a_checkpoint_with_other_gates_become_one():
    gates = known_gates()
    for gate, value in zip(gates.values(), (0.6, 1.8)):
        gate.quantile.fill_(value)
    Gates(gates, [0.5, 0.5]).hear(torch.randn(2, 8))
    first, second = gates.values()
    for name in ('quantile', 'spread', 'calibration_steps'):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_what_taught_gates_were_drawn_by_is_nothing_to_others():
    Gates({'layer1.1': Gate(4)}, [0.5]).load_sampling_state(Gates(known_gates(), [0.5, 0.5]).sampling_state())


def test_what_training_decides_by_is_no_weight():
    """So that checkpoints of before fit; it is kept beside the weights."""
    gates = known_gates()
    backbone = Gates(gates, [0.5, 0.5])
    for _ in range(9):
        backbone.hear(torch.randn(2, 8))
    assert set(gates['layer1.1'].state_dict()) == set(Gate(4).state_dict())
    resumed = Gates(known_gates(), [0.5, 0.5])
    resumed.load_sampling_state(backbone.sampling_state())
    for name, gate in resumed.gates().items():
        assert gate.sampling.quantile == gates[name].sampling.quantile != 0
        assert gate.sampling.calibration_steps == 9


def test_a_logit_that_is_no_number_is_not_the_end_of_the_quantile():
    gates = known_gates()
    backbone = Gates(gates, [0.5, 0.5])
    for value in (float('nan'), float('inf'), 0.0):
        backbone.hear(torch.tensor([[value, 1.0], [0.0, -1.0]]))
    assert all(gate.quantile.isfinite() and gate.sampling.quantile.isfinite() for gate in gates.values())


@pytest.mark.parametrize('policy', ['sample', 'expected'])
def test_other_policies_stand_on_the_threshold_too(policy):
    torch.manual_seed(0)
    gate = Gate(4, estimator='taught', target_rate=0.2, policy=policy).eval()
    gate.quantile.fill_(3.0)
    assert abs(gate._evaluate(torch.full((20_000, ), 3.0)).mean() - 0.5) < 0.02


@pytest.mark.parametrize('name, bias', [('layer1.1', 12.0), ('layer2.1', -12.0)])
def test_a_gate_that_was_carried_past_what_can_be_learned_returns(name, bias):
    """In a warm-up it can happen. Such a gate has to be tried at its other end still, and to learn from that."""
    gates = known_gates()
    with torch.no_grad():
        gates[name].fc2.bias.copy_(torch.tensor([0.0, bias]))
    for gate in gates.values():
        gate.noise = 2.0
    train_where_damage_is_known(gates, steps=500, lr=0.05)
    torch.manual_seed(1)
    pooled = torch.cat([torch.ones(200, 1), torch.randn(200, 3)], dim=1)
    harmless, harmful = (gate.eval()(pooled)[1].mean() for gate in gates.values())
    assert harmful > harmless + 1


def test_the_unit_follows_when_all_damage_grows():
    loss, closed = TaughtGateLoss(), torch.full((8, ), 0.5)
    for _ in range(50):
        loss._unit(torch.ones(8), closed)
    for _ in range(10):
        unit = loss._unit(torch.full((8, ), 10.0), closed)
    assert 15 < unit < 20


def test_images_with_all_gates_open_have_no_damage():
    """What they have moved by is not due to gates."""
    loss = TaughtGateLoss()
    unit = loss._unit(torch.tensor([1.0, 5.0]), torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(unit, torch.tensor(2.0))


def test_resuming_keeps_the_unit():
    loss = TaughtGateLoss()
    loss._unit(torch.tensor([2.0, 4.0]), torch.tensor([0.5, 0.5]))
    resumed = TaughtGateLoss()
    resumed.load_state_dict(loss.state_dict())
    more = torch.tensor([1.0, 1.0]), torch.tensor([0.1, 0.3])
    assert torch.equal(loss._unit(*more), resumed._unit(*more))


def test_what_is_missing_is_said():
    backbone, account = backbone_and_account()
    backbone(torch.randn(2, 3, 32, 32).double())
    with pytest.raises(RuntimeError, match='mmdyn.PairedRoutesHook'):
        TaughtGateLoss()(backbone.decisions, account)
    with pytest.raises(ValueError, match="estimator='taught'.* target_rates for all gated blocks, got None"):
        AIGResNet(depth=18, gate=dict(estimator='taught'))
    with pytest.raises(ValueError, match="estimator must be one of .* got 'guess'"):
        AIGResNet(depth=18, gate=dict(estimator='guess'))
    assert AIGResNet(**SMALL).needed_loss == 'mmdyn.TaughtGateLoss'
