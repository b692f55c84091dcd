"""What the tests of the four wired families share."""
import torch
from torch import nn


def static_and_dynamic(static_class, dynamic_class, dynamic=None, **options):
    """A static and a wired backbone with the same weights; routers are the only new keys."""
    static = static_class(**options)
    # A fresh residual branch ends in a zero norm: it must compute something to be compared.
    for parameter in static.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.0)
    backbone = dynamic_class(**options, **(dynamic or {}))
    missing, unexpected = backbone.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected and missing and all('.router.' in key for key in missing)
    return static, backbone


def randomize_routers(backbone, std=0.5):
    """Decisions that differ between images, some of them closed."""
    for router in backbone.deciders():
        nn.init.normal_(router.weight, std=std)
        nn.init.normal_(router.bias, std=1.0)


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert type(a) is torch.Tensor and torch.equal(a, b), (a - b).abs().max()


def assert_close(ours, theirs, tolerance=1e-4):
    for a, b in zip(ours, theirs):
        assert (a - b).abs().max() <= tolerance * b.abs().max()


def assert_every_parameter_has_a_gradient(backbone, images):
    backbone.zero_grad(set_to_none=True)
    sum(out.square().mean() for out in backbone(images)).backward()
    without = [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)
