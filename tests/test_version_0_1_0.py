"""A config and a checkpoint of mmdyn 0.1.0 work as they did: weights fit, decisions and features are the same.

version_0_1_0.json was written by release 0.1.0: `python tests/test_version_0_1_0.py CONFIGS.json`, with a list of configs.
"""
import json
import sys
import zlib
from pathlib import Path

import pytest
import torch
from mmengine.registry import HOOKS, METRICS, MODELS
from torch import Tensor, nn

from mmdyn.converters.initial_weights import is_dynamic

FILE = Path(__file__).with_suffix('').parent / 'version_0_1_0.json'


def weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """A checkpoint of those keys and shapes, whose values depend on nothing else."""
    state = {}
    for key, shape in shapes.items():
        if key.endswith(('num_batches_tracked', 'calibration_steps')):
            state[key] = torch.tensor(3)
            continue
        phase = torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + zlib.crc32(key.encode()) % 1000
        values = torch.sin(phase * 0.7) * (0.3 if key.split('.')[-1] == 'weight' and len(shape) > 1 else 1.0)
        state[key] = (values.abs() + 0.5 if key.endswith(('running_var', 'spread')) else values).view(shape)
    return state


def run(backbone: nn.Module, shapes: dict[str, list[int]]) -> dict:
    """What the backbone decides of two images at evaluation, and its features, as numbers.

    Args:
        backbone: Of a config.
        shapes: Of the weights that its static parent does not have.
    """
    parents = {key: list(value.shape) for key, value in backbone.state_dict().items() if not is_dynamic(key)}
    backbone.load_state_dict(weights(parents | shapes))
    images = torch.sin(torch.arange(2 * 3 * 64 * 64, dtype=torch.float64) * 0.37).view(2, 3, 64, 64)
    images[1] *= torch.linspace(0, 2, 64, dtype=torch.float64)
    with torch.no_grad():
        outs = backbone.double().eval()(images)
    decisions = {**backbone.decisions.gates, **backbone.decisions.adjacency}
    return dict(decisions={name: value.tolist() for name, value in decisions.items()},
                features=[[out.sum().item(), out.square().sum().item()] for out in outs])


def describe(config: dict) -> dict:
    """Keys and shapes of a backbone, and what it computes from weights of these shapes."""
    backbone = MODELS.build(config)
    shapes = {key: list(value.shape) for key, value in backbone.state_dict().items() if is_dynamic(key)}
    return dict(config=config, shapes=shapes, **run(backbone, shapes))


RECORDED = json.loads(FILE.read_text()) if FILE.exists() else dict(backbones=[], parts=[])


@pytest.mark.parametrize('recorded', RECORDED['backbones'], ids=lambda recorded: recorded['config']['type'])
def test_a_backbone(recorded):
    found = run(MODELS.build(recorded['config']), recorded['shapes'])
    assert found['decisions'].keys() == recorded['decisions'].keys()
    for name, values in recorded['decisions'].items():
        torch.testing.assert_close(torch.tensor(found['decisions'][name]), torch.tensor(values), msg=name)
    assert found['features'] == [pytest.approx(values, rel=1e-6) for values in recorded['features']]


@pytest.mark.parametrize('config', RECORDED['parts'], ids=lambda config: config['type'])
def test_hooks_losses_and_metrics_take_the_same_options(config):
    name = config['type']
    registry = HOOKS if name.endswith('Hook') else METRICS if name.endswith('Metric') else MODELS
    assert type(registry.build(config)).__name__ == name.removeprefix('mmdyn.')


def test_the_moving_window_of_a_loss():
    """Of a checkpoint's `checkpoint['mmdyn']['losses']`."""
    losses = nn.ModuleList([MODELS.build(dict(type='mmdyn.TargetRateLoss', window=3))])
    losses.load_state_dict({'0._extra_state': [torch.tensor([0.25, 0.5])]})
    assert [value.tolist() for value in losses[0].get_extra_state()] == [[0.25, 0.5]]


if __name__ == '__main__':
    content = json.loads(Path(sys.argv[1]).read_text())
    content['backbones'] = [describe(config) for config in content['backbones']]
    FILE.write_text(json.dumps(content) + '\n')
