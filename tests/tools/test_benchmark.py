"""benchmark.py: what it measures, of whom, and what it refuses."""
import json

import pytest
import torch
from mmdet.models.backbones import MobileNetV2, RegNet, ResNet, ResNeXt
from mmengine.registry import MODELS

from mmdyn.analysis.backbone_pair import BackbonePair, force_rate, read_config_or_backbone
from mmdyn.analysis.timing import interleave, saved_bytes
from mmdyn.backbones.resnet_cifar import ResNetCIFAR
from mmdyn.engine import InputError

TOOL = 'analysis_tools/benchmark.py'
AIG = dict(type='mmdyn.AIGResNet', depth=18, base_channels=8, target_rates=0.5, policy='argmax')
DG = dict(type='mmdyn.DGResNet', depth=34, base_channels=8)


@pytest.mark.parametrize('config, parent', [
    (AIG, ResNet),
    (dict(type='mmdyn.AIGResNeXt', depth=50, groups=4, base_width=4, base_channels=8), ResNeXt),
    (dict(type='mmdyn.AIGResNetCIFAR', depth=20, shortcut='B', gate=dict(norm='BN')), ResNetCIFAR),
    (dict(DG, node='block', threshold='learnable'), ResNet),
    (dict(type='mmdyn.DGRegNet', arch='regnetx_400mf', edge_scale=1.0), RegNet),
    (dict(type='mmdyn.DGMobileNetV2', widen_factor=0.5), MobileNetV2),
])
def test_the_static_parent_has_the_same_options_and_weights(config, parent):
    pair = BackbonePair(config)
    assert type(pair.static) is parent
    weights = pair.dynamic.state_dict()
    for name, value in pair.static.state_dict().items():
        assert torch.equal(value, weights[name])
    images = pair.make_inputs(1, (64, 64))
    with torch.no_grad(), torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        pair.static.eval()
        pair.static(images)
    assert counter.get_total_flops() == 2 * pair.static_macs((64, 64))


@pytest.mark.parametrize('rate', [0, 0.25, 0.5, 1])
def test_the_open_rate_is_exact(rate):
    backbone, generator = MODELS.build(AIG).eval(), torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(3):
        force_rate(backbone, rate, 4, generator, 'complete')
        backbone(torch.randn(4, 3, 32, 32))
        gates = torch.stack(list(backbone.decisions.gates.values()))
        assert gates.mean() == rate
        seen.add(tuple(gates.flatten().tolist()))
    assert len(seen) == (1 if rate in (0, 1) else 3)


@pytest.mark.parametrize('wiring', ['complete', 'chain'])
@pytest.mark.parametrize('node', ['branch', 'block'])
@torch.no_grad()
def test_nodes_are_alive_at_the_rate(wiring, node):
    backbone, generator = MODELS.build(dict(DG, node=node)).eval(), torch.Generator().manual_seed(0)
    force_rate(backbone, 0.5, 3, generator, wiring)
    backbone(torch.randn(3, 3, 32, 32))
    alive = [(adjacency[:, :, j] > 0).any(dim=1) for adjacency in backbone.decisions.adjacency.values()
             for j in range(1, adjacency.shape[1] - 1)]
    assert torch.stack(alive).sum() == round(0.5 * 12 * 3)
    for adjacency in backbone.decisions.adjacency.values():
        sources = (adjacency > 0).sum(dim=1)
        if wiring == 'chain':
            assert sources.max() == 1
        elif node == 'block':  # a mean
            torch.testing.assert_close(adjacency.sum(dim=1), (sources > 0).float())


def test_saved_bytes_counts_each_storage_once_and_no_parameter():
    linear = torch.nn.Linear(8, 8)
    images = torch.randn(4, 8)

    def forward():
        x = linear(images)
        return (x * x).sum() + torch.relu(x).view(-1).square().sum()

    # `images`, `x` (saved twice) and its ReLU (saved twice, once as a view): 4 x 8 floats each.
    assert saved_bytes(linear, forward) == 3 * 4 * 8 * 4
    assert saved_bytes(linear, forward) == saved_bytes(linear, forward)


def test_interleave_runs_all_in_each_round():
    calls = []
    times = interleave(dict(a=lambda: calls.append('a'), b=lambda: calls.append('b')), 4, 3,
                       prepare=lambda: calls.append('-'))
    rounds = ''.join(calls).split('-')[1:]
    assert len(rounds) == 4 + 3 and set(rounds) == {'ab', 'ba'}
    assert {name: len(values) for name, values in times.items()} == dict(a=4, b=4)


def test_table_and_json(run_tool, tmp_path):
    out = run_tool(TOOL, str(AIG), '--size', 64, '--batch', 1, 2, '--runs', 2, '--open-rate', 0, 1,
                   '--json', tmp_path / 'b.json')
    rows = json.loads((tmp_path / 'b.json').read_text())
    whats = ['training step', 'saved activations', 'inference', 'inference, open rate 0', 'inference, open rate 1']
    assert [(row['what'], row['batch']) for row in rows] == [(what, n) for n in (1, 2) for what in whats]
    assert all(f'| {what} | ' in out for what in whats)
    closed, opened = rows[3], rows[4]
    pair = BackbonePair(AIG)
    parts = pair.account.parts((64, 64))
    static = pair.static_macs((64, 64))
    assert closed['mac_ratio'] == pytest.approx(sum(p.macs for p in parts if not p.conditional) / static)
    assert opened['mac_ratio'] == pytest.approx(sum(p.macs for p in parts) / static)
    assert opened['efficiency'] == opened['mac_ratio'] / opened['ratio']
    assert rows[1]['ratio'] > 1  # gates keep something, too
    assert rows[1]['dynamic'] / rows[6]['dynamic'] == pytest.approx(0.5, rel=0.01)


def test_a_whole_detector(run_tool, configs):
    out = run_tool(TOOL, configs['dg'], '--size', 64, '--runs', 1, '--whole-detector', '--open-rate', 0.5)
    assert '| inference, open rate 0.5 | 1 | 64x64 |' in out and 'training' not in out


def test_forced_decisions(run_tool):
    out = run_tool(TOOL, str(AIG), '--size', 64, '--runs', 1, '--measure', 'infer', '--decisions', 'closed')
    assert float(out.splitlines()[-1].split('|')[7]) < 0.4


@pytest.mark.parametrize('arguments, message', [
    (["dict(type='mmdet.ResNet', depth=18)"], "expected a dynamic backbone, .* got type='mmdet.ResNet'"),
    (["dict(type='mmdyn.Nothing')"], "got type='mmdyn.Nothing'"),
    (['dict(type='], 'expected a backbone such as "dict'),
    (['nowhere.py'], 'found nothing at nowhere.py'),
    ([str(AIG), '--size', '16'], 'at least 32 x 32 pixels, the stride of this backbone, got 16 x 16'),
    ([str(AIG), '--open-rate', '1.5'], r'numbers in \[0, 1\], got 1.5'),
    ([str(AIG), '--batch', '0'], 'must be at least 1'),
    ([str(AIG), '--decisions', 'chain'], "--decisions: decisions must be 'open', 'closed'"),
    ([str(AIG), '--whole-detector'], 'expects a config file of a detector'),
    ([str(AIG), '--static', "dict(type='mmdet.ResNet', depth=34, base_channels=8)"], 'it has others'),
])
def test_bad_input(run_tool, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, *arguments)


def test_a_config_without_a_backbone(tmp_path):
    (tmp_path / 'empty.py').write_text('model = dict()')
    with pytest.raises(InputError, match='model.backbone, found none'):
        read_config_or_backbone(str(tmp_path / 'empty.py'))
