"""What the tests of gated families share."""
import copy
from typing import Iterator, Optional

import torch
from torch import Tensor, nn


def static_and_gated(static_class: type, gated_class: type, gated: Optional[dict] = None,
                     **options) -> tuple[nn.Module, nn.Module]:
    """A static and a gated backbone with the same weights; gates are the only new keys."""
    static = static_class(**copy.deepcopy(options))
    # A fresh residual branch ends in a zero norm: it must compute something to be compared.
    for parameter in static.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.0)
    backbone = gated_class(**copy.deepcopy(options), **(gated or {}))
    missing, unexpected = backbone.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert missing == [key for key in backbone.state_dict() if '.gate.' in key]
    return static, backbone


def padded_batch(number: int, size: int = 64) -> Tensor:
    """Noise in double precision: (N, 3, size, size), of which each picture but the first has padding of its own."""
    images = torch.randn(number, 3, size, size, dtype=torch.float64)
    for n, image in enumerate(images):
        image[:, size - 8 * n:] = 0
        image[:, :, size - 5 * n:] = 0
    return images


def randomize_gates(backbone: nn.Module) -> None:
    """Decisions that differ between images."""
    for gate in backbone.deciders():
        for parameter in gate.parameters():
            nn.init.normal_(parameter, std=0.7)


@torch.no_grad()
def assert_skipped_is_masked(backbone: nn.Module, images: Tensor) -> None:
    features = []
    for execution in ('skip', 'mask'):
        backbone.execution = execution
        features.append(backbone(images))
    for skipped, masked in zip(*features):
        torch.testing.assert_close(skipped, masked, rtol=1e-12, atol=1e-12 * masked.abs().max().item())


def branch_convs(backbone: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """The convolutions of all branches, each with its block's name."""
    for name, block in backbone.blocks():
        for key, module in block.named_modules():
            if isinstance(module, nn.Conv2d) and not key.startswith(('downsample', 'gate')):
                yield name, module


def images_run(backbone: nn.Module, images: Tensor) -> dict[str, int]:
    """Block name -> on how many images each of its branch's convolutions ran, which must be as many for each."""
    ran: dict[str, dict[nn.Module, int]] = {}

    def count(name: str, conv: nn.Module, out: Tensor) -> None:
        ran.setdefault(name, {}).setdefault(conv, 0)
        ran[name][conv] += len(out)

    handles = [conv.register_forward_hook(lambda module, args, out, name=name: count(name, module, out))
               for name, conv in branch_convs(backbone)]
    with torch.no_grad():
        backbone(images)
    for handle in handles:
        handle.remove()
    convs: dict[str, int] = {}
    for name, _ in branch_convs(backbone):
        convs[name] = convs.get(name, 0) + 1
    for name, numbers in ran.items():
        assert len(numbers) == convs[name] and len(set(numbers.values())) == 1, name
    return {name: next(iter(numbers.values())) for name, numbers in ran.items()}


def assert_every_gate_learns(backbone: nn.Module, images: Tensor) -> None:
    sum(out.square().mean() for out in backbone(images)).backward()
    assert backbone.gates()
    for name, gate in backbone.gates().items():
        for key, parameter in gate.named_parameters():
            assert parameter.grad.isfinite().all() and parameter.grad.any(), f'{name}.{key}'


@torch.no_grad()
def assert_no_images_give_no_features(static: nn.Module, backbone: nn.Module) -> None:
    images = torch.zeros(0, 3, 64, 64)
    static.eval()
    wanted = [(out.shape, out.dtype) for out in static(images)]
    for mode, execution in ((False, 'skip'), (False, 'mask'), (True, 'skip')):
        backbone.train(mode).execution = execution
        assert [(out.shape, out.dtype) for out in backbone(images)] == wanted
        assert all(decision.shape == (0, ) for decision in backbone.decisions.gates.values())


def assert_skipping_is_masking_whatever_is_decided(backbone: nn.Module, number: int) -> None:
    """In double precision, for forced decisions and for the gates' own, which differ between images."""
    backbone.double().eval()
    images = padded_batch(number)
    for _ in range(4):
        backbone.force_decisions({name: torch.randint(0, 2, (number, )) for name in backbone.gates()})
        assert_skipped_is_masked(backbone, images)
    backbone.force_decisions(None)
    randomize_gates(backbone)
    assert_skipped_is_masked(backbone, images)
    decisions = torch.stack(list(backbone.decisions.gates.values()))
    assert 0 < decisions.mean() < 1
