"""Every config that is shipped builds its model, and says only what it should."""
from pathlib import Path

import mmdyn
import pytest
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import init_default_scope
from stock_configs import deciders_that_learn

from mmdyn.backbones.dynamic_backbone import DynamicBackbone

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
FILES = sorted(path for path in CONFIGS.glob('**/*.py') if '_base_' not in path.parts)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_builds(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    from mmengine.registry import MODELS
    backbone = cfg.model.backbone
    backbone.init_cfg = None  # Its checkpoint would have to be fetched.
    built = MODELS.build(backbone)
    if not isinstance(built, DynamicBackbone):
        assert path.parent.name in ('demo', 'cifar10', 'robocup_ssl')  # the static baselines
        return
    hooks = [hook['type'] for hook in cfg.custom_hooks]
    assert 'mmdyn.DynamicModelHook' in hooks
    losses = {loss['type'] for hook in cfg.custom_hooks for loss in hook.get('losses', [])}
    taught = any(getattr(decider, 'estimator', None) == 'taught' for decider in built.deciders())
    wanted = 'mmdyn.TaughtGateLoss' if taught else 'mmdyn.TargetRateLoss'
    assert (wanted in losses) == bool(built.target_rates)
    if getattr(built, 'node', None) == 'block':
        assert cfg.optim_wrapper.paramwise_cfg.custom_keys['.router.'].lr_mult < 1
        assert any('.router.' in name for name, _ in built.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize('path', [path for path in FILES if path.stem.endswith('_1x_coco')
                                  and ('regnet' in path.stem or 'mobilenet' in path.stem)], ids=lambda path: path.stem)
def test_the_task_teaches_every_gate_or_router(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    from mmengine.registry import MODELS
    cfg.model.backbone.init_cfg = None
    if 'MobileNet' not in cfg.model.backbone.type:
        cfg.model.backbone.zero_init_residual = False  # or a first step would see branches of zeros
    model = MODELS.build(cfg.model)
    model.init_weights()
    hook, = (hook for hook in cfg.custom_hooks if hook.type == 'mmdyn.DynamicModelHook')
    mmdyn.attach(model, losses=hook.get('losses', []))
    model.train()
    batch = model.data_preprocessor(demo_mm_inputs(2, [(3, 64, 64)] * 2, num_classes=80), True)
    losses = model(**batch, mode='loss')
    held = losses.pop('loss_target_rate', None)
    assert (held is not None and held > 0) == bool(model.backbone.target_rates)
    loss, _ = model.parse_losses(losses)
    loss.backward()
    learn = deciders_that_learn(model)
    assert loss.isfinite() and learn and all(learn.values()), learn


@pytest.mark.parametrize('folder', ['convnet_aig', 'dg_net'])
def test_the_metafile_lists_every_config_and_no_invented_result(folder):
    import yaml
    if not (CONFIGS / folder).is_dir():
        pytest.skip(f'no folder {folder}')
    metafile = yaml.safe_load((CONFIGS / folder / 'metafile.yml').read_text())
    listed = {model['Config'] for model in metafile['Models']}
    assert listed == {f'configs/{folder}/{path.name}' for path in (CONFIGS / folder).glob('*.py')}
    for model in metafile['Models']:
        for result in model['Results']:
            assert result['Metrics'] == {}


def test_cifar_crops_have_no_black_borders():
    """They would shift the logits of gates (configs/cifar10/README.md)."""
    pytest.importorskip('mmpretrain')
    import numpy as np
    from mmengine.registry import TRANSFORMS
    init_default_scope('mmpretrain')
    pipeline = Config.fromfile(CONFIGS / '_base_' / 'cifar10_jpg.py').train_dataloader.dataset.pipeline
    crops = [TRANSFORMS.build(step) for step in pipeline if step.type == 'RandomCrop']
    picture = np.random.default_rng(0).integers(1, 255, (32, 32, 3), dtype=np.uint8)
    seen = set()
    for _ in range(50):
        results = dict(img=picture)
        for crop in crops:
            results = crop(results)
        assert results['img'].shape == (32, 32, 3) and results['img'].all()
        seen.add(results['img'].tobytes())
    assert len(seen) > 10
