"""Lets a classifier learn from another one, its teacher, as well (Hinton et al., arXiv 1503.02531)."""
import inspect
from typing import Any, Optional

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from ..checkpoints import read_state_dict
from ..layers.gate import check_number
from ..registry import HOOKS, MODELS


def distillation_loss(logits: Tensor, wanted: Tensor, temperature: float = 1.0) -> Tensor:
    """Divergence of the student's softened answer from the teacher's, times the temperature squared (section 2).

    Args:
        logits: (N, classes) of the student.
        wanted: (N, classes) of the teacher; treated as a constant.
        temperature: Both are divided by it.

    Returns:
        The scalar mean over images, in float32 or wider.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    student = F.log_softmax(logits.to(dtype) / temperature, dim=1)
    teacher = F.log_softmax(wanted.detach().to(dtype) / temperature, dim=1)
    return F.kl_div(student, teacher, reduction='batchmean', log_target=True) * temperature**2


@HOOKS.register_module()
class DistillationHook(Hook):
    """Adds ``loss_distillation`` to the loss dict of a classifier, dynamic or static.

    A gate learns from what its block changes in the loss. Beside labels, that is a noisy measure: a hard image may be
    answered right or wrong by chance. Beside a teacher, a block that runs brings the answer nearer to the teacher's, and
    most so for the images that need it.

    The teacher runs in evaluation mode on the same inputs. It is not part of the model, nor of its checkpoints.

    Args:
        teacher: Config of the teacher, the ``model`` of its own config.
        checkpoint: Its weights; every one must be there and fit.
        layer: Name of the module, in both, whose output are the (N, classes) logits.
        loss_weight: At least 0.
        temperature: Above 0.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """

    priority = 'NORMAL'

    def __init__(self,
                 *,
                 teacher: dict,
                 checkpoint: str,
                 layer: str = 'head.fc',
                 loss_weight: float = 1.0,
                 temperature: float = 1.0) -> None:
        self.loss_weight = check_number('loss_weight', loss_weight, 0.0)
        self.temperature = check_number('temperature', temperature, 1e-6)
        self.teacher_cfg = teacher
        self.checkpoint = checkpoint
        self.layer = layer
        self._teacher: Optional[nn.Module] = None
        self._logits: dict[nn.Module, Tensor] = {}
        self._handles: list = []

    def before_train(self, runner) -> None:
        """Builds the teacher and watches the logits of both.

        Raises:
            CheckpointError: If the checkpoint cannot be read; RuntimeError if it is of another model.
            AttributeError: If either has no such ``layer``.
        """
        student = runner.model.module if is_model_wrapper(runner.model) else runner.model
        teacher = MODELS.build(self.teacher_cfg)
        teacher.load_state_dict(read_state_dict(self.checkpoint))
        # Channels last: half the time on CPUs, and what tensor cores take.
        teacher.to(next(student.parameters()).device, memory_format=torch.channels_last)
        self._teacher = teacher.eval().requires_grad_(False)
        self._handles = [model.get_submodule(self.layer).register_forward_hook(self._keep)
                         for model in (student, teacher)]
        self._handles.append(student.register_forward_hook(self._add_loss, with_kwargs=True))

    def after_train(self, runner) -> None:
        for handle in self._handles:
            handle.remove()
        self._teacher, self._handles = None, []

    def _keep(self, layer: nn.Module, inputs: tuple, logits: Tensor) -> None:
        self._logits[layer] = logits

    def _add_loss(self, student: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        call = inspect.signature(student.forward).bind(*args, **kwargs).arguments
        if call.get('mode') == 'loss' and isinstance(output, dict):
            with torch.no_grad():
                self._teacher(call['inputs'], mode='tensor')
            logits, wanted = (self._logits[model.get_submodule(self.layer)] for model in (student, self._teacher))
            output['loss_distillation'] = self.loss_weight * distillation_loss(logits, wanted, self.temperature)
        self._logits.clear()
