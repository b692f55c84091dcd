"""A converted classifier gives the logits of its own library's model; what does not fit is refused."""
import mmpretrain.models  # noqa: F401  registers the heads and necks
import pytest
import timm_to_mmdyn
import torch
import torchvision
import torchvision_to_mmdyn
from mmengine.registry import MODELS, init_default_scope

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
TORCHVISION = {
    'resnet18': dict(type='mmdyn.DGResNet', depth=18),
    'resnext50_32x4d': dict(type='mmdyn.DGResNeXt', depth=50, groups=32, base_width=4),
    'regnet_x_1_6gf': dict(type='mmdyn.DGRegNet', arch='regnetx_1.6gf'),
    'mobilenet_v2': dict(type='mmdyn.DGMobileNetV2', out_indices=(7, )),
}
TIMM = {
    'resnet50': dict(type='mmdyn.DGResNet', depth=50),
    'regnetx_006': dict(type='mmdyn.DGRegNet', arch='regnetx_600mf'),
    'regnetx_016': dict(type='mmdyn.DGRegNet', arch='regnetx_1.6gf'),
    'mobilenetv2_100': dict(type='mmdyn.DGMobileNetV2', out_indices=(7, )),
    'mobilenetv2_050': dict(type='mmdyn.DGMobileNetV2', widen_factor=0.5, out_indices=(7, )),
}


def with_statistics(model):
    """Norms that do something, in which a permutation would show."""
    for key, value in model.state_dict().items():
        if value.dim() == 1 and 'fc' not in key and 'classifier' not in key:
            value.uniform_(0.5, 1.5)
    return model.eval()


def check(module, model, config, run_tool, tmp_path):
    torch.save(model.state_dict(), tmp_path / 'src.pth')
    out = run_tool(module, tmp_path / 'src.pth', tmp_path / 'dst.pth')
    assert 'none missing, none left over' in out and config['type'] in out
    weights = torch.load(tmp_path / 'dst.pth', weights_only=True)['state_dict']
    assert len(weights) == len(model.state_dict())
    init_default_scope('mmpretrain')
    classifier = MODELS.build(dict(
        type='mmpretrain.ImageClassifier', backbone=dict(out_indices=(3, )) | config | dict(node='block'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000,
                  in_channels=weights['head.fc.weight'].shape[1]))).eval()
    missing, unexpected = classifier.load_state_dict(weights, strict=False)
    assert not unexpected and all('.router.' in key for key in missing)
    with torch.no_grad():
        torch.testing.assert_close(classifier.head(classifier.extract_feat(IMAGES)), model(IMAGES),
                                   rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', TORCHVISION)
def test_torchvision(name, run_tool, tmp_path):
    check(torchvision_to_mmdyn, with_statistics(torchvision.models.get_model(name)), TORCHVISION[name], run_tool,
          tmp_path)


@pytest.mark.parametrize('name', TIMM)
def test_timm(name, run_tool, tmp_path):
    timm = pytest.importorskip('timm')
    check(timm_to_mmdyn, with_statistics(timm.create_model(name)), TIMM[name], run_tool, tmp_path)


def spoilt(name, **changes):
    state = torchvision.models.get_model(name).state_dict() | changes
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize('state, message', [
    (lambda: spoilt('resnet18', **{'layer2.0.conv1.weight': torch.zeros(1, 64, 3, 3)}),
     r'layer2.0.conv1.weight: expected \(128, 64, 3, 3\), got \(1, 64, 3, 3\)'),
    (lambda: spoilt('resnet18', **{'layer3.1.bn2.running_var': None}), 'missing: backbone.layer3.1.bn2.running_var'),
    (lambda: spoilt('resnet18', **{'layer4.1.conv3.weight': torch.zeros(1)}), 'key layer4.1.conv3.weight'),
    (lambda: spoilt('resnet18', **{'layer4.1.conv1.weight': None}), r'stages of \[2, 2, 2, 1\] blocks'),
    (lambda: spoilt('resnet18', **{'layer1.0.conv2.weight': torch.zeros(64, 16, 3, 3)}), 'of another shape'),
    (lambda: spoilt('regnet_x_400mf'), r'expected a RegNetX among .* 400\] channels'),  # MMDetection's has 384
    (lambda: spoilt('regnet_x_1_6gf', **{'trunk_output.block1.block1-0.f.se.fc1.weight': torch.zeros(1)}),
     'unknown key trunk_output.block1.block1-0.f.se.fc1.weight'),
    (lambda: spoilt('mobilenet_v3_small'), "expected torchvision's ResNet, .*first key is features.0.0.weight"),
    (lambda: spoilt('mobilenet_v2', **{'features.3.conv.4.weight': torch.zeros(1)}), 'unknown key features.3.conv.4'),
])
def test_what_does_not_fit_is_refused(state, message, run_tool, tmp_path):
    torch.save(state(), tmp_path / 'src.pth')
    with pytest.raises(SystemExit, match=message):
        run_tool(torchvision_to_mmdyn, tmp_path / 'src.pth', tmp_path / 'dst.pth')
    assert not (tmp_path / 'dst.pth').exists()


def test_timm_variants_are_refused(run_tool, tmp_path):
    timm = pytest.importorskip('timm')
    for name, message in (('resnet26d', 'conv1.0.weight|depth'), ('regnety_002', 'RegNetX|unknown key'),
                          ('mobilenetv3_small_050', 'classifier|unknown key|fit')):
        torch.save(timm.create_model(name).state_dict(), tmp_path / 'src.pth')
        with pytest.raises(SystemExit, match=message):
            run_tool(timm_to_mmdyn, tmp_path / 'src.pth', tmp_path / 'dst.pth')
