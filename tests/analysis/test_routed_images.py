"""Images along routes that are given, and what is known of them afterwards."""
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader
from toy import SMALL_AIG, Classifier, Pictures

from mmdyn.analysis.budget_knob import knob_of
from mmdyn.analysis.routed_images import RoutedImages, deal, forced
from mmdyn.cost import CostAccount

WIRED = {name: value for name, value in SMALL_AIG.items() if name != 'type'} | dict(type='mmdyn.DGResNet')
GROUPED = dict(SMALL_AIG, gate_groups=[['layer1.0', 'layer1.1']])
BACKBONES = {'gates': SMALL_AIG, 'groups': GROUPED, 'wired': WIRED}


def images_of(backbone: dict, seed: int = 0) -> RoutedImages:
    """Eight pictures in batches of three, and gates or routers that tell them apart."""
    model = Classifier(dict(backbone, zero_init_residual=False))
    for decider in model.backbone.deciders():
        for parameter in decider.parameters():
            torch.nn.init.normal_(parameter)
    loader = DataLoader(Pictures(), batch_size=3, collate_fn=pseudo_collate)
    return RoutedImages(model, knob_of(model.backbone), loader, seed)


@pytest.mark.parametrize('name', BACKBONES)
def test_images_take_the_routes_that_they_are_given(name):
    images = images_of(BACKBONES[name])
    setattr(images.model.backbone, images.knob.name, float(np.median(images.run().turns)))  # some are open, some shut
    own = images.run().routes
    dealt = deal(own, seed=1)
    with forced(images.model.backbone, dealt):
        for _ in range(2):  # a second run begins with the first image again
            taken = images.run().routes
            assert all(torch.equal(taken[block], route) for block, route in dealt.items())
    again = images.run().routes
    assert all(torch.equal(again[block], route) for block, route in own.items())
    assert any(not torch.equal(dealt[block], route) for block, route in own.items())


def test_one_route_for_all():
    images = images_of(SMALL_AIG)
    backbone = images.model.backbone
    with forced(backbone, {name: torch.tensor([float(name == 'layer1.1')]) for name in backbone.gates()}):
        outcome = images.run()
    assert {name: decided.tolist() for name, decided in outcome.routes.items()} == {
        name: [float(name == 'layer1.1')] * 8 for name in backbone.gates()}
    account = CostAccount(backbone)
    macs, dense = account.conditional_macs((16, 16)), account.dense_macs((16, 16))
    assert outcome.share == (dense - sum(macs.values()) + macs['layer1.1']) / dense


def test_dealing_changes_who_gets_which_route_and_nothing_else():
    routes = {'layer1.0': torch.arange(8.), 'layer1.1': torch.arange(8.) + 10}
    dealt = deal(routes, seed=0)
    assert sorted(dealt['layer1.0'].tolist()) == routes['layer1.0'].tolist() != dealt['layer1.0'].tolist()
    assert torch.equal(dealt['layer1.1'], dealt['layer1.0'] + 10)  # whole routes
    assert torch.equal(deal(routes, seed=0)['layer1.0'], dealt['layer1.0'])
    assert not torch.equal(deal(routes, seed=1)['layer1.0'], dealt['layer1.0'])


@pytest.mark.parametrize('name', BACKBONES)
def test_costs_and_turns(name):
    """A value between two turns next to each other decides what the turns say; what is open is above."""
    images = images_of(BACKBONES[name])
    backbone, knob = images.model.backbone, images.knob
    setattr(backbone, knob.name, knob.lowest)
    first = images.run()
    assert len(first.turns) > 8 and (name == 'wired' or first.share == 1)
    value = float(first.turns[:2].mean())
    setattr(backbone, knob.name, value)
    found = images.run().routes
    changed = sum(((found[block] > 0) != (route > 0)).sum().item() for block, route in first.routes.items())
    assert changed >= 1
    setattr(backbone, knob.name, knob.highest)
    assert images.run().share < first.share


def test_the_loss_is_the_mean_over_images():
    images = images_of(SMALL_AIG)
    scores = images.model.eval()(Pictures().images)
    wanted = torch.nn.functional.cross_entropy(scores, torch.arange(8) % 2)
    outcome = images.run(with_loss=True)
    assert outcome.loss == pytest.approx(wanted.item(), rel=1e-5)
    assert outcome.share == images.run().share
