"""One gate for a group of blocks: skipped is masked, the account and the losses know the group, bad groups are named."""
import pytest
import torch
from aig_cases import assert_skipped_is_masked, images_run, padded_batch, randomize_gates

import mmdyn
from mmdyn.backbones import AIGMobileNetV2, AIGResNet, AIGResNeXt
from mmdyn.cost import CostAccount
from mmdyn.losses import TargetRateLoss

SUFFIX = dict(preset='suffix', keep=1, t=0.5)
FAMILIES = [
    (AIGMobileNetV2, dict(out_indices=(1, 2, 4, 6))),
    (AIGResNet, dict(depth=50, base_channels=8)),
    (AIGResNeXt, dict(depth=50, groups=2, base_width=4, base_channels=8)),
]


def grouped(family, options, target_rates=SUFFIX):
    torch.manual_seed(0)
    backbone = family(**options, target_rates=target_rates).double().eval()
    randomize_gates(backbone)
    return backbone


@pytest.mark.parametrize('family, options', FAMILIES)
def test_skipped_is_masked_and_followers_do_as_their_leader(family, options):
    backbone = grouped(family, options)
    images = padded_batch(5)
    assert_skipped_is_masked(backbone, images)
    gates = backbone.decisions.gates
    assert 0 < torch.stack([gates[name] for name in backbone.gates()]).mean() < 1
    assert backbone.followers
    for follower, leader in backbone.followers.items():
        assert gates[follower] is gates[leader] and follower not in backbone.decisions.gate_logits
    backbone.execution = 'skip'
    ran = images_run(backbone, images)
    for name, decision in gates.items():
        assert ran.get(name, 0) == decision.sum()


@pytest.mark.parametrize('family, options', FAMILIES)
def test_the_cost_is_what_ran(family, options):
    backbone = grouped(family, options)
    account = CostAccount(backbone)
    backbone.force_decisions('closed')
    backbone(torch.randn(1, 3, 64, 64).double())
    macs = account.conditional_macs((64, 64))
    assert set(macs) == set(backbone.gates()) | set(backbone.followers)
    closed, = account.images(backbone.decisions)
    assert closed.macs == closed.dense_macs - sum(macs.values())


def test_batch_is_one_by_one():
    backbone = grouped(*FAMILIES[0])
    images = padded_batch(3)[:, :, :40, :40].contiguous()
    together = backbone(images)
    for n in range(3):
        for maps, own in zip(together, backbone(images[n:n + 1])):
            torch.testing.assert_close(maps[n:n + 1], own, rtol=1e-12, atol=1e-12)


def test_the_suffix_of_each_stage_is_one_group():
    backbone = AIGResNet(depth=50, target_rates=dict(preset='suffix', keep=[1, 3, 3, 2], t=0.6))
    assert backbone.target_rates == {'layer1.1': 0.6, 'layer2.3': 0.6, 'layer3.3': 0.6, 'layer4.2': 0.6}
    assert backbone.followers == {'layer1.2': 'layer1.1', 'layer3.4': 'layer3.3', 'layer3.5': 'layer3.3'}


def test_free_groups_and_single_blocks_beside_each_other():
    backbone = AIGResNet(depth=50, target_rates=0.5, gate_groups=[['layer3.4', 'layer3.2']])
    assert backbone.followers == {'layer3.4': 'layer3.2'}
    assert len(backbone.gates()) == 15


def test_the_loss_counts_a_group_once():
    backbone = AIGResNet(depth=50, base_channels=4, target_rates=SUFFIX)
    backbone.losses_attached = True
    backbone(torch.randn(2, 3, 32, 32))
    rates = torch.stack([backbone.decisions.gates[name] for name in backbone.gates()]).mean(1)
    torch.testing.assert_close(TargetRateLoss()(backbone.decisions), (rates - 0.5).square().mean())


def test_checkpoints_name_no_gate_in_a_follower():
    keys = AIGMobileNetV2(target_rates=SUFFIX).state_dict()
    assert any(key.startswith('layer4.1.gate.') for key in keys)
    assert not any(key.startswith(('layer4.2.gate.', 'layer4.3.gate.')) for key in keys)


@pytest.mark.parametrize('options, message', [
    (dict(gate_groups=[['layer3.0', 'layer3.1']]), "block 'layer3.0' changes the shape"),
    (dict(gate_groups=[['layer3.1', 'layer2.1']]), 'lies within one stage'),
    (dict(gate_groups=['layer3.1']), 'must be lists of block names'),
    (dict(gate_groups=5), 'must be a list of lists of block names .* got 5'),
    (dict(gate_groups=[[['layer3.1'], ['layer3.2']]]), 'must be lists of block names'),
    (dict(gate_groups=[['layer3.1']]), 'at least two blocks'),
    (dict(gate_groups=[['layer3.1', 'layer3.9']]), "no block 'layer3.9' in this backbone"),
    (dict(gate_groups=[['layer3.1', 'layer3.2'], ['layer3.2', 'layer3.3']]), "got 'layer3.2' twice"),
    (dict(gate_groups=[['layer3.1', 'layer3.1']]), "got 'layer3.1' twice"),
    (dict(gate_groups=[['layer3.1', 'layer3.2']], target_rates=[.5] * 9 + [.6] * 7), 'one target rate'),
    (dict(gate_groups=[['layer3.1', 'layer3.2']], target_rates=1), 'has the target rate 1 and so no gate'),
    (dict(gate_groups=[['layer3.1', 'layer3.2']], target_rates=SUFFIX), 'expected no gate_groups beside it'),
    (dict(target_rates=dict(preset='suffix', t=.4)), 'keep=<blocks>'),
    (dict(target_rates=dict(preset='suffix', keep=0, t=.4)), 'keep is how many blocks .* got 0'),
    (dict(target_rates=dict(preset='suffix', keep=[1, 1], t=.4)), 'one for each of the 4 stages'),
    (dict(target_rates=dict(preset='suffix', keep=1, t=4)), 'must lie in'),
    (dict(target_rates=dict(preset='suffix', keep=1, t=1)), 'expected t between 0 and 1, or None, got 1'),
    (dict(target_rates=dict(preset='suffix', keep=9, t=.4)), r'keep=9 leaves no block .* \[3, 4, 6, 3\] blocks'),
    (dict(target_rates=dict(preset=['suffix'], keep=1, t=.4)), "preset='suffix'"),
])
def test_bad_groups(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        mmdyn.backbones.AIGResNet(depth=50, base_channels=4, **dict(dict(target_rates=.5), **options))
