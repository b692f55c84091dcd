"""A training that ends before its time says why, which checkpoint is the last and how to go on."""
from types import SimpleNamespace

import pytest
from mmengine.hooks import Hook
from torch import nn
from toy import SMALL_AIG, toy_runner

from mmdyn.engine import InputError, run_training
from mmdyn.engine.class_check import check_classes

LOSS = [dict(type='mmdyn.TargetRateLoss')]
BACKBONE = dict(SMALL_AIG, target_rates=0.5)


class Raise(Hook):
    """Raises in one iteration."""

    def __init__(self, error: BaseException, iteration: int) -> None:
        self.error, self.iteration = error, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == self.iteration:
            raise self.error


def stopped(folder, error=None, iteration=3, backbone=BACKBONE, losses=LOSS, hooks=(), **options):
    hooks = [dict(type='mmdyn.DynamicModelHook', losses=losses), *hooks, *([Raise(error, iteration)] if error else [])]
    run_training(toy_runner(folder, backbone, hooks=hooks, **options))


def test_ctrl_c_names_the_place_and_the_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        stopped(tmp_path, KeyboardInterrupt())
    assert str(caught.value) == (f'stopped by Ctrl-C in iteration 4 of 4. The last checkpoint is {tmp_path}/iter_2.pth; '
                                 'with --resume, the same command goes on from there.')


def test_ctrl_c_before_the_first_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt, match='in iteration 2 of 4. There is no checkpoint yet.'):
        stopped(tmp_path, KeyboardInterrupt(), iteration=1)


def test_losses_that_are_no_numbers(tmp_path):
    with pytest.raises(InputError, match=r'iteration 3: .*loss_cls is nan.* The last checkpoint is .*iter_2.pth; with'):
        stopped(tmp_path, poison_at=5)


def test_a_full_disk(tmp_path):
    with pytest.raises(InputError, match='No space left on device. The last checkpoint is .*iter_2.pth'):
        stopped(tmp_path, OSError(28, 'No space left on device'))


def test_an_error_of_the_code_stays_as_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError):
        stopped(tmp_path, ZeroDivisionError())


def test_what_the_optimiser_refuses_is_an_error_of_the_config(tmp_path):
    with pytest.raises(InputError, match='the training cannot start: ValueError: Invalid learning rate: -1'):
        stopped(tmp_path, optim_wrapper=dict(optimizer=dict(type='SGD', lr=-1)))


def test_gates_that_ask_a_classifier_which_nothing_names(tmp_path):
    backbone = dict(SMALL_AIG, gate=dict(num_classes=80), target_rates=[1, 1, 1, None])
    with pytest.raises(InputError, match=r"asks the model's classifier, and nothing has named one: add .*GateClassLoss"):
        stopped(tmp_path, backbone=backbone)


def test_taught_gates_beside_the_loss_of_sampled_ones(tmp_path):
    with pytest.raises(InputError, match=r"dict\(type='mmdyn.TaughtGateLoss'\) among the losses, got TargetRateLoss"):
        stopped(tmp_path, backbone=dict(BACKBONE, gate=dict(estimator='taught')))


def test_sampled_gates_beside_the_loss_of_taught_ones(tmp_path):
    with pytest.raises(InputError, match=r"expects gate=dict\(estimator='taught'\) .*'straight_through'"):
        stopped(tmp_path, losses=[dict(type='mmdyn.TaughtGateLoss')])


def model_with(head: str, num_classes: int, kind: type = nn.Identity) -> nn.Module:
    """A model whose only layer is a head."""
    model = nn.Module()
    inner = model
    *parents, name = head.split('.')
    for parent in parents:
        inner.add_module(parent, nn.Module())
        inner = getattr(inner, parent)
    inner.add_module(name, kind())
    getattr(inner, name).num_classes = num_classes
    return model


CLASSES = ('cat', 'dog', 'bird')


@pytest.mark.parametrize('head', ['bbox_head', 'roi_head.bbox_head', 'roi_head.bbox_head.0'])
def test_detectors_have_as_many_classes_as_the_data(head):
    check_classes(model_with(head, 3), dict(classes=CLASSES))
    for wrong in (2, 80):
        with pytest.raises(InputError, match=rf'model.{head}.num_classes is {wrong}, but the training data have 3 classes '
                                             rf'\(cat, dog, bird\): set model.{head}.num_classes=3'):
            check_classes(model_with(head, wrong), dict(classes=CLASSES))


def test_classifiers_have_at_least_as_many():
    check_classes(model_with('head', 1000), dict(classes=CLASSES))
    with pytest.raises(InputError, match='model.head.num_classes is 2'):
        check_classes(model_with('head', 2), dict(classes=CLASSES))


def test_heads_that_mean_something_else_by_classes():
    proposals = type('RPNHead', (nn.Identity, ), {})
    check_classes(model_with('bbox_head', 1, proposals), dict(classes=CLASSES))
    check_classes(model_with('bbox_head', 3), dict(classes=(*CLASSES, 'sky'), thing_classes=CLASSES))
    check_classes(model_with('mask_head', 80), dict(classes=CLASSES))
    check_classes(model_with('bbox_head', 80), {})
    open_vocabulary = model_with('bbox_head', 256)
    open_vocabulary.language_model = SimpleNamespace()
    check_classes(open_vocabulary, dict(classes=CLASSES))
