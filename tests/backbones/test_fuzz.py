"""Random configs: valid ones train, predict, and skip what masking multiplies by 0; invalid ones are refused by name.

``bash tools/run_tests.sh --all tests/backbones/test_fuzz.py`` tries 2,000 in about four minutes, 200 for each of ten
seeds; without ``--all`` it is 30 of the first seed. A seed always gives the same configs, as far as hypothesis stays the
same, and a failure is reported as the smallest config found that still fails.
"""
import math
import os

import mmdyn.backbones  # noqa: F401
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from mmdyn.registry import MODELS
from torch import nn

EVERYTHING = bool(os.environ.get('MMDYN_TEST_ALL'))
SEEDS = range(10) if EVERYTHING else range(1)
VALID = settings(max_examples=150 if EVERYTHING else 20, deadline=None, database=None,
                 suppress_health_check=list(HealthCheck))
INVALID = settings(VALID, max_examples=50 if EVERYTHING else 10)

RATE = st.floats(0, 1)
AIG = dict(
    target_rates=st.one_of(st.none(), st.floats(0, 1, exclude_min=True), st.just(1)),
    gate=st.fixed_dictionaries({}, optional=dict(hidden_channels=st.integers(1, 20), temperature=st.floats(0.01, 10),
                                                 norm=st.sampled_from(['LN', 'BN', None]))),
    policy=st.sampled_from(['argmax', 'sample', 'expected']),
    open_probability=st.one_of(RATE, st.just('calibrated')))
DG = dict(
    node=st.sampled_from(['branch', 'block']), edge_scale=st.floats(1.1, 4),
    threshold=st.one_of(st.none(), st.floats(0.01, 0.9), st.just('learnable'),
                        st.fixed_dictionaries(dict(init=st.floats(0.01, 0.9)))),
    init=st.sampled_from([None, 'complete']),
    router=st.one_of(st.sampled_from(['linear', 'bias']), st.fixed_dictionaries({}, optional=dict(
        norm=st.sampled_from(['LN', 'BN', None]), dynamic=st.floats(0.1, 10)))))
COMMON = dict(with_cp=st.booleans(), norm_eval=st.booleans(), frozen_stages=st.integers(-1, 3))
RESNET = COMMON | dict(style=st.sampled_from(['pytorch', 'caffe']), deep_stem=st.booleans(), avg_down=st.booleans(),
                       zero_init_residual=st.booleans())
CIFAR = dict(depth=st.just(20), base_channels=st.sampled_from([4, 8]), shortcut=st.sampled_from('AB'))
REGNET = dict(arch=st.fixed_dictionaries(dict(
    w0=st.just(8), wa=st.just(6.0), wm=st.just(2.0), group_w=st.just(8), bot_mul=st.just(1.0), depth=st.integers(8, 14))))
MOBILENET = dict(widen_factor=st.sampled_from([0.1, 0.25]))
# What each family always gets, and what it may get.
FAMILIES = {
    'AIGResNet': (dict(depth=st.sampled_from([18, 34, 50]), base_channels=st.sampled_from([4, 8])), RESNET | AIG),
    'AIGResNeXt': (dict(depth=st.just(50), base_channels=st.just(8), groups=st.sampled_from([1, 2, 4])), RESNET | AIG),
    'DGResNet': (dict(depth=st.sampled_from([18, 34, 50]), base_channels=st.sampled_from([4, 8])), RESNET | DG),
    'DGResNeXt': (dict(depth=st.just(50), base_channels=st.just(8), groups=st.sampled_from([1, 2, 4])), RESNET | DG),
    'AIGRegNet': (REGNET, COMMON | AIG),
    'DGRegNet': (REGNET, COMMON | DG),
    'AIGMobileNetV2': (MOBILENET, COMMON | AIG),
    'DGMobileNetV2': (MOBILENET, COMMON | DG | dict(init=st.sampled_from([None, 'complete', 'static']))),
    'AIGResNetCIFAR': (CIFAR, COMMON | AIG),
    'DGResNetCIFAR': (CIFAR, COMMON | DG),
}
# Of the ResNets: blocks by depth, and stages other than the usual four.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
LAYOUTS = [
    dict(num_stages=1, strides=(1, ), dilations=(1, ), out_indices=(0, )),
    dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1)),
    dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2, )),
    dict(num_stages=4, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), out_indices=(1, 3)),
]
BATCHES = st.fixed_dictionaries(dict(
    number=st.integers(1, 5), height=st.integers(32, 200), width=st.integers(32, 200),
    padded=st.floats(0, 0.5), seed=st.integers(0, 2**32)))
NO_NUMBER = ['half', [0.5], math.nan, -0.1, True]
BAD = {
    'AIG': dict(
        target_rates=NO_NUMBER + [1.5, {}, dict(preset='paper'), [0.5] * 3, {0.5}],
        gate=['BN', 3, ['norm'], dict(width=3), dict(hidden_channels=0), dict(hidden_channels=2.5), dict(norm='GN'),
              dict(norm=['LN']), dict(temperature=0), dict(temperature=math.nan), dict(temperature='hot'),
              dict(num_classes=1), dict(num_classes=3, norm='BN')],
        policy=['greedy', None, 1, ['argmax']], open_probability=NO_NUMBER + [1.5, None],
        execution=['fast', None, True]),
    'DG': dict(
        node=['edge', None, 1, ['block']], edge_scale=NO_NUMBER + [0, math.inf, None],
        threshold=NO_NUMBER + [1e9, dict(start=0.1), dict(init='low'), dict(init=0)],
        init=['random', 1, ['static']], execution=['fast', None, True],
        router=['cubic', None, 1, ['bias'], dict(width=3), dict(norm='GN'), dict(norm=['LN']), dict(dynamic=0),
                dict(dynamic='big')],
        column_bound=NO_NUMBER + [0], node_gates=['yes', None, 1]),
}
BAD['DG'] |= {name: BAD['AIG'][name] for name in ('target_rates', 'gate', 'policy', 'open_probability')}


@st.composite
def configs(draw: st.DrawFn) -> dict:
    family = draw(st.sampled_from(sorted(FAMILIES)))
    always, optional = FAMILIES[family]
    config = dict(type=f'mmdyn.{family}', **draw(st.fixed_dictionaries(always, optional=optional)))
    if config.get('depth') in BLOCKS:
        config.update(draw(st.one_of(st.just({}), st.sampled_from(LAYOUTS))))
        stages = config.get('num_stages', 4)
        if 'frozen_stages' in config:
            config['frozen_stages'] = min(config['frozen_stages'], stages)
        if 'AIG' in family and draw(st.booleans()):
            number = sum(BLOCKS[config['depth']][:stages])
            config['target_rates'] = draw(st.lists(st.one_of(st.none(), st.just(1), RATE), min_size=number,
                                                   max_size=number))
    if 'DG' in family and draw(st.booleans()):
        config.update(draw(st.fixed_dictionaries(dict(node_gates=st.just(True)), optional=AIG)))
    if config.get('node') == 'block' and draw(st.booleans()):
        config['column_bound'] = draw(st.floats(1, 3))
    rates = config.get('target_rates')
    if config.get('open_probability') == 'calibrated' and (rates is None or isinstance(rates, list) and None in rates):
        config['target_rates'] = 0.5  # there is no share to be met without one
    return config


def pictures(number: int, height: int, width: int, padded: float, seed: int) -> torch.Tensor:
    """Noise; a share of the last picture is padding."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(number, 3, height, width, generator=generator, dtype=torch.float64)
    images[-1, :, height - round(padded * height):, :] = 0
    return images


def build(config: dict) -> nn.Module:
    """The backbone, in double precision, with decisions that differ from image to image."""
    backbone = MODELS.build(dict(config)).double()
    backbone.losses_attached = True
    for decider in backbone.deciders():
        for parameter in decider.parameters():
            nn.init.normal_(parameter, std=0.5)
    return backbone


@pytest.mark.parametrize('number', SEEDS)
def test_valid_configs(number: int) -> None:
    seed(number)(VALID(given(config=configs(), batch=BATCHES)(trains_and_skips)))()


def trains_and_skips(config: dict, batch: dict) -> None:
    images = pictures(**batch)
    if len(images) == 1:
        config['norm_eval'] = True  # one picture can have one cell in the end, which has no variance
    torch.manual_seed(0)
    backbone = build(config).train()
    outs = backbone(images)
    assert all(out.isfinite().all() for out in outs)
    if any(parameter.requires_grad for parameter in backbone.parameters()):  # or all is frozen, and without gates
        sum(out.square().mean() for out in outs).backward()
    for decider in backbone.deciders():
        assert all(p.grad is not None and p.grad.isfinite().all() for p in decider.parameters())

    backbone.eval()
    found = {}
    for execution in ('skip', 'mask'):
        backbone.execution = execution
        torch.manual_seed(1)  # of the policy 'sample'
        with torch.no_grad():
            found[execution] = [*backbone(images), *backbone.decisions.gates.values(),
                                *backbone.decisions.adjacency.values()]
    for skipped, masked in zip(*found.values()):
        torch.testing.assert_close(skipped, masked, rtol=1e-9, atol=1e-9 * masked.abs().max().item())


@pytest.mark.parametrize('number', SEEDS)
def test_invalid_configs(number: int) -> None:
    seed(number)(INVALID(given(config=configs(), data=st.data())(is_refused)))()


def is_refused(config: dict, data: st.DataObject) -> None:
    bad = BAD['AIG' if 'AIG' in config['type'] else 'DG']
    option = data.draw(st.sampled_from(sorted(bad)))
    config[option] = data.draw(st.sampled_from(bad[option]))
    with pytest.raises((ValueError, TypeError)) as caught:
        # Not through the registry, which would turn whatever is raised into an error of its own.
        MODELS.get(config.pop('type'))(**config)
    assert option in str(caught.value)
