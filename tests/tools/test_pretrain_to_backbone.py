"""The bridge: what it takes and reports, and that it refuses half a backbone."""
import pytest
import torch
from mmdyn.backbones import AIGResNet, DGResNet

TOOL = 'model_converters/pretrain_to_backbone.py'


@pytest.fixture
def detector(tmp_path):
    """A detector's config with this backbone; returns its path."""

    def write(**backbone):
        path = tmp_path / 'detector.py'
        path.write_text(f'model = dict(backbone={dict(dict(type="mmdyn.AIGResNet", depth=18), **backbone)!r})')
        return path

    return write


def classifier(backbone):
    weights = {f'backbone.{key}': torch.randn(value.shape) if value.is_floating_point() else value
               for key, value in backbone.state_dict().items()}
    return weights | {'head.fc.weight': torch.zeros(10, 512), 'head.fc.bias': torch.zeros(10)}


def test_gates_come_along_and_the_head_stays(detector, run_tool, tmp_path):
    weights = classifier(AIGResNet(18))
    torch.save(dict(state_dict=weights), tmp_path / 'src.pth')
    out = run_tool(TOOL, tmp_path / 'src.pth', tmp_path / 'dst.pth', '--config', detector())
    gates = sum('.gate.' in key for key in weights)
    assert f'loaded:    {len(weights) - 2} weights of the backbone, {gates} of them in gates' in out
    assert 'missing:   0\n' in out and 'left over: 2, 2 in head\n' in out
    written = torch.load(tmp_path / 'dst.pth', weights_only=True)['state_dict']
    assert set(written) == {key for key in weights if key.startswith('backbone.')}
    assert all(torch.equal(value, weights[key]) for key, value in written.items())


def test_a_static_checkpoint_lacks_the_gates_alone(detector, run_tool, tmp_path):
    torch.save(classifier(AIGResNet(18, target_rates=1)), tmp_path / 'src.pth')
    out = run_tool(TOOL, tmp_path / 'src.pth', tmp_path / 'dst.pth', '--config', detector())
    assert 'missing:   72, which start as they are built: layer1.0.gate.' in out


@pytest.mark.parametrize('source, backbone, message', [
    (lambda: classifier(AIGResNet(34)), {}, r'layer1.2.gate.quantile'),
    (lambda: classifier(AIGResNet(18)), dict(depth=34), 'missing: layer1.2.conv1.weight'),
    (lambda: classifier(AIGResNet(18)), dict(base_channels=32), r'conv1.weight: expected \(64, .* got \(64|expected'),
    (lambda: classifier(AIGResNet(18)), dict(target_rates=[1] + [0.5] * 7), 'not in this model: layer1.0.gate.'),
    (lambda: classifier(AIGResNet(18, target_rates=[1] + [0.5] * 7)), {}, 'missing: layer1.0.gate.quantile'),
    (lambda: classifier(DGResNet(18)), {}, 'not in this model: layer1.0.router.weight'),
    (lambda: {'conv1.weight': torch.zeros(1)}, {}, 'expected a classifier, .*its first key is conv1.weight'),
])
def test_half_a_backbone_is_refused(source, backbone, message, detector, run_tool, tmp_path):
    torch.save(source(), tmp_path / 'src.pth')
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, tmp_path / 'src.pth', tmp_path / 'dst.pth', '--config', detector(**backbone))
    assert not (tmp_path / 'dst.pth').exists()
