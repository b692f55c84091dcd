"""CalibrationHook: evaluation opens at the target rate, and the checkpoint knows it."""
from pathlib import Path

import pytest
import torch
from mmengine.registry import DATASETS
from toy import SMALL_AIG, Pictures, toy_runner

from mmdyn.hooks import CalibrationHook

BACKBONE = dict(SMALL_AIG, target_rates=[0.75, 0.5, 0.5, 0.25], open_probability='calibrated',
                zero_init_residual=False)


@DATASETS.register_module()
class BrightPictures(Pictures):
    """The same pictures, but brighter."""

    def __init__(self) -> None:
        super().__init__(8)
        self.images = self.images * 0.5 + 1


def trained(tmp_path, constant=(), **options):
    runner = toy_runner(tmp_path, BACKBONE, iters=4, hooks=[
        dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TargetRateLoss')]),
        dict(type='mmdyn.CalibrationHook', **options)])
    runner.model.init_weights()
    for name, gate in runner.model.backbone.gates().items():
        if name not in constant:
            torch.nn.init.normal_(gate.fc1.weight)
            torch.nn.init.normal_(gate.fc2.weight)  # tells images apart
            torch.nn.init.zeros_(gate.fc2.bias)
    runner.train()
    return runner


def test_evaluation_opens_at_the_target_rates(tmp_path):
    runner = trained(tmp_path, num_batches=200)
    backbone = runner.model.backbone
    with torch.no_grad():
        backbone.eval()(Pictures(8).images)
    for name, target in backbone.target_rates.items():
        # Eight images: a share is known to 1/8.
        assert abs(backbone.decisions.gates[name].mean().item() - target) <= 0.125, name
    saved = torch.load(tmp_path / 'iter_4.pth', weights_only=False)['state_dict']
    for name, gate in backbone.gates().items():
        assert saved[f'backbone.{name}.gate.quantile'] == gate.quantile


@pytest.mark.parametrize('constant', [[], ['layer1.0', 'layer1.1', 'layer2.0', 'layer2.1']])
def test_gates_that_no_quantile_can_help_are_named_once(tmp_path, constant):
    runner = trained(tmp_path, constant=constant, interval=1, num_batches=4)
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert log.count('Calibration cannot help there') == bool(constant)
    if constant:
        assert 'The decisions of layer1.0, layer1.1, layer2.0, layer2.1 hardly depend on the image' in log


def test_training_goes_on_in_training_mode(tmp_path):
    runner = trained(tmp_path, num_batches=1, interval=2)
    assert runner.model.training and all(g.training for g in runner.model.backbone.deciders())


def test_calibrates_before_each_validation_of_a_training_that_counts_iterations(tmp_path, monkeypatch):
    calibrated = []
    monkeypatch.setattr(CalibrationHook, 'calibrate', lambda self, runner: calibrated.append(runner.iter + 1))
    hooks = [dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TargetRateLoss')]),
             dict(type='mmdyn.CalibrationHook')]
    loop = dict(type='IterBasedTrainLoop', max_iters=5, val_interval=2)
    toy_runner(tmp_path, BACKBONE, hooks=hooks, train_cfg=loop).train()
    assert calibrated == [2, 4, 5]


def test_epochs_are_not_counted_where_there_are_none(tmp_path):
    with pytest.raises(ValueError, match='by_epoch=True needs .* got an IterBasedTrainLoop'):
        trained(tmp_path, by_epoch=True)


@pytest.mark.parametrize('options', [dict(num_batches=0), dict(interval=1.5)])
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CalibrationHook(**options)


def test_images_may_come_from_another_dataloader(tmp_path):
    """Calibrated on pictures that are brighter than those of the training."""
    bright = dict(batch_size=4, num_workers=0, collate_fn=dict(type='pseudo_collate'),
                  sampler=dict(type='DefaultSampler', shuffle=False),
                  dataset=dict(type='BrightPictures'))
    runner = trained(tmp_path, num_batches=200, dataloader=bright)
    backbone = runner.model.backbone
    shares = {}
    for name, pictures in dict(bright=BrightPictures(), plain=Pictures(8)).items():
        with torch.no_grad():
            backbone.eval()(pictures.images)
        shares[name] = torch.stack([decision.mean() for decision in backbone.decisions.gates.values()])
    targets = torch.tensor(list(backbone.target_rates.values()))
    assert (shares['bright'] - targets).abs().max() <= 0.125
    assert not torch.equal(shares['bright'], shares['plain'])
