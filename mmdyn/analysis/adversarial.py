"""Attacks on classifiers, and what they do to accuracy, compute and routes."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Optional

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..backbones.dynamic_backbone import DynamicBackbone
from ..cost import CostAccount, blocks_run
from ..engine import InputError
from ..layers.decisions import Decisions

ATTACKS = ('fgsm', 'pgd')


class PixelClassifier(nn.Module):
    """A classifier of MMPretrain that takes pixels in [0, 1], in the order of the file's channels, and gives logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes)."""
        inputs = self.model.data_preprocessor(dict(inputs=pixels * 255))['inputs']
        return self.model(inputs, mode='tensor')


@dataclass(frozen=True)
class Answer:
    """What a classifier says of N images.

    Attributes:
        correct: (N,) bool.
        ratio: (N,) dynamic over dense cost; None for a static backbone.
        route: (N, U) bool: blocks that ran and edges that were open; None for a static backbone.
    """

    correct: Tensor
    ratio: Optional[Tensor] = None
    route: Optional[Tensor] = None


class Subject:
    """A classifier under attack, static or dynamic.

    Args:
        name: For the table.
        model: ``ImageClassifier``.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name = name
        self.classifier = PixelClassifier(model).eval()
        backbone = model.backbone
        self._dynamic = backbone if isinstance(backbone, DynamicBackbone) and any(backbone.deciders()) else None
        self._account = CostAccount(backbone) if self._dynamic else None

    @torch.no_grad()
    def ask(self, pixels: Tensor, labels: Tensor) -> Answer:
        """Classifies (N, 3, H, W) pixels in [0, 1]."""
        correct = self.classifier(pixels).argmax(dim=1) == labels
        if self._dynamic is None:
            return Answer(correct)
        decisions = self._dynamic.decisions
        assert decisions is not None  # it has just run
        costs = self._account.images(decisions)
        return Answer(correct, torch.tensor([cost.macs / cost.dense_macs for cost in costs]), routes(decisions))

    def attack(self, kind: str, epsilon: float, steps: int, pixels: Tensor, labels: Tensor) -> Tensor:
        """Pixels within ``epsilon`` of the given ones, in the maximum norm, made to be taken for something else.

        White-box: the gradient is that of this very model along the route that each image takes, decisions held.
        """
        torchattacks = _torchattacks()
        if kind == 'fgsm':
            attack = torchattacks.FGSM(self.classifier, eps=epsilon)
        else:
            attack = torchattacks.PGD(self.classifier, eps=epsilon, alpha=2.5 * epsilon / steps, steps=steps)
        with frozen(self.classifier):
            return attack(pixels, labels)


def _torchattacks() -> ModuleType:
    try:
        import torchattacks
    except ImportError:
        raise InputError("attacks need torchattacks: pip install torchattacks (or pip install '.[analysis]')") from None
    return torchattacks


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Takes no gradients of parameters: an attack needs those of the pixels alone."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def routes(decisions: Decisions) -> Tensor:
    """(N, U) bool: the blocks that ran, then the edges of wired stages that were open."""
    units = [value.bool()[:, None] for value in blocks_run(decisions).values()]
    for adjacency in decisions.adjacency.values():
        i, j = torch.triu_indices(*adjacency.shape[1:], offset=1)
        units.append(adjacency[:, i, j] > 0)
    return torch.cat(units, dim=1).cpu()


def recompress(pixels: Tensor, quality: int) -> Tensor:
    """(N, 3, H, W) BGR pixels in [0, 1] after JPEG compression and decompression."""
    images = (pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    decoded = [cv2.imdecode(cv2.imencode('.jpg', image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], cv2.IMREAD_COLOR)
               for image in images]
    return (torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float() / 255).to(pixels)


@dataclass(frozen=True)
class Row:
    """One line of the table: means over images.

    Attributes:
        attack: Or ``none``.
        epsilon: Largest change of a pixel, of 255.
        jpeg: Whether images were recompressed after the attack.
        accuracy: Share of images classified right.
        ratio: Mean dynamic over dense cost; None for a static backbone.
        changed: Share of the gates and edges that decide otherwise than for the image as it was, same JPEG.
        rerouted: Share of the images with any such change.
    """

    model: str
    attack: str
    epsilon: float
    jpeg: bool
    accuracy: float
    ratio: Optional[float]
    changed: Optional[float]
    rerouted: Optional[float]


def study(subject: Subject, batches: Sequence[tuple[Tensor, Tensor]], attacks: Sequence[str], epsilons: Sequence[float],
          *, steps: int, jpeg: Optional[int]) -> Iterator[Row]:
    """The rows of one model: clean first, then every attack at every epsilon, each without and with JPEG.

    Args:
        batches: (N, 3, H, W) pixels in [0, 1] and (N,) labels.
        epsilons: In units of 1/255.
        steps: Of PGD.
        jpeg: Quality; None without recompression.
    """
    qualities = (None, ) if jpeg is None else (None, jpeg)
    clean = {}
    for quality in qualities:
        clean[quality] = [subject.ask(_seen(pixels, quality), labels) for pixels, labels in batches]
        yield _row(subject, 'none', 0, quality, clean[quality], clean[quality])
    for kind in attacks:
        for epsilon in epsilons:
            attacked = [(subject.attack(kind, epsilon / 255, steps, pixels, labels), labels)
                        for pixels, labels in batches]
            for quality in qualities:
                answers = [subject.ask(_seen(pixels, quality), labels) for pixels, labels in attacked]
                yield _row(subject, kind, epsilon, quality, answers, clean[quality])


def _seen(pixels: Tensor, quality: Optional[int]) -> Tensor:
    return pixels if quality is None else recompress(pixels, quality)


def _row(subject: Subject, attack: str, epsilon: float, quality: Optional[int], answers: list[Answer],
         clean: list[Answer]) -> Row:
    accuracy = torch.cat([answer.correct for answer in answers]).float().mean().item()
    ratio = changed = rerouted = None
    if answers[0].route is not None:
        ratio = torch.cat([answer.ratio for answer in answers]).mean().item()
        differs = torch.cat([now.route != before.route for now, before in zip(answers, clean)])
        changed, rerouted = differs.float().mean().item(), differs.any(dim=1).float().mean().item()
    return Row(subject.name, attack, epsilon, quality is not None, accuracy, ratio, changed, rerouted)
