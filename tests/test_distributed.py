"""Several processes compute what one process does with the whole batch."""
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.model.utils import convert_sync_batchnorm
from mmengine.optim import OptimWrapper
from processes import start_ranks
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from mmdyn import attach
from mmdyn.engine import InputError, check_same_config, check_shares, leave_process_group
from mmdyn.functional.graph import complete_adjacency
from mmdyn.hooks import PairedRoutesHook
from mmdyn.hooks.finite_losses import FiniteLosses

pytestmark = pytest.mark.e2e

IMAGES, STEPS = 4, 5
BACKBONES = dict(
    aig=dict(type='mmdyn.AIGResNet', target_rates=0.5, open_probability='calibrated'),
    # Nothing is drawn: one process and two would draw other images.
    skipped=dict(type='mmdyn.AIGResNet', target_rates=0.5, train_execution='skip', exploration=1e-9),
    dg=dict(type='mmdyn.DGResNet', threshold='learnable'),
    nodes=dict(type='mmdyn.DGResNet', node_gates=True, target_rates=0.5, router=dict(norm='LN', dynamic=1.0)))
BACKBONES['skipped nodes'] = dict(BACKBONES['nodes'], train_execution='skip', exploration=1e-9)
TAUGHT = dict(BACKBONES['aig'], gate=dict(estimator='taught'))
LOSSES = [dict(type='mmdyn.TargetRateLoss', window=2), dict(type='mmdyn.ComputeBudgetLoss', target=0.5)]
SMALL = dict(depth=18, base_channels=8, norm_eval=True, frozen_stages=-1, style='pytorch', init_cfg=None)


def build_detector(family: str, forced: bool = False) -> nn.Module:
    """FCOS, whose own losses are those of the global batch, and a backbone whose decisions differ between images."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    register_all_modules()
    torch.manual_seed(0)
    cfg = get_config('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py')
    cfg.merge_from_dict(dict(model=dict(
        backbone={**SMALL, **(TAUGHT if family == 'taught' else BACKBONES[family])},
        neck=dict(in_channels=[8, 16, 32, 64], out_channels=32),
        bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1, num_classes=3))))
    if forced:
        cfg.model.backbone.pop('threshold', None)  # nothing reads it, so that it would get no gradient
    model = MODELS.build(cfg.model)
    model.init_weights()
    for decider in model.backbone.deciders():
        decider.noise = 0.0  # of the gates: one process and two would draw other samples
        for parameter in decider.parameters():
            nn.init.normal_(parameter, std=0.3)
    attach(model, [dict(type='mmdyn.TaughtGateLoss')] if family == 'taught' else LOSSES)
    return model.train()


def batch(step: int, images: slice) -> dict[str, Any]:
    from mmdet.testing import demo_mm_inputs
    data = demo_mm_inputs(IMAGES, [[3, 64, 64]] * IMAGES, num_items=[step % 3 + 1] * IMAGES, num_classes=3)
    data['inputs'] = [image + 17 * step for image in data['inputs']][images]
    data['data_samples'] = data['data_samples'][images]
    return data


def force_halves(model: nn.Module, images: slice) -> None:
    """Opens everything for the first half of the global batch, which is that of rank 0, and nothing for the other."""
    backbone = model.backbone
    if backbone.gates():
        share = torch.tensor([1., 1., 0., 0.])[images]
        backbone.force_decisions({name: share for name in backbone.gates()})
        return
    matrices = {}
    for name, stage in backbone.stages():
        complete = complete_adjacency(len(stage))
        nothing = torch.zeros_like(complete)
        nothing[0, -1] = 1  # an output always has an input
        matrices[name] = torch.stack([complete, complete, nothing, nothing])[images]
    backbone.force_decisions(matrices)


def train(family: str, forced: bool, images: slice, distributed: bool) -> SimpleNamespace:
    """Some steps of SGD on some images of the global batches."""
    model = build_detector(family, forced)
    if forced:
        force_halves(model, images)
    wrapped = MMDistributedDataParallel(model, broadcast_buffers=False) if distributed else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        values = wrapped(**model.data_preprocessor(batch(step, images), True), mode='loss')
        model.parse_losses(values)[0].backward()
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        losses.append({name: torch.as_tensor(value).detach() for name, value in values.items()})
    return SimpleNamespace(losses=losses, gradients=gradients, state=model.state_dict())


def train_on_paired_routes(family: str, updates: int, images: slice, distributed: bool) -> dict[str, Tensor]:
    """What the weights are after some steps of the model's own, with and as :class:`mmdyn.PairedRoutesHook` asks."""
    model = build_detector(family)
    wrapped = MMDistributedDataParallel(model, broadcast_buffers=False) if distributed else model
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), clip_grad=dict(max_norm=10))
    runner = SimpleNamespace(model=wrapped, optim_wrapper=optim_wrapper, max_iters=STEPS,
                             message_hub=MessageHub(f'updates={updates}'))
    hook = PairedRoutesHook(updates=updates)
    runner.hooks = [hook]
    hook.before_train(runner)
    for runner.iter in range(STEPS):
        data = batch(runner.iter, images)
        hook.before_train_iter(runner, runner.iter, data)
        wrapped.train_step(data, optim_wrapper)
    hook.after_train(runner)
    return model.state_dict()


class CrossRankNorm(nn.BatchNorm2d):
    """What SyncBN computes, on CPUs, where torch's refuses to run: a rank that leaves it out blocks the others."""

    def forward(self, x: Tensor) -> Tensor:
        moments = torch.stack([x.mean(dim=(0, 2, 3)), x.square().mean(dim=(0, 2, 3))])
        mean, square = all_reduce(moments) / torch.distributed.get_world_size()
        scale = self.weight / (square - mean.square() + self.eps).clamp(min=self.eps).sqrt()
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


def train_with_random_rates(family: str, rank: int, steps: int = 50) -> dict[str, Tensor]:
    """Every step and rank has open rates and thresholds of its own; a norm in every block waits for the other rank.

    Where closed blocks are skipped norms are frozen; then hardly any block runs, on one image, both or none.
    """
    from mmdyn.registry import MODELS
    draw = random.Random(rank)
    two_stages = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1, ))
    skips = family.startswith('skipped')
    backbone = MODELS.build(SMALL | BACKBONES[family] | two_stages | dict(norm_eval=skips))
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d) and not skips:
            module.__class__ = CrossRankNorm
    backbone.losses_attached = True
    model = MMDistributedDataParallel(backbone.train(), broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        if family == 'dg':
            backbone.threshold = draw.uniform(0.01, 1.99)
        else:
            rate = 0.05 if skips else draw.choice([0.0, draw.random(), 1.0])
            backbone.force_decisions({
                name: [float(draw.random() < rate) for _ in range(2)] for name in backbone.gates()})
        optimizer.zero_grad()
        out, = model(torch.randn(2, 3, 16, 16))
        out.square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
    weights = backbone.state_dict()
    weights.pop('threshold_logit', None)  # set anew, on each rank, in every step
    return weights


def complaint(check, *args) -> str:
    with pytest.raises(InputError) as caught:
        check(*args)
    return str(caught.value)


def run_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    images = slice(2 * rank, 2 * rank + 2)
    results = {(family, forced): train(family, forced, images, distributed=True)
               for family in BACKBONES for forced in (False, True)}
    results['paired'] = {(family, updates): train_on_paired_routes(family, updates, images, distributed=True)
                         for family in ('aig', 'taught') for updates in (1, 2)}
    results['random rates'] = {family: train_with_random_rates(family, rank) for family in BACKBONES}
    results['configs'] = complaint(check_same_config, Config(dict(model=dict(depth=18 + rank), lr=0.1)))
    loader = torch.utils.data.DataLoader
    results['one image'] = complaint(check_shares, loader([0]))
    results['no batch'] = complaint(check_shares, loader([0] * 4, batch_size=5 if rank else 2, drop_last=True))
    losses = FiniteLosses()
    for iteration in range(1, 4):
        losses.add(iteration, dict(loss=torch.tensor(math.nan if (rank, iteration) == (1, 2) else 1.0)))
    with pytest.raises(FloatingPointError) as caught:
        losses.check('work_dir')
    results['not finite'] = str(caught.value)
    check_same_config(Config(dict(lr=0.1)))
    check_shares(loader([0, 0]))
    torch.save(results, Path(folder, f'{rank}.pth'))
    leave_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> list[dict]:
    """What each of two processes has found."""
    folder = tmp_path_factory.mktemp('ranks')
    start_ranks(run_rank, str(folder))
    return [torch.load(folder / f'{rank}.pth', weights_only=False) for rank in range(2)]


@pytest.mark.parametrize('forced', [False, True], ids=['deciding', 'one rank all open, the other shut'])
@pytest.mark.parametrize('family', BACKBONES)
def test_two_ranks_equal_one_process_with_the_whole_batch(ranks, family, forced):
    whole = train(family, forced, slice(None), distributed=False)
    parts = [result[family, forced] for result in ranks]

    def assert_close(ours: Tensor, wanted: Tensor, what: str) -> None:
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5, msg=lambda text: f'{what}: {text}')

    for step, wanted in enumerate(whole.losses):
        for name, value in wanted.items():
            values = torch.stack([part.losses[step][name] for part in parts])
            assert_close(values.mean(), value, f'{name}, step {step}')
            if 'target_rate' in name or 'budget' in name or 'open_rate' in name:
                assert torch.equal(*values), f'{name} is that of the global batch'
    assert set(whole.gradients) == set(parts[0].gradients)
    for name, value in whole.gradients.items():
        for part in parts:
            assert_close(part.gradients[name], value, f'gradient of {name}')
    for name, value in whole.state.items():
        for part in parts:
            assert_close(part.state[name], value, name)


@pytest.mark.parametrize('updates', [1, 2])
@pytest.mark.parametrize('family', ['aig', 'taught'])
def test_paired_routes_of_two_ranks_are_those_of_one_process(ranks, family, updates):
    start = build_detector(family).state_dict()
    whole = train_on_paired_routes(family, updates, slice(None), distributed=False)
    moved = {name for name, value in whole.items() if not torch.equal(value, start[name])}
    for ending in ('conv1.weight', 'gate.fc1.weight', 'gate.quantile'):
        assert any(name.endswith(ending) for name in moved), ending
    for name, value in whole.items():
        for result in ranks:
            torch.testing.assert_close(result['paired'][family, updates][name], value, rtol=1e-5, atol=1e-5,
                                       msg=lambda text, name=name: f'{name}: {text}')


@pytest.mark.parametrize('family', BACKBONES)
def test_random_rates_with_norms_across_ranks_neither_hang_nor_drift(ranks, family):
    first, second = (result['random rates'][family] for result in ranks)
    assert all(value.isfinite().all() for value in first.values())
    local = ('quantile', 'spread', 'running_', 'num_batches')
    assert not [name for name in first if not name.endswith(local) and not torch.equal(first[name], second[name])]


def test_a_loss_of_one_rank_that_is_not_finite_stops_both(ranks):
    first, second = (result['not finite'] for result in ranks)
    assert 'because of iteration 2: a loss of another process is not finite' in first
    assert 'because of iteration 2: loss is nan' in second


def test_what_ranks_must_agree_on(ranks):
    for result in ranks:
        assert '1 values of rank 1 differ from those of rank 0: model.depth is 19 there and 18 on rank 0' in \
            result['configs']
        assert 'at least one training image for each of 2 processes, found 1' in result['one image']
        assert 'rank 1 has none of 4 images' in result['no batch']


@pytest.mark.parametrize('family', BACKBONES)
def test_syncbn_takes_the_place_of_every_batch_norm(family):
    """torch's SyncBN runs on GPUs only, so that what is compared is the backbone converted there and back."""
    from mmdyn.registry import MODELS
    backbone = MODELS.build(SMALL | BACKBONES[family] | dict(out_indices=(3, ))).eval()
    images, names = torch.randn(2, 3, 32, 32), list(backbone.state_dict())
    with torch.no_grad():
        wanted, = backbone(images)
        converted = convert_sync_batchnorm(backbone)
        assert not any(type(module) is nn.BatchNorm2d for module in converted.modules())
        assert list(converted.state_dict()) == names
        found, = revert_sync_batchnorm(converted).eval()(images)
    assert torch.equal(found, wanted)
