"""DistillationHook: the loss is the divergence from the teacher, and the teacher stays out of the model."""
import pytest
import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from toy import SMALL_AIG, Classifier, toy_runner

from mmdyn.checkpoints import CheckpointError
from mmdyn.hooks import DistillationHook
from mmdyn.hooks.distillation_hook import distillation_loss

STATIC = dict(SMALL_AIG, target_rates=1)
TEACHER = dict(type='ToyTeacher', backbone=STATIC)


@MMENGINE_MODELS.register_module()
class ToyTeacher(Classifier):
    """The toy classifier, under a name that a config can give."""


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(1)
    model = Classifier(STATIC).eval()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
    return model


def distilling(tmp_path, **options):
    return dict(type='mmdyn.DistillationHook', teacher=TEACHER, checkpoint=str(tmp_path / 'teacher.pth'),
                layer='head', **options)


def test_the_loss_is_the_definition():
    generator = torch.Generator().manual_seed(0)
    logits, wanted = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    p, q = (torch.softmax(x / 2, dim=1) for x in (wanted, logits))
    by_hand = 4 * (p * (p / q).log()).sum(dim=1).mean()
    assert torch.allclose(distillation_loss(logits, wanted, 2.0), by_hand, atol=1e-12)
    assert distillation_loss(wanted, wanted, 2.0) == 0


@pytest.mark.parametrize('student', [SMALL_AIG, STATIC], ids=['aig', 'static'])
def test_it_joins_the_loss_dict(tmp_path, teacher, student):
    runner = toy_runner(tmp_path, student, hooks=[distilling(tmp_path, loss_weight=0.5, temperature=2.0)])
    seen = []

    def look(model, args, kwargs, output):
        if kwargs.get('mode') == 'loss':
            with torch.no_grad():
                wanted = teacher(kwargs['inputs'])
            seen.append((output['loss_distillation'], 0.5 * distillation_loss(logits[-1], wanted, 2.0)))

    logits: list = []
    runner.model.head.register_forward_hook(lambda layer, inputs, output: logits.append(output.detach()))
    runner.register_hook(_Late(look))
    keys = list(runner.model.state_dict())
    runner.train()
    assert len(seen) == 4
    for given, wanted in seen:
        assert given.requires_grad and torch.allclose(given.detach(), wanted, atol=1e-6)
    assert list(runner.model.state_dict()) == keys
    saved = torch.load(tmp_path / 'iter_4.pth', weights_only=False)['state_dict']
    assert list(saved) == keys


class _Late(DistillationHook):
    """Registers a forward hook after that of the DistillationHook."""

    priority = 'LOWEST'

    def __init__(self, look) -> None:
        self.look = look

    def before_train(self, runner) -> None:
        runner.model.register_forward_hook(self.look, with_kwargs=True)

    def after_train(self, runner) -> None:
        pass


def test_after_the_training_it_is_gone(tmp_path, teacher):
    hook = DistillationHook(teacher=TEACHER, checkpoint=str(tmp_path / 'teacher.pth'), layer='head')
    runner = toy_runner(tmp_path, STATIC, hooks=[hook])
    before = teacher.state_dict()
    runner.train()
    assert not runner.model._forward_hooks and not runner.model.head._forward_hooks and hook._teacher is None
    read = torch.load(tmp_path / 'teacher.pth')['state_dict']
    assert all(torch.equal(read[key], before[key]) for key in before)


def test_a_perfect_student_learns_nothing_from_its_teacher(tmp_path, teacher):
    hook = DistillationHook(teacher=TEACHER, checkpoint=str(tmp_path / 'teacher.pth'), layer='head')
    runner = toy_runner(tmp_path, STATIC)
    runner.model.load_state_dict(teacher.state_dict())
    hook.before_train(runner)
    runner.model.eval()
    losses = {}
    runner.model.register_forward_hook(lambda model, inputs, output: losses.update(output))
    images = torch.randn(4, 3, 16, 16)
    from mmengine.structures import BaseDataElement
    runner.model(images, [BaseDataElement(label=0)] * 4, mode='loss')
    assert losses['loss_distillation'].abs() < 1e-6
    hook.after_train(runner)


def test_weights_of_another_model_are_refused(tmp_path, teacher):
    torch.save(dict(state_dict=dict(foreign=torch.zeros(1))), tmp_path / 'teacher.pth')
    with pytest.raises(RuntimeError, match='foreign'):
        toy_runner(tmp_path, STATIC, hooks=[distilling(tmp_path)]).train()


def test_an_absent_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match='found nothing at .*teacher.pth'):
        toy_runner(tmp_path, STATIC, hooks=[distilling(tmp_path)]).train()


@pytest.mark.parametrize('options', [dict(loss_weight=-1), dict(temperature=0)])
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DistillationHook(teacher=TEACHER, checkpoint='x', **options)
