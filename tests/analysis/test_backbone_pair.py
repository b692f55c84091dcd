"""A dynamic backbone and its static parent: equal weights, and decisions forced at a rate."""
import pytest
import torch
from mmdet.models.backbones import MobileNetV2, RegNet, ResNet, ResNeXt
from mmengine.registry import MODELS

from mmdyn.analysis.backbone_pair import BackbonePair, force_rate, read_config_or_backbone
from mmdyn.backbones.resnet_cifar import ResNetCIFAR
from mmdyn.engine import InputError

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


def test_a_config_without_a_backbone(tmp_path):
    (tmp_path / 'empty.py').write_text('model = dict()')
    with pytest.raises(InputError, match='model.backbone, found none'):
        read_config_or_backbone(str(tmp_path / 'empty.py'))
