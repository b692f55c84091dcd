"""ComputeMetric: statistics, log, groups, dump, several ranks, and what it refuses."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement, InstanceData
from processes import start_ranks
from toy import SMALL_AIG, Pictures, toy_runner

from mmdyn.cost import CostAccount, ImageCost
from mmdyn.engine import leave_process_group
from mmdyn.layers.decisions import Decisions
from mmdyn.metrics import ComputeMetric

METRIC = dict(type='mmdyn.ComputeMetric')
HOOK = dict(type='mmdyn.DynamicModelHook')
BLOCKS = ['layer1.0', 'layer1.1']


def prediction(n: int, **fields) -> BaseDataElement:
    """Image n of a made-up evaluation: it costs n + 1 of 10 GMACs; its second block runs if n is odd."""
    decisions = Decisions(torch.tensor([[40, 60]]), (64, 64), {'layer1.1': 0.25})
    decisions.gates.update({'layer1.0': torch.ones(1), 'layer1.1': torch.tensor([n % 2.])})
    sample = BaseDataElement(metainfo=dict(img_id=n, img_path=f'{n}.jpg'))
    cost = ImageCost((n + 1) * 10**9, 10**10, 'AIGResNet')
    for name, value in dict(decisions=decisions, cost=cost, **fields).items():
        sample.set_field(value, name)
    return sample


def boxes(*sides: float, labels=()) -> dict:
    corners = [[10., 10., 10 + side, 10 + side] for side in sides]
    return dict(gt_instances=InstanceData(bboxes=torch.tensor(corners).view(-1, 4),
                                          labels=torch.tensor(labels or [0] * len(sides))))


def evaluate(samples: list, classes=('cat', 'dog', 'owl'), **options) -> dict:
    evaluator = Evaluator([dict(METRIC, **options)])
    evaluator.dataset_meta = dict(classes=classes)
    for sample in samples:
        evaluator.process([sample])
    return evaluator.evaluate(len(samples))


def test_statistics():
    metrics = evaluate([prediction(n) for n in range(5)])
    gmacs = np.arange(1, 6)
    assert metrics['compute/gmacs_mean'] == 3 and metrics['compute/gmacs_std'] == gmacs.std()
    for p in (5, 50, 95):
        assert metrics[f'compute/gmacs_p{p}'] == np.percentile(gmacs, p)
    assert metrics['compute/dense_gmacs'] == 10 and metrics['compute/ratio'] == pytest.approx(0.3)
    assert metrics['compute/open_rate/layer1.0'] == 1
    assert metrics['compute/open_rate/layer1.1'] == pytest.approx(0.4)
    assert metrics['compute/open_rate'] == pytest.approx(0.7)


def test_gates_that_say_the_same_of_every_image_are_named(monkeypatch):
    printed = []
    monkeypatch.setattr('mmdyn.metrics.compute_metric.print_log', lambda text, logger: printed.append(text))
    samples = [prediction(n) for n in range(4)]
    for n, sample in enumerate(samples):
        logits = {'layer1.0': torch.tensor([0.9 + 0.01 * n]), 'layer1.1': torch.tensor([2. if n % 2 else -2.])}
        sample.decisions.gate_logits.update(logits)
    metrics = evaluate(samples)
    probabilities = 1 / (1 + np.exp(-np.array([0.9, 0.91, 0.92, 0.93])))
    assert metrics['compute/open_probability_std/layer1.0'] == pytest.approx(probabilities.std(ddof=1), rel=1e-4)
    spread = np.tanh(1) / 2 * (4 / 3)**0.5
    assert metrics['compute/open_probability_std/layer1.1'] == pytest.approx(spread, rel=1e-4)
    assert 'decisions of layer1.0 hardly depend on the image' in printed[0]
    evaluate(samples[:1])  # of one image, nothing can be said
    assert 'hardly' not in printed[1]
    evaluate([prediction(n) for n in range(4)])  # nor of predictions without logits
    assert 'hardly' not in printed[2] and 'spread' not in printed[2]


def test_mean_cost_of_the_images_that_hold_a_class_or_a_size():
    samples = [prediction(0, **boxes(31, 40, labels=[0, 1])), prediction(1, **boxes(96, labels=[1])),
               prediction(2, **boxes())]
    metrics = evaluate(samples, per_class=True, per_object_size=True)
    assert metrics['compute/gmacs/class/cat'] == 1 and metrics['compute/gmacs/class/dog'] == 1.5
    assert 'compute/gmacs/class/owl' not in metrics
    sizes = {name: metrics[f'compute/gmacs/objects/{name}'] for name in ('small', 'medium', 'large')}
    assert sizes == dict(small=1, medium=1, large=2)


def test_classification_labels():
    samples = [prediction(n, gt_label=torch.tensor([n % 2])) for n in range(4)]
    assert evaluate(samples, per_class=True)['compute/gmacs/class/dog'] == 3
    with pytest.raises(RuntimeError, match='per_object_size needs; add .*LoadAnnotations'):
        evaluate(samples, per_object_size=True)


def test_labels_that_are_not_there():
    with pytest.raises(RuntimeError, match='without ground truth, which per_class needs'):
        evaluate([prediction(0)], per_class=True)
    # MMDetection packs empty instances where nothing was loaded.
    with pytest.raises(RuntimeError, match='without ground truth, which per_class needs'):
        evaluate([prediction(0, gt_instances=InstanceData())], per_class=True)


def test_dump(tmp_path):
    path = tmp_path / 'new' / 'compute.json'
    samples = [prediction(0, **boxes(31, 40, labels=[0, 1])), prediction(1, **boxes(96, labels=[2]))]
    evaluate(samples, dump=str(path))
    content = json.loads(path.read_text())
    assert content['format'] == 'mmdyn.compute' and content['version'] == 1
    assert content['backbone'] == 'AIGResNet' and content['blocks'] == BLOCKS
    assert content['target_rates'] == {'layer1.1': 0.25}
    assert content['classes'] == ['cat', 'dog', 'owl']
    assert content['summary']['gmacs']['mean'] == 1.5
    assert content['images'] == [
        dict(image=0, path='0.jpg', size=[40, 60], macs=10**9, dense_macs=10**10, ran=[1, 0], labels=[0, 1],
             objects=2, object_sizes=dict(small=1, medium=1, large=0), areas=[961.0, 1600.0]),
        dict(image=1, path='1.jpg', size=[40, 60], macs=2 * 10**9, dense_macs=10**10, ran=[1, 1], labels=[2],
             objects=1, object_sizes=dict(small=0, medium=0, large=1), areas=[9216.0])]
    assert [file.name for file in path.parent.iterdir()] == ['compute.json']


def test_wired_stages(tmp_path):
    samples = []
    for n in range(2):
        sample = prediction(n)
        sample.decisions.gates.clear()
        adjacency = torch.zeros(1, 3, 3)
        adjacency[0, 0, 2], adjacency[0, 0, 1], adjacency[0, 1, 2] = 0.5, n, n / 4
        sample.decisions.adjacency['layer3'] = adjacency
        samples.append(sample)
    metrics = evaluate(samples, dump=str(tmp_path / 'dg.json'))
    assert metrics['compute/open_rate/layer3.1'] == 0.5 and 'compute/open_rate/layer3.0' not in metrics
    content = json.loads((tmp_path / 'dg.json').read_text())
    assert content['images'][1]['adjacency'] == {'layer3': [[0, 1, .5], [0, 0, .25], [0, 0, 0]]}
    assert content['summary']['edge_rates'] == {'layer3': [[0, .5, 1], [0, 0, .5], [0, 0, 0]]}


def test_the_log_has_a_table(tmp_path):
    runner = toy_runner(tmp_path, dict(SMALL_AIG, target_rates=0.5), metric=METRIC, hooks=[
        dict(HOOK, losses=[dict(type='mmdyn.TargetRateLoss')])])
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'GMACs an image in the backbone over 8 images' in log
    assert 'layer1.0' in log and ' 0.500' in log
    rows = [json.loads(line) for line in
            next(Path(runner.log_dir).glob('vis_data/scalars.json')).read_text().splitlines()]
    assert any('compute/gmacs_mean' in row for row in rows)


@pytest.mark.parametrize('loop', ['val', 'test'])
def test_without_training_too(tmp_path, loop):
    data = dict(dataset=Pictures(), batch_size=3, num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False))
    runner = toy_runner(tmp_path, dict(SMALL_AIG, target_rates=0.5), hooks=[HOOK], train_dataloader=None,
                        train_cfg=None, optim_wrapper=None, **{f'{loop}_dataloader': data, f'{loop}_cfg': {},
                                                               f'{loop}_evaluator': [METRIC]})
    backbone = runner.model.backbone
    backbone.force_decisions('closed')
    metrics = getattr(runner, loop)()
    account = CostAccount(backbone)
    closed = account.dense_macs((16, 16)) - sum(account.conditional_macs((16, 16)).values())
    assert metrics['compute/gmacs_mean'] == pytest.approx(closed / 1e9)
    assert metrics['compute/ratio'] == pytest.approx(closed / account.dense_macs((16, 16)))
    assert metrics['compute/open_rate'] == 0


def test_without_decisions_it_says_what_to_add(tmp_path):
    runner = toy_runner(tmp_path, SMALL_AIG, metric=METRIC)
    with pytest.raises(RuntimeError, match="custom_hooks=\\[dict\\(type='mmdyn.DynamicModelHook'\\)\\]"):
        runner.val()


def test_no_images():
    with pytest.raises(ValueError, match='at least one image, got an evaluation of none'):
        evaluate([])


def test_the_dump_must_be_json():
    with pytest.raises(ValueError, match=r"ends in .json, got 'out.pkl'"):
        ComputeMetric(dump='out.pkl')


def _evaluate_share(rank: int, images: int, folder: str) -> None:
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank,
                                         world_size=2)
    shares = -(-images // 2)
    evaluator = Evaluator([METRIC])
    # As mmengine's DefaultSampler hands them out: every second one, padded to the same length.
    for n in range(shares):
        evaluator.process([prediction((2 * n + rank) % images)])
    metrics = evaluator.evaluate(images)
    Path(folder, f'{rank}.json').write_text(json.dumps(metrics))
    leave_process_group()


@pytest.mark.slow
@pytest.mark.e2e
def test_two_ranks_and_five_images_give_what_one_rank_gives(tmp_path):
    start_ranks(_evaluate_share, 5, str(tmp_path))
    wanted = evaluate([prediction(n) for n in range(5)])
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == pytest.approx(wanted)
