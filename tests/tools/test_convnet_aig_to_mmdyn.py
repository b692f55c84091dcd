"""The authors' networks, written down again with their names, decide and classify as the converted ones do."""
import mmpretrain.models  # noqa: F401  registers the heads and necks
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn import functional as F

TOOL = 'model_converters/convnet_aig_to_mmdyn.py'


class TheirBlock(nn.Module):
    """A residual block with their gate: two 1x1 convolutions over the pooled input, logit 1 = open."""

    def __init__(self, channels, width, expansion, stride):
        super().__init__()
        kernels = (1, 3, 1) if expansion == 4 else (3, 3)
        widths = [channels] + [width] * (len(kernels) - 1) + [expansion * width]
        strided = kernels.index(3)
        for i, kernel in enumerate(kernels):
            setattr(self, f'conv{i + 1}', nn.Conv2d(widths[i], widths[i + 1], kernel, stride if i == strided else 1,
                                                    kernel // 2, bias=False))
            setattr(self, f'bn{i + 1}', nn.BatchNorm2d(widths[i + 1]))
        self.layers = len(kernels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != widths[-1]:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, widths[-1], 1, stride, bias=False),
                                          nn.BatchNorm2d(widths[-1]))
        self.fc1, self.fc1bn, self.fc2 = nn.Conv2d(channels, 16, 1), nn.BatchNorm2d(16), nn.Conv2d(16, 2, 1)

    def forward(self, x, decisions):
        w = self.fc2(F.relu(self.fc1bn(self.fc1(F.adaptive_avg_pool2d(x, 1)))))[:, :, 0, 0]
        is_open = (w[:, 1] > w[:, 0]).float()
        decisions.append(is_open)
        out = x
        for i in range(1, self.layers + 1):
            out = getattr(self, f'bn{i}')(getattr(self, f'conv{i}')(out))
            out = F.relu(out) if i < self.layers else out
        return F.relu(self.shortcut(x) + out * is_open[:, None, None, None])


class TheirNetwork(nn.Module):

    def __init__(self, blocks, width, expansion, classes):
        super().__init__()
        cifar = len(blocks) == 3
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False) if cifar else nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        channels = width
        for i, count in enumerate(blocks):
            layer = nn.ModuleList()
            for k in range(count):
                layer.append(TheirBlock(channels, width * 2**i, expansion, 2 if i and not k else 1))
                channels = expansion * width * 2**i
            setattr(self, f'layer{i + 1}', layer)
        self.stages = len(blocks)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x):
        x, decisions = self.pool(F.relu(self.bn1(self.conv1(x)))), []
        for i in range(1, self.stages + 1):
            for block in getattr(self, f'layer{i}'):
                x = block(x, decisions)
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1)), torch.stack(decisions)


def build(blocks, width, expansion, classes):
    network = TheirNetwork(blocks, width, expansion, classes).eval()
    for name, value in network.state_dict().items():
        if 'bn' in name and value.dim() == 1:
            value.uniform_(0.5, 1.5)
        if '.fc2.' in name:
            value.normal_()
    return network


CASES = {
    'R50': (lambda: build([3, 4, 6, 3], 64, 4, 10), dict(type='mmdyn.AIGResNet', depth=50, out_indices=(3, )), 2048),
    'CIFAR-110': (lambda: build([18, 18, 18], 16, 1, 10),
                  dict(type='mmdyn.AIGResNetCIFAR', depth=110, shortcut='B'), 64),
}


def classifier(backbone, channels):
    init_default_scope('mmpretrain')
    return MODELS.build(dict(
        type='mmpretrain.ImageClassifier', backbone=dict(backbone, gate=dict(norm='BN')),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=channels))).eval()


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_decisions_and_logits_are_theirs(name, prefix, run_tool, tmp_path):
    make, backbone, channels = CASES[name]
    network = make()
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save(dict(epoch=3, arch='resnet', state_dict=state, best_prec1=torch.tensor(70.0)), tmp_path / 'src.tar')
    out = run_tool(TOOL, tmp_path / 'src.tar', tmp_path / 'dst.pth')
    assert "gate=dict(norm='BN')" in out and f'depth={backbone["depth"]}' in out
    model = classifier(backbone, channels)
    model.load_state_dict(torch.load(tmp_path / 'dst.pth', weights_only=True)['state_dict'])
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        logits, decisions = network(images)
        ours = model.head(model.extract_feat(images))
    assert 0 < decisions.mean() < 1
    assert torch.equal(torch.stack(list(model.backbone.decisions.gates.values())), decisions)
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)


def test_gates_of_blocks_that_always_run_can_be_left_out(run_tool, tmp_path):
    make, backbone, channels = CASES['R50']
    torch.save(make().state_dict(), tmp_path / 'src.pth')
    run_tool(TOOL, tmp_path / 'src.pth', tmp_path / 'dst.pth', '--always-run', 'paper')
    model = classifier(dict(backbone, target_rates=dict(preset='paper', t=0.5)), channels)
    model.load_state_dict(torch.load(tmp_path / 'dst.pth', weights_only=True)['state_dict'])
    assert len(model.backbone.gates()) == 10


@pytest.mark.parametrize('spoil, message', [
    (lambda s: s | {'layer1.0.fc3.weight': torch.zeros(1)}, 'unknown key layer1.0.fc3.weight'),
    (lambda s: {k: v for k, v in s.items() if k != 'layer2.1.fc1bn.running_mean'},
     'missing: backbone.layer2.1.gate.norm.running_mean'),
    (lambda s: s | {'layer1.0.fc1.weight': torch.zeros(8, 16, 1, 1)},
     r'layer1.0.gate.fc1.weight: expected \(16, 16\), got \(8, 16\)'),
    (lambda s: s | {'layer1.0.fc1.weight': torch.zeros(16, 16, 3, 3)}, r'got \(16, 16, 3, 3\)'),
])
def test_what_does_not_fit_is_refused(spoil, message, run_tool, tmp_path):
    torch.save(spoil(build([3, 3, 3], 16, 1, 10).state_dict()), tmp_path / 'src.pth')
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, tmp_path / 'src.pth', tmp_path / 'dst.pth')
