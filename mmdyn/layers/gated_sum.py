"""The end of a gated block in training, at what the end of a static block keeps for the backward pass."""
from typing import Optional

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..functional.torch_versions import is_traced
from .forward_hooks import has_hooks


def gated_sum(shortcut: Tensor, z: Tensor, decision: Tensor, norm: nn.BatchNorm2d, activated: bool) -> Tensor:
    """``relu(shortcut + decision * norm(z))``, of which z and the output are kept, and norm(z) is not.

    Autograd would keep norm(z) beside z to know what opening each image is worth; but norm(z) is affine in z, so two
    sums over each of z's maps say it. Sums over a map are taken in float32 or wider.

    Args:
        shortcut: (N, C, H, W).
        z: (N, C, H, W), the output of the branch's last convolution.
        decision: (N,), 0 or 1 (or a weight).
        norm: The branch's last norm, with :func:`is_plain`.
        activated: Whether a ReLU follows the sum.

    Returns:
        (N, C, H, W); differentiable once.
    """
    momentum = 0.0
    if norm.training:
        momentum = norm.momentum
        norm.num_batches_tracked.add_(1)
    return _GatedSum.apply(shortcut, z, decision, norm.weight, norm.bias, norm.running_mean, norm.running_var,
                           norm.training, momentum, norm.eps, activated)


def is_plain(norm: Optional[nn.Module], activation: Optional[nn.Module]) -> bool:
    """Whether a block ends as :func:`gated_sum` can: an ordinary BatchNorm, a ReLU or nothing, and no hooks on them."""
    if is_traced() or type(norm) is not nn.BatchNorm2d or has_hooks(norm):
        return False
    if activation is not None and (type(activation) is not nn.ReLU or has_hooks(activation)):
        return False
    return norm.affine and norm.track_running_stats and norm.momentum is not None


class _GatedSum(torch.autograd.Function):

    @staticmethod
    def forward(ctx, shortcut: Tensor, z: Tensor, decision: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor,
                running_var: Tensor, training: bool, momentum: float, eps: float, activated: bool) -> Tensor:
        normed, mean, invstd = torch.native_batch_norm(z, weight, bias, running_mean, running_var, training, momentum, eps)
        # Overwrites norm(z), as a static block does; under AMP the shortcut may be of the wider dtype, and so the sum.
        out = torch.addcmul(shortcut, normed, decision.to(normed.dtype)[:, None, None, None],
                            out=normed if normed.dtype == shortcut.dtype else None)
        if activated:
            out.relu_()
        # Running statistics as they are: autograd complains if they change before the backward pass.
        statistics = (mean, invstd) if training else (running_mean, running_var)
        ctx.save_for_backward(z, decision, weight, bias, *statistics, out if activated else None)
        ctx.training, ctx.eps = training, eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        z, decision, weight, bias, mean, spread, out = ctx.saved_tensors
        if out is not None:
            grad = torch.ops.aten.threshold_backward(grad, out, 0)
        if not ctx.training and z.is_contiguous():
            grad_z, sums, product_sums = _frozen_backward(grad, z, decision, weight, mean, spread, ctx.eps)
        else:
            invstd = spread if ctx.training else (spread + ctx.eps).rsqrt()
            sums, product_sums = _map_sums(grad, z, mean, invstd)
            if ctx.training:
                grad_z = torch.ops.aten.native_batch_norm_backward(
                    grad * decision.to(grad.dtype)[:, None, None, None], z, weight, None, None, mean, invstd, True,
                    ctx.eps, [True, False, False])[0]
            else:
                scale = torch.outer(decision.to(sums.dtype), weight.to(sums.dtype) * invstd)
                grad_z = grad * scale.to(grad.dtype)[:, :, None, None]
        # Matrices times vectors, which are never rounded to TF32.
        decision_wide, weight_wide, bias_wide = (values.to(sums.dtype) for values in (decision, weight, bias))
        grad_decision = torch.addmv(torch.mv(sums, bias_wide), product_sums, weight_wide).to(decision.dtype)
        grad_weight = grad_bias = None
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            grad_weight = torch.mv(product_sums.t(), decision_wide).to(weight.dtype)
            grad_bias = torch.mv(sums.t(), decision_wide).to(bias.dtype)
        return grad, grad_z, grad_decision, grad_weight, grad_bias, *[None] * 6


def _map_sums(grad: Tensor, z: Tensor, mean: Tensor, invstd: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C) sums over each map: of the gradient, and of its product with the normalised z."""
    wide = torch.promote_types(z.dtype, torch.float32)
    sums = grad.sum(dim=(2, 3), dtype=wide)
    with_z = (grad.to(wide) * z).sum(dim=(2, 3))
    return sums, torch.addcmul(with_z, mean.to(wide), sums, value=-1) * invstd


def _frozen_backward(grad: Tensor, z: Tensor, decision: Tensor, weight: Tensor, mean: Tensor, var: Tensor,
                     eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of z and the sums of :func:`_map_sums` under a frozen norm, in the one kernel that a static block needs too.

    Read as (1, N * C, H, W), each image's map is a channel of its own, whose weight is the norm's times the decision; the
    kernel's gradients of such weights and biases are the sums.
    """
    images = len(z)
    wide = torch.promote_types(z.dtype, torch.float32)
    weights = torch.outer(decision.to(wide), weight.to(wide)).flatten()
    grad_z, product_sums, sums = torch.ops.aten.native_batch_norm_backward(
        grad.reshape(1, -1, *grad.shape[2:]), z.view(1, -1, *z.shape[2:]), weights, mean.to(wide).repeat(images),
        var.to(wide).repeat(images), None, None, False, eps, [True, True, True])
    return grad_z.view_as(z), sums.view(images, -1), product_sums.view(images, -1)
