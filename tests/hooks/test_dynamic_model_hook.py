"""DynamicModelHook in a toy Runner: logs, warnings, NaN, predictions, resuming."""
import json
from pathlib import Path

import pytest
import torch
from toy import SMALL_AIG, Classifier, KeepSamples, Pictures, toy_runner

from mmdyn.backbones import DGResNet
from mmdyn.hooks import DynamicModelHook
from mmdyn.registry import MODELS

LOSS = dict(type='mmdyn.TargetRateLoss', loss_weight=1.0)
HOOK = dict(type='mmdyn.DynamicModelHook', losses=[LOSS], interval=2, stuck_after=4)
BACKBONE = dict(SMALL_AIG, target_rates=0.5)


def scalars(runner) -> list[dict]:
    lines = next(Path(runner.log_dir).glob('vis_data/scalars.json')).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_losses_and_open_rates_reach_the_log(tmp_path):
    runner = toy_runner(tmp_path, BACKBONE, hooks=[HOOK])
    runner.train()
    rows = scalars(runner)
    assert any('loss_target_rate' in row and 'open_rate' in row for row in rows)
    per_block = [row for row in rows if 'open_rate/layer1.0' in row]
    assert [row['step'] for row in per_block] == [2, 4]
    assert all(0 <= row[f'open_rate/layer{s}.{b}'] <= 1
               for row in per_block for s in (1, 2) for b in (0, 1))
    assert all(row[f'open_probability_std/layer{s}.{b}'] >= 0 for row in per_block for s in (1, 2) for b in (0, 1))
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    first = per_block[0]
    assert (f'spread of the open probability over images): layer1.0 {first["open_rate/layer1.0"]:.2f} '
            f'({first["open_probability_std/layer1.0"]:.4f})') in log


def test_gates_in_frozen_stages_are_told(tmp_path):
    runner = toy_runner(tmp_path, dict(BACKBONE, frozen_stages=1), hooks=[HOOK])
    assert runner.model.backbone.frozen_blocks_that_decide() == ['layer1.0', 'layer1.1']
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert log.count('layer1.0, layer1.1: frozen, but what decides there learns') == 1
    for frozen, names in ((1, ['layer1.0', 'layer1.1']), (-1, [])):
        assert DGResNet(depth=18, base_channels=4, frozen_stages=frozen).frozen_blocks_that_decide() == names


def test_without_two_images_in_a_batch_nothing_is_said_of_the_spread(tmp_path):
    data = dict(dataset=Pictures(), batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    runner = toy_runner(tmp_path, BACKBONE, hooks=[HOOK], train_dataloader=data)
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'open rates: layer1.0' in log and 'hardly' not in log
    assert not [row for row in scalars(runner) if 'open_probability_std/layer1.0' in row]


def test_gates_that_say_the_same_of_every_image_are_named_once(tmp_path):
    runner = toy_runner(tmp_path, dict(BACKBONE, zero_init_residual=False), hooks=[HOOK], iters=8)
    for name, gate in runner.model.backbone.gates().items():
        if name != 'layer1.1':
            torch.nn.init.normal_(gate.fc1.weight)
            torch.nn.init.normal_(gate.fc2.weight)  # tells images apart
            torch.nn.init.zeros_(gate.fc2.bias)
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert log.count('The decisions of layer1.1 hardly depend on the image') == 1
    assert 'so over the last 4 iterations' in log


def test_gradient_accumulation(tmp_path):
    runner = toy_runner(tmp_path, BACKBONE, hooks=[HOOK], optim_wrapper=dict(
        optimizer=dict(type='SGD', lr=0.01), accumulative_counts=2))
    runner.train()
    assert any('loss_target_rate' in row for row in scalars(runner))


def test_ema(tmp_path):
    toy_runner(tmp_path, BACKBONE, hooks=[HOOK, dict(type='EMAHook')]).train()


@pytest.mark.parametrize('hooks', [[], [dict(type='EMAHook')]], ids=['', 'EMA'])
def test_gates_that_know_the_classes_are_saved_equal_to_the_classifier(hooks, tmp_path):
    backbone = dict(SMALL_AIG, gate=dict(num_classes=2), target_rates=[1, 1, 1, None])
    loss = dict(type='mmdyn.GateClassLoss', classifier='head')
    runner = toy_runner(tmp_path, backbone, hooks=[*hooks, dict(type='mmdyn.DynamicModelHook', losses=[loss])])
    started = runner.model.head.weight.clone()
    runner.train()
    state = torch.load(tmp_path / 'iter_4.pth', weights_only=False)['state_dict']
    assert not torch.equal(state['head.weight'], started)
    torch.testing.assert_close(state['backbone.layer2.1.gate.fc.weight'], state['head.weight'])


def test_a_stuck_gate_is_named(tmp_path):
    runner = toy_runner(tmp_path, BACKBONE, hooks=[HOOK])
    runner.model.backbone.force_decisions({'layer2.1': [0, 0]})
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'The gate of layer2.1 has been shut for every image of the last 4 iterations; ' \
        'its target rate is 0.5' in log


def test_a_nan_loss_stops_training_and_leaves_the_last_checkpoint(tmp_path):
    runner = toy_runner(tmp_path, BACKBONE, hooks=[HOOK], poison_at=5)
    with pytest.raises(FloatingPointError, match='because of iteration 3: .*loss_cls is nan'):
        runner.train()
    last = Path((tmp_path / 'last_checkpoint').read_text().strip())
    assert last.name == 'iter_2.pth'
    weights = torch.load(last, weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in weights.values())


def test_the_hook_alone_refuses_a_static_model(tmp_path):
    runner = toy_runner(tmp_path, dict(type='mmdet.ResNet', **{k: v for k, v in SMALL_AIG.items()
                                                               if k != 'type'}), hooks=[HOOK])
    with pytest.raises(ValueError, match='Classifier has no dynamic backbone'):
        runner.train()


def test_target_rates_without_the_hook_name_the_line_to_add(tmp_path):
    with pytest.raises(RuntimeError, match=r"custom_hooks=\[dict\(type='mmdyn.DynamicModelHook'"):
        toy_runner(tmp_path, BACKBONE).train()


def test_validation_predictions_carry_their_decisions(tmp_path):
    runner = toy_runner(tmp_path, BACKBONE, hooks=[HOOK], metric=KeepSamples())
    runner.train()
    assert len(KeepSamples.seen) == 8
    for sample in KeepSamples.seen:
        assert set(sample['decisions'].gates) == set(runner.model.backbone.gates())


def test_other_losses_than_the_checkpoint_had_begin_anew(tmp_path):
    toy_runner(tmp_path, BACKBONE, hooks=[dict(HOOK, losses=[dict(LOSS, window=3)])]).train()
    resumed = toy_runner(tmp_path, BACKBONE, iters=6, resume=True, hooks=[dict(HOOK, losses=[
        dict(type='mmdyn.ComputeBudgetLoss', target=0.5)])])
    resumed.train()
    log = next(Path(resumed.log_dir).glob('*.log')).read_text()
    assert "the losses ['TargetRateLoss'] on decisions, the config has ['ComputeBudgetLoss']" in log


def test_taught_gates_without_calibration_are_told(tmp_path):
    hook = dict(HOOK, losses=[dict(type='mmdyn.TaughtGateLoss')])
    backbone = dict(BACKBONE, gate=dict(estimator='taught'))
    for open_probability, said in ((0.5, 1), ('calibrated', 0)):
        folder = tmp_path / str(open_probability)
        runner = toy_runner(folder, dict(backbone, open_probability=open_probability),
                            hooks=[hook, dict(type='mmdyn.PairedRoutesHook')])
        runner.train()
        log = next(Path(runner.log_dir).glob('*.log')).read_text()
        assert log.count("meet their target rates with open_probability='calibrated', the config has 0.5") == said


def test_gates_whose_loss_is_not_there_are_told(tmp_path):
    for name, losses in (('with', HOOK['losses']), ('without', [])):
        runner = toy_runner(tmp_path / name, BACKBONE, hooks=[dict(HOOK, losses=losses)])
        runner.train()
        log = next(Path(runner.log_dir).glob('*.log')).read_text()
        assert ("expected losses=[dict(type='mmdyn.TargetRateLoss')]" in log) == (not losses)


class TwoBackbones(Classifier):
    """One of four gates and one of two."""

    def __init__(self):
        super().__init__(BACKBONE)
        self.other = MODELS.build(dict(BACKBONE, target_rates=[1, 0.5, 1, 0.5]))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        self.other(inputs)
        return super().forward(inputs, data_samples, mode)


def test_several_backbones_have_names_of_their_own(tmp_path):
    runner = toy_runner(tmp_path, BACKBONE, hooks=[HOOK], model=TwoBackbones())
    runner.train()
    row = next(row for row in scalars(runner) if 'open_rate/layer1.0' in row)
    rates = [name for name in row if name.startswith('open_rate/')]
    assert rates == [f'open_rate/{name}' for name in
                     ('layer1.0', 'layer1.1', 'layer2.0', 'layer2.1', 'layer1.1_1', 'layer2.1_1')]


def test_the_moving_window_is_resumed(tmp_path):
    hook = dict(HOOK, losses=[dict(LOSS, window=3)])
    first = toy_runner(tmp_path, BACKBONE, hooks=[hook])
    first.train()
    checkpoint = torch.load(tmp_path / 'iter_4.pth', weights_only=False)
    window = checkpoint['mmdyn']['losses']['0._extra_state']
    assert len(window) == 2

    seen = []

    class Look(DynamicModelHook):

        def before_train(self, runner):
            seen.extend(self.attachment.losses[0].get_extra_state())

    resumed = toy_runner(tmp_path, BACKBONE, iters=6, resume=True,
                         hooks=[Look(losses=[dict(LOSS, window=3)])])
    resumed.train()
    assert all(torch.equal(a, b) for a, b in zip(seen, window)) and len(seen) == 2


@pytest.mark.parametrize('options', [dict(interval=0), dict(stuck_after=1.5)])
def test_bad_options(options):
    with pytest.raises(ValueError, match=f'{next(iter(options))} must be an int'):
        DynamicModelHook(**options)
