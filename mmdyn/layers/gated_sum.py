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
    sums over each of z's maps say it (design, section 11). Sums over a map are taken in float32 or wider.

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
        out = torch.addcmul(shortcut, normed, decision.to(normed.dtype)[:, None, None, None])
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
        wide = torch.promote_types(z.dtype, torch.float32)
        invstd = spread if ctx.training else (spread + ctx.eps).rsqrt()
        scale = weight.to(wide) * invstd  # norm(z) = scale * z + shift
        shift = torch.addcmul(bias.to(wide), mean, scale, value=-1)
        decision_wide = decision.to(wide)
        sums = grad.sum(dim=(2, 3), dtype=wide)  # (N, C): of the gradient, and of its product with z
        product_sums = (grad.to(wide) * z).sum(dim=(2, 3))
        # Matrices times vectors, which are never rounded to TF32.
        grad_decision = torch.addmv(torch.mv(sums, shift), product_sums, scale).to(decision.dtype)
        if ctx.training:
            grad_z = torch.ops.aten.native_batch_norm_backward(
                grad * decision.to(grad.dtype)[:, None, None, None], z, weight, None, None, mean, invstd, True, ctx.eps,
                [True, False, False])[0]
        else:
            grad_z = grad * torch.outer(decision_wide, scale).to(grad.dtype)[:, :, None, None]
        grad_weight = grad_bias = None
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            grad_bias = torch.mv(sums.t(), decision_wide)
            grad_weight = torch.addcmul(torch.mv(product_sums.t(), decision_wide), mean, grad_bias, value=-1) * invstd
            grad_bias, grad_weight = grad_bias.to(bias.dtype), grad_weight.to(weight.dtype)
        return grad, grad_z, grad_decision, grad_weight, grad_bias, *[None] * 6
