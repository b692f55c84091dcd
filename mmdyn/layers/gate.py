"""The gates of residual blocks: learned by sampling (ConvNet-AIG, section 3.2), or taught by the classes."""
from numbers import Real
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor, nn

from ..functional.autocast import without_autocast
from ..functional.gumbel import bounded, gumbel_gate, logistic_noise, open_logit
from .calibration import RunningQuantile
from .feature_norm import NORMS, finite_features, normalise

POLICIES = ('argmax', 'sample', 'expected')
ESTIMATORS = ('straight_through', 'reinmax', 'taught')
MAX_HIDDEN_CHANNELS = 65536  # more is a slip of the pen, which would otherwise end in an allocator's words
# Taught logits lie between these, 55 times the typical damage and a 55th: noise of scale 2 still opens and closes a gate
# at a bound, and what it learns from then leads it back.
_TAUGHT_BOUND = 4.0


def check_number(name: str, value: object, low: float, high: float = float('inf'), *, above: bool = False) -> float:
    """Returns ``value`` as a float, or says which argument lies outside [low, high], or, if ``above``, is ``low`` itself.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is out of range or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f'{name} must be a number in [{low}, {high}], got {value!r}')
    if not low <= float(value) <= high:
        raise ValueError(f'{name} must lie in [{low}, {high}], got {value!r}')
    if above and value == low:
        raise ValueError(f'{name} must be above {low:g}, got {value!r}')
    return float(value)


class GateOutput(NamedTuple):
    """What a gate says of N images.

    Attributes:
        decision: (N,), 0 or 1 (policy ``'expected'``: the open probability).
        logit: (N,), of the open probability.
        features: (N, channels), what the gate classified, of a confidence gate.
    """
    decision: Tensor
    logit: Tensor
    features: Optional[Tensor] = None


class BaseGate(RunningQuantile):
    """From the logit of the open probability to a decision, at evaluation by a running quantile of the logits if asked.

    Args:
        policy: At evaluation: ``'argmax'`` opens above ``open_probability``; ``'sample'`` draws; ``'expected'`` returns the
            open probability itself. Of a taught gate, that is the one above its threshold.
        open_probability: A number in [0, 1], or ``'calibrated'``: above a running quantile of the
            gate's own logits, so that the target share of images opens.
        target_rate: The wanted share of open images, or None.

    Attributes:
        cost: Multiply-adds of the blocks that the gate decides about, as shares of those of all gates (set by
            :func:`mmdyn.attach`).
    """

    cost: float = 1.0
    is_taught: bool = False

    def __init__(self,
                 *,
                 policy: str = 'argmax',
                 open_probability: Union[float, str] = 0.5,
                 target_rate: Optional[float] = None) -> None:
        super().__init__()
        self.policy = policy
        self.target_rate = target_rate
        self.open_probability = open_probability

    @property
    def policy(self) -> str:
        """How evaluation decides."""
        return self._policy

    @policy.setter
    def policy(self, policy: str) -> None:
        if policy not in POLICIES:
            raise ValueError(f'policy must be one of {POLICIES}, got {policy!r}')
        self._policy = policy

    @property
    def open_probability(self) -> Union[float, str]:
        """The probability above which ``argmax`` opens, or ``'calibrated'``; may be moved."""
        return self._open_probability

    @open_probability.setter
    def open_probability(self, value: Union[float, str]) -> None:
        if value != 'calibrated':
            if isinstance(value, str):
                raise ValueError(f"open_probability must be a number or 'calibrated', got {value!r}")
            value = check_number('open_probability', value, 0.0, 1.0)
        self._open_probability = value

    def _evaluate(self, logit: Tensor) -> Tensor:
        if self.policy != 'argmax':
            logit = logit - self.quantile if self.is_taught else logit  # which is no probability, but a cost
            return torch.sigmoid(logit) if self.policy == 'expected' else gumbel_gate(logit)
        if self.open_probability == 'calibrated':
            return (logit > self.quantile).to(logit.dtype)
        return (torch.sigmoid(logit) > self.open_probability).to(logit.dtype)

    @property
    def has_quantile(self) -> bool:
        """Whether it decides by its running quantile (:mod:`mmdyn.layers.calibration`)."""
        return self.open_probability == 'calibrated'


class Gate(BaseGate):
    """Decides from a block's input, image by image, whether the block runs.

    ``W2 . ReLU(Norm(W1 . pooled input))`` gives two logits, closed and open. While training, the
    decision is a hard Gumbel sample; at evaluation it follows ``policy``. All of it in float32
    (or wider), also under autocast.

    A sampled rate is not a deterministic rate: a gate that says 0.55 for every image is open for
    55 % of them when sampled, and for all of them under ``argmax``. Two remedies are built in:
    :attr:`noise` can be annealed to 0 while training, and ``open_probability='calibrated'`` opens
    above a running quantile of the gate's own logits, so that the target share of images opens.

    Args:
        in_channels: Channels of the block's input.
        hidden_channels: Width of the hidden layer.
        norm: ``'LN'``, ``'BN'`` (the paper's), or None. A layer norm does not depend on the
            batch, which for detectors is often one or two images a GPU.
        temperature: Of the Gumbel relaxation.
        estimator: What teaches the gate while training. ``'straight_through'`` (the paper's) and ``'reinmax'``
            (:func:`mmdyn.functional.gumbel.reinmax_surrogate`): the gradient of the losses with respect to the sampled
            decision. ``'taught'``: no gradient goes through the decision, and none to what the gate reads;
            ``mmdyn.TaughtGateLoss`` teaches the logit to be the logarithm of what closing costs, so that all gates of a
            backbone share one threshold, the running quantile, and the mean of their target rates is met by all together.
        **kwargs: Those of :class:`BaseGate`.
    """

    def __init__(self,
                 in_channels: int,
                 *,
                 hidden_channels: int = 16,
                 norm: Optional[str] = 'LN',
                 temperature: float = 1.0,
                 estimator: str = 'straight_through',
                 **kwargs) -> None:
        super().__init__(**kwargs)
        if estimator not in ESTIMATORS:
            raise ValueError(f'gate estimator must be one of {ESTIMATORS}, got {estimator!r}')
        self.estimator = estimator
        self.is_taught = estimator == 'taught'
        if self.is_taught:
            # By which training decides, with noise. Evaluation has another, which alone belongs among the weights.
            self.sampling = RunningQuantile(persistent=False)
        if not isinstance(hidden_channels, int) or not 1 <= hidden_channels <= MAX_HIDDEN_CHANNELS:
            raise ValueError(f'gate hidden_channels must be an int in [1, {MAX_HIDDEN_CHANNELS}], got {hidden_channels!r}')
        if norm not in tuple(NORMS):  # compares, where the dict would hash what may be a list
            raise ValueError(f'gate norm must be one of {list(NORMS)}, got {norm!r}')
        self.temperature = check_number('gate temperature', temperature, 0.0, above=True)
        self.noise = 1.0
        self.fc1 = nn.Linear(in_channels, hidden_channels)
        self.norm = NORMS[norm](hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, 2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts 87 % open whatever the image: sigmoid(2 - 0.1); taught gates with closing at its typical cost."""
        nn.init.normal_(self.fc2.weight, std=0.001)
        with torch.no_grad():
            self.fc2.bias.copy_(torch.tensor([0.0, 0.0] if self.is_taught else [0.1, 2.0]))

    @property
    def has_quantile(self) -> bool:
        return super().has_quantile or self.is_taught

    def forward(self, pooled: Tensor) -> GateOutput:
        """Decides.

        Args:
            pooled: (N, in_channels), averages over each image of the block's input.
        """
        # What a taught gate is to tell must not shape the features that it reads.
        pooled = pooled.detach() if self.is_taught else pooled
        with without_autocast(pooled):
            hidden = torch.relu(normalise(self.norm, self.fc1(finite_features(pooled, self.fc1))))
            logit = open_logit(self.fc2(hidden))
            if self.is_taught:
                logit = bounded(logit, _TAUGHT_BOUND)
            return GateOutput(self._sample(logit) if self.training else self._evaluate(logit), logit)

    def _sample(self, logit: Tensor) -> Tensor:
        if not self.is_taught:
            return gumbel_gate(logit, self.temperature, self.noise, reinmax=self.estimator == 'reinmax')
        above = logit.detach() - self.sampling.quantile
        return (above + self.noise * logistic_noise(above) > 0).to(logit.dtype)


class ConfidenceGate(BaseGate):
    """Opens for images of whose class it is in doubt.

    The model's own classifier, on the block's pooled input. The open probability is the
    probability that its best class is wrong, ``1 - max softmax``. Once the class of an image is
    clear, no later gate opens (early exits: Teerapittayanon et al., ICPR 2016, arXiv 1709.01686,
    section III), and the classifier will say of the last features what it has said here. While
    training, every block runs; nothing is sampled, and :attr:`open_probability` chooses the cost.

    :attr:`fc` does not learn: ``mmdyn.GateClassLoss`` keeps it a copy of the classifier, and
    teaches the features between the blocks to be classified by it.

    Args:
        in_channels: Channels of the block's input.
        num_classes: At least 2.
        **kwargs: Those of :class:`BaseGate`, without target rate and calibration.

    Raises:
        ValueError: For another number of classes, a target rate or ``'calibrated'``.
    """

    def __init__(self, in_channels: int, *, num_classes: int, **kwargs) -> None:
        super().__init__(**kwargs)
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(f'gate num_classes must be an int of at least 2, got {num_classes!r}')
        if self.target_rate is not None or self.open_probability == 'calibrated':
            raise ValueError('gate=dict(num_classes=...) makes gates that open while a classifier is unsure, and not at '
                             'a target rate: expected a number as open_probability and None (a gate) or 1 (none) as '
                             f'target rate, got {self.open_probability!r} and {self.target_rate}')
        # In doubt whatever the image, until there is a classifier.
        self.fc = nn.Linear(in_channels, num_classes).requires_grad_(False)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, pooled: Tensor) -> GateOutput:
        """Decides.

        Args:
            pooled: (N, in_channels), averages over each image of the block's input.
        """
        with without_autocast(pooled):
            features = finite_features(pooled, self.fc)
            # From the sorted scores, since 1 - max softmax rounds to 0 where the class is clear.
            ordered = self.fc(features.detach()).sort(dim=1, descending=True).values
            logit = ordered[:, 1:].logsumexp(dim=1) - ordered[:, 0]
            decision = torch.ones_like(logit) if self.training else self._evaluate(logit)
            return GateOutput(decision, logit, features)


def ask(gate: BaseGate, pooled: Tensor, before: Optional[Tensor]) -> GateOutput:
    """What a gate says; a confidence gate opens for no image that the gate before it shut.

    Args:
        gate: The gate.
        pooled: (N, channels), what it reads.
        before: (N,) decisions of the gate before it, if there is one.
    """
    output = gate(pooled)
    if before is None or not isinstance(gate, ConfidenceGate):
        return output
    return output._replace(decision=output.decision * before)
