"""Attacks stay within their bound, and routes are compared rightly."""
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmdyn.analysis import adversarial, robustness_table
from mmdyn.cost import blocks_run
from mmdyn.layers.decisions import Decisions

STRENGTH = 8 / 255


def classifier(seed: int = 0, **backbone):
    """A small AIG classifier whose gates tell images apart."""
    init_default_scope('mmpretrain')
    torch.manual_seed(seed)
    model = MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='mmdyn.AIGResNetCIFAR', depth=20, base_channels=4, **backbone),
        neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=16),
        data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)))
    for gate in model.backbone.deciders():
        for parameter in gate.parameters():
            parameter.data += torch.randn(parameter.shape)
    return model.eval()


@pytest.fixture
def batch():
    return torch.rand(6, 3, 32, 32), torch.tensor([0, 1, 2] * 2)


def test_the_same_answer_as_the_model_itself(batch):
    model, (pixels, labels) = classifier(), batch
    answer = adversarial.Subject('x', model).ask(pixels, labels)
    data = model.data_preprocessor(dict(inputs=[image * 255 for image in pixels]))['inputs']
    with torch.no_grad():
        wanted = model(data, mode='tensor').argmax(dim=1)
    assert torch.equal(answer.correct, wanted == labels)
    assert torch.equal(answer.route, torch.stack(list(blocks_run(model.backbone.decisions).values()), dim=1).bool())
    assert answer.ratio.max() <= 1


@pytest.mark.parametrize('kind', adversarial.ATTACKS)
def test_attacks_hurt_and_keep_their_bound(batch, kind):
    pytest.importorskip('torchattacks')
    model, (pixels, _) = classifier(), batch
    subject = adversarial.Subject('x', model)
    with torch.no_grad():
        labels = subject.classifier(pixels).argmax(dim=1)
        before = torch.nn.functional.cross_entropy(subject.classifier(pixels), labels)
    attacked = subject.attack(kind, STRENGTH, 4, pixels, labels)
    with torch.no_grad():
        after = torch.nn.functional.cross_entropy(subject.classifier(attacked), labels)
    assert (attacked - pixels).abs().max() <= STRENGTH + 1e-6 and 0 <= attacked.min() and attacked.max() <= 1
    assert after > before
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_static_model_has_no_routes(batch):
    answer = adversarial.Subject('x', classifier(target_rates=1)).ask(*batch)
    assert answer.route is None and answer.ratio is None


def test_jpeg_of_quality_100_changes_little_and_of_1_much():
    smooth = torch.linspace(0.2, 0.8, 32).expand(1, 3, 32, 32)
    assert (adversarial.recompress(smooth, 100) - smooth).abs().max() < 0.02
    assert (adversarial.recompress(smooth, 1) - smooth).abs().max() > 0.05


def test_rows_compare_with_the_clean_images(batch):
    pytest.importorskip('torchattacks')
    rows = list(adversarial.study(adversarial.Subject('x', classifier()), [batch], ['fgsm'], [8], steps=1, jpeg=75))
    assert [(row.attack, row.jpeg) for row in rows] == [('none', False), ('none', True), ('fgsm', False), ('fgsm', True)]
    assert rows[0].changed == rows[1].changed == rows[1].rerouted == 0
    assert all(0 <= row.changed <= row.rerouted <= 1 for row in rows)
    text = robustness_table.table(rows)
    assert text.splitlines()[4].startswith('| x | fgsm | 8 | no | ') and robustness_table.draw(rows).axes


def test_routes_of_wired_stages():
    decisions = Decisions(torch.tensor([[32, 32]]), (32, 32))
    decisions.adjacency['layer1'] = torch.tensor([[[0., 1, 0], [0, 0, 1], [0, 0, 0]]])
    assert adversarial.routes(decisions).tolist() == [[True, True, False, True]]
