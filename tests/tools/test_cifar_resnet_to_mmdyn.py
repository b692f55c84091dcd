"""A converted CIFAR checkpoint gives the logits of its own project's network, gated and wired ones included."""
import mmpretrain.models  # noqa: F401  registers the heads and necks
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn
from torch.nn import functional as F

TOOL = 'model_converters/cifar_resnet_to_mmdyn.py'


class AkamasterBlock(nn.Module):
    """Written from He et al., section 4.2, with that project's names."""

    def __init__(self, channels, out_channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.widens = channels != out_channels

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.widens:
            zeros = torch.zeros_like(x[:, :x.shape[1] // 2, ::2, ::2])
            x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], dim=1)
        return F.relu(out + x)


class AkamasterResNet(nn.Module):

    def __init__(self, depth):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for i, width in enumerate((16, 32, 64)):
            blocks = []
            for k in range((depth - 2) // 6):
                blocks.append(AkamasterBlock(channels, width, 2 if i and not k else 1))
                channels = width
            setattr(self, f'layer{i + 1}', nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        # Adaptive, so that the last sum is rounded as in mmpretrain's neck.
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def classifier(**backbone):
    init_default_scope('mmpretrain')
    return MODELS.build(dict(
        type='mmpretrain.ImageClassifier', backbone=backbone, neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64)))


@pytest.fixture(params=[20, 32, 44, 56])
def trained(request, data_root):
    """Depth, file and network of one of the checkpoints that were really trained."""
    path, = (data_root / 'cifar_resnets').glob(f'resnet{request.param}-*.th')
    network = AkamasterResNet(request.param)
    state = torch.load(path, map_location='cpu', weights_only=True)['state_dict']
    network.load_state_dict({key.removeprefix('module.'): value for key, value in state.items()})
    return request.param, path, network.eval()


def test_the_logits_are_exactly_those_of_the_static_network(trained, run_tool, tmp_path):
    depth, path, network = trained
    out = run_tool(TOOL, path, tmp_path / 'converted.pth')
    assert f"depth={depth}, shortcut='A'" in out and 'none missing, none left over' in out
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        wanted = network(images)
    assert wanted.std() > 1  # it says something
    for backbone, forced in [(dict(type='mmdyn.AIGResNetCIFAR', target_rates=1), None),
                             (dict(type='mmdyn.AIGResNetCIFAR'), 'open'),
                             (dict(type='mmdyn.DGResNetCIFAR', node='block'), 'chain'),
                             (dict(type='mmdyn.DGResNetCIFAR', node='block'), None)]:
        model = classifier(**backbone, depth=depth).eval()
        load_checkpoint(model, str(tmp_path / 'converted.pth'))
        model.backbone.force_decisions(forced)
        with torch.no_grad():
            ours = model.head(model.extract_feat(images))
        assert torch.equal(ours, wanted), (ours - wanted).abs().max()


def state_of(depth):
    return {f'module.{key}': value for key, value in AkamasterResNet(depth).state_dict().items()}


def renamed(state, old, new):
    return {key.replace(old, new): value for key, value in state.items()}


@pytest.mark.parametrize('spoil, message', [
    (lambda s: s | {'module.fc2.weight': torch.zeros(1)}, 'unknown key fc2.weight'),
    (lambda s: s | {'module.layer1.0.conv3.weight': torch.zeros(1)}, 'key layer1.0.conv3.weight .* belongs to nothing'),
    (lambda s: {k: v for k, v in s.items() if k != 'module.layer2.1.bn2.bias'},
     'missing: backbone.layer2.1.bn2.bias'),
    (lambda s: s | {'module.conv1.weight': torch.zeros(16, 3, 5, 5)}, r'expected \(16, 3, 3, 3\), got \(16, 3, 5, 5\)'),
    (lambda s: {k: v for k, v in s.items() if 'layer3.2' not in k}, r'stages of \[3, 3, 2\] blocks'),
    (lambda s: {k: v for k, v in s.items() if 'linear.weight' not in k}, 'expected a key linear.weight'),
    (lambda s: {k: v for k, v in s.items() if 'linear.bias' not in k}, 'missing: head.fc.bias'),
    (lambda s: renamed(s, 'layer', 'stage'), 'expected a key layer1.0.conv1.weight'),
    (lambda s: {}, 'expected a state_dict of weights, found none'),
    (lambda s: s | {'module.note': 'text'}, "expected a state_dict of tensors .* 'module.note': str"),
])
def test_what_does_not_fit_is_refused_and_nothing_is_written(spoil, message, run_tool, tmp_path):
    torch.save(dict(state_dict=spoil(state_of(20))), tmp_path / 'src.th')
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, tmp_path / 'src.th', tmp_path / 'dst.pth')
    assert not (tmp_path / 'dst.pth').exists()


def test_projections_of_option_b(run_tool, tmp_path):
    state = state_of(20)
    for layer, channels in (('layer2', 16), ('layer3', 32)):
        state[f'module.{layer}.0.shortcut.0.weight'] = torch.randn(2 * channels, channels, 1, 1)
        for field in ('weight', 'bias', 'running_mean', 'running_var'):
            state[f'module.{layer}.0.shortcut.1.{field}'] = torch.rand(2 * channels)
    torch.save(dict(state_dict=state), tmp_path / 'src.th')
    assert "shortcut='B'" in run_tool(TOOL, tmp_path / 'src.th', tmp_path / 'dst.pth')
    model = classifier(type='mmdyn.AIGResNetCIFAR', depth=20, shortcut='B', target_rates=1)
    model.load_state_dict(torch.load(tmp_path / 'dst.pth', weights_only=True)['state_dict'])
    projection = model.backbone.layer3[0].downsample[0].weight
    assert torch.equal(projection, state['module.layer3.0.shortcut.0.weight'])


def test_without_a_classifier_it_is_a_backbone(run_tool, tmp_path):
    torch.save({key: value for key, value in state_of(20).items() if 'linear' not in key}, tmp_path / 'src.th')
    out = run_tool(TOOL, tmp_path / 'src.th', tmp_path / 'dst.pth')
    assert 'no classifier in it' in out
