"""Two threads that run one model do not meet: their features and decisions are those of one after the other."""
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from mmengine.structures import BaseDataElement

from mmdyn.backbones import AIGMobileNetV2, AIGResNet, DGMobileNetV2, DGResNet
from mmdyn.hooks import attach
from torch import nn
from toy import SMALL_AIG, Classifier

BACKBONES = {
    'aig': lambda: AIGResNet(18, base_channels=8),
    'dg': lambda: DGResNet(depth=18, base_channels=8),
    'aig-mobilenet': lambda: AIGMobileNetV2(widen_factor=0.25),
    'dg-mobilenet': lambda: DGMobileNetV2(widen_factor=0.25),
}


def with_decisions_that_differ(backbone):
    for decider in backbone.deciders():
        for parameter in decider.parameters():
            nn.init.normal_(parameter, std=30.0 if parameter.dim() > 1 else 0.1)
    return backbone.eval()


def pictures(seed, number=50):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(40, 100, (number, 2), generator=generator).tolist()
    colours = 3 * torch.randn(number, 3, 1, 1, generator=generator)
    return [colour + torch.randn(1, 3, *size, generator=generator) for size, colour in zip(sizes, colours)]


def in_two_threads(function, *arguments):
    """The results of a function for each argument, computed at the same time."""
    barrier = Barrier(len(arguments))

    def run(argument):
        barrier.wait()
        return function(argument)

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(run, arguments))


@pytest.mark.parametrize('name', BACKBONES)
def test_two_threads_equal_one_after_the_other(name):
    backbone = with_decisions_that_differ(BACKBONES[name]())

    @torch.no_grad()
    def run(images):
        results = []
        for image in images:
            features = backbone(image)
            decisions = backbone.decisions
            values = [*decisions.gates.values(), *decisions.adjacency.values()]
            results.append([*features, torch.cat([value.flatten() for value in values])])
        return results

    halves = pictures(0), pictures(1)
    wanted = list(map(run, halves))
    assert len({tuple((decided > 0).tolist()) for half in wanted for *_, decided in half}) > 5  # routes differ
    for ours, theirs in zip(in_two_threads(run, *halves), wanted):
        for mine, one in zip(ours, theirs):
            assert all(torch.equal(a, b) for a, b in zip(mine, one, strict=True))


def test_each_threads_predictions_carry_their_own_decisions_and_cost():
    model = Classifier(SMALL_AIG)
    with_decisions_that_differ(model.backbone)
    model.eval()
    attach(model)

    @torch.no_grad()
    def run(images):
        samples = [model(image, [BaseDataElement(label=0)], mode='predict')[0] for image in images]
        return [(*(gate.item() for gate in sample.decisions.gates.values()), sample.cost.macs) for sample in samples]

    halves = pictures(0), pictures(1)
    ours = in_two_threads(run, *halves)
    assert ours == list(map(run, halves)) and len(set(sum(ours, []))) > 10
