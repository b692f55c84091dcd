"""PyTorch's `fully_shard` on each block, two processes on CPUs: training equals one process."""
import pytest
import torch
import torch.distributed as dist
from processes import start_ranks
from torch import nn

pytestmark = pytest.mark.e2e
fsdp = pytest.importorskip('torch.distributed.fsdp', reason='needs PyTorch with fully_shard')
if not hasattr(fsdp, 'fully_shard'):
    pytest.skip('needs PyTorch with fully_shard', allow_module_level=True)


def build(method: str) -> nn.Module:
    from mmdyn.backbones import AIGResNet, DGResNet
    torch.manual_seed(0)
    options = dict(depth=18, base_channels=8, norm_eval=True, zero_init_residual=False)
    backbone = AIGResNet(**options) if method == 'aig' else DGResNet(**options, node='block')
    for decider in backbone.deciders():
        for parameter in decider.parameters():
            nn.init.normal_(parameter, std=0.3)
    if method == 'aig':  # the two processes draw other random numbers than one would
        for gate in backbone.deciders():
            gate.noise = 0.0
    return backbone.train()


def shard(backbone: nn.Module) -> None:
    """Each block, and the rest; a router is called by its stage, so it is sharded on its own before its block."""
    for stage in (getattr(backbone, name) for name in backbone.stage_names):
        for block in stage:
            if hasattr(block, 'router'):
                fsdp.fully_shard(block.router)
            fsdp.fully_shard(block)
    fsdp.fully_shard(backbone)


def train(backbone: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    optimiser = torch.optim.SGD(backbone.parameters(), lr=0.05, momentum=0.9)
    for step in range(3):
        optimiser.zero_grad()
        outs = backbone(images[step])
        sum(out.square().mean() for out in outs).backward()
        optimiser.step()
    parameters = (getattr(p, 'full_tensor', lambda p=p: p)() for p in backbone.parameters())
    return [p.detach().clone() for p in parameters]


def work(rank: int, method: str, store: str) -> None:
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    from torch.distributed.device_mesh import init_device_mesh
    init_device_mesh('cpu', (2, ))
    images = torch.randn(3, 4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    backbone = build(method)
    shard(backbone)
    sharded = train(backbone, images[:, 2 * rank:2 * rank + 2])
    alone = train(build(method), images)
    start = build(method).parameters()
    moved = max((a - b).abs().max().item() for a, b in zip(alone, start))
    assert moved > 1e-3
    for (name, _), ours, one in zip(backbone.named_parameters(), sharded, alone):
        assert (ours - one).abs().max() < 1e-5, (name, (ours - one).abs().max())
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize('method', ['aig', 'dg'])
def test_three_steps_of_two_processes_equal_those_of_one(method, tmp_path):
    start_ranks(work, method, str(tmp_path / 'store'))
