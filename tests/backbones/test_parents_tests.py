"""MMDetection's own tests of ResNet, ResNeXt, RegNet and MobileNetV2, restated for the dynamic classes, all gates open.

Each case is built as the parent and as ours; what MMDetection's tests assert of the parent is asserted of both.
"""
import copy
from itertools import product

import pytest
import torch
from mmcv.cnn.bricks import ContextBlock
from mmdet.models.backbones import MobileNetV2, RegNet, ResNet, ResNeXt, resnext
from mmdyn.backbones import (AIGMobileNetV2, AIGRegNet, AIGResNet, AIGResNeXt, DGMobileNetV2, DGRegNet, DGResNet,
                             DGResNeXt)
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

PARENTS = {
    AIGResNet: ResNet, DGResNet: ResNet, AIGResNeXt: ResNeXt, DGResNeXt: ResNeXt, AIGRegNet: RegNet, DGRegNet: RegNet,
    AIGMobileNetV2: MobileNetV2, DGMobileNetV2: MobileNetV2
}
RESNETS = {AIGResNet: dict(depth=18, base_channels=4), DGResNet: dict(depth=18, base_channels=4)}
RESNEXTS = {AIGResNeXt: dict(depth=50, groups=4, base_width=4), DGResNeXt: dict(depth=50, groups=4, base_width=4)}
REGNETS = {AIGRegNet: dict(arch='regnetx_400mf'), DGRegNet: dict(arch='regnetx_400mf')}
MOBILENETS = {AIGMobileNetV2: dict(widen_factor=0.25), DGMobileNetV2: dict(widen_factor=0.25)}
DEFAULTS = RESNETS | RESNEXTS | REGNETS | MOBILENETS
PLUGINS = [dict(cfg=dict(type='ContextBlock', ratio=1. / 16), stages=(False, True, True, True), position='after_conv3')]
GN = dict(type='GN', num_groups=4, requires_grad=True)
BOTTLENECK = dict(depth=50, base_channels=8)


def both(ours: type, **options) -> tuple[nn.Module, nn.Module]:
    """The parent and the dynamic backbone, the latter with its gates open."""
    options = DEFAULTS[ours] | options
    static, dynamic = PARENTS[ours](**copy.deepcopy(options)), ours(**copy.deepcopy(options))
    dynamic.force_decisions('open' if 'AIG' in ours.__name__ else 'complete')
    return static, dynamic


def cases(classes: dict, **options) -> list:
    return [pytest.param(ours, options, id=f'{ours.__name__}-{"-".join(options)}') for ours in classes]


SHAPES = sum((cases(classes, **options) for classes, options in [
    (DEFAULTS, {}), (RESNETS, dict(depth=34)), (RESNETS, BOTTLENECK), (RESNETS | RESNEXTS, dict(out_indices=(0, 1, 2))),
    (DEFAULTS, dict(norm_cfg=GN)), (DEFAULTS, dict(with_cp=True)), (RESNETS, dict(deep_stem=True)),
    (RESNETS, dict(avg_down=True)), (RESNETS, dict(stem_channels=8)), (RESNETS, dict(num_stages=3, strides=(1, 2, 2),
     dilations=(1, 1, 1), out_indices=(2, ))), (RESNETS, dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))),
    (RESNETS, dict(BOTTLENECK, plugins=PLUGINS)), (RESNEXTS, dict(plugins=PLUGINS)),
    (MOBILENETS, dict(out_indices=tuple(range(8)))), (MOBILENETS, dict(widen_factor=0.5)),
    (MOBILENETS, dict(act_cfg=dict(type='ReLU'))), (REGNETS, dict(arch='regnetx_800mf')),
    (REGNETS, dict(arch='regnetx_1.6gf')),
]), [])


@pytest.mark.parametrize('ours, options', SHAPES)
def test_shapes(ours: type, options: dict) -> None:
    images = torch.randn(2, 3, 64, 64)
    static, dynamic = both(ours, **options)
    shapes = [[out.shape for out in backbone.train()(images)] if backbone is dynamic else
              [out.shape for out in backbone(images)] for backbone in (static, dynamic)]
    assert shapes[0] == shapes[1]


def frozen(backbone: nn.Module) -> set[str]:
    """Names of the parent's parameters that get no gradient."""
    return {name for name, parameter in backbone.named_parameters()
            if not parameter.requires_grad and '.gate.' not in name and '.router.' not in name}


def norm_modes(backbone: nn.Module) -> dict[str, tuple[str, bool]]:
    """Name -> type and mode of the parent's norms."""
    return {name: (type(module).__name__, module.training) for name, module in backbone.named_modules()
            if isinstance(module, (_BatchNorm, nn.GroupNorm)) and '.gate.' not in name}


@pytest.mark.parametrize('ours, options', sum((cases(DEFAULTS, **options) for options in (
    {}, dict(frozen_stages=0), dict(frozen_stages=1), dict(frozen_stages=4),
    dict(norm_cfg=dict(type='BN', requires_grad=False)), dict(norm_cfg=GN))), []))
def test_frozen_parameters_and_norm_modes(ours: type, options: dict) -> None:
    static, dynamic = both(ours, **options)
    for norm_eval, mode in product((True, False), repeat=2):
        for backbone in (static, dynamic):
            backbone.norm_eval = norm_eval  # which is read whenever the mode changes
            backbone.train(mode)
        assert frozen(dynamic) == frozen(static)
        assert norm_modes(dynamic) == norm_modes(static)
    if 'frozen_stages' in options:
        assert frozen(dynamic)


@pytest.mark.parametrize('ours', [AIGResNet, DGResNet])
def test_plugins_are_where_the_parent_has_them(ours: type) -> None:
    static, dynamic = both(ours, **BOTTLENECK, plugins=PLUGINS)
    found = [{name for name, module in backbone.named_modules() if isinstance(module, ContextBlock)}
             for backbone in (static, dynamic)]
    assert found[0] == found[1] and len(found[0]) == 13
    assert not any(name.startswith('layer1') for name in found[1])


@pytest.mark.parametrize('ours', RESNETS)
def test_zero_init_residual(ours: type) -> None:
    _, dynamic = both(ours, **BOTTLENECK, zero_init_residual=True)
    dynamic.init_weights()
    assert all(not block.norm3.weight.any() for layer in dynamic.res_layers for block in getattr(dynamic, layer))


BAD = [(ours, options) for ours in RESNETS for options in (
    dict(depth=20), dict(num_stages=0), dict(num_stages=5), dict(strides=(1, ), dilations=(1, 1), num_stages=3),
    dict(depth=50, style='tensorflow'), dict(depth=50, dcn=dict(type='DCN'), stage_with_dcn=(True, )),
    dict(depth=50, plugins=[dict(PLUGINS[0], stages=(True, ))]),
    dict(depth=50, plugins=[dict(PLUGINS[0], position='x')]),
    dict(init_cfg=dict(type='Pretrained'), pretrained='x'), dict(pretrained=0), dict(out_indices=(4, ), num_stages=4))]
BAD += [(ours, dict(depth=18)) for ours in RESNEXTS]
BAD += [(ours, options) for ours in MOBILENETS for options in (
    dict(out_indices=[8]), dict(frozen_stages=8), dict(init_cfg=dict(type='Pretrained'), pretrained='x'),
    dict(pretrained=0))]
BAD += [(ours, options) for ours in REGNETS for options in (dict(strides=(1, )), dict(pretrained=0))]


@pytest.mark.parametrize('ours, options', BAD, ids=lambda value: getattr(value, '__name__', None) or '-'.join(value))
def test_the_same_errors(ours: type, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnext.Bottleneck, 'expansion', 4)  # a RegNet that is refused leaves 1 behind
    errors = []
    for build in (PARENTS[ours], ours):
        with pytest.raises(Exception) as caught:
            build(**(DEFAULTS[ours] | copy.deepcopy(options)))
        errors.append(caught.value)
    assert type(errors[0]) is type(errors[1]) and str(errors[0]) == str(errors[1])
