"""What MMEngine and MMDetection offer for training leaves decisions and losses right."""
import pytest
import torch
from toy import SMALL_AIG, Pictures, toy_runner

from mmdyn.layers.batched_maps import BatchedMaps
from mmdyn.layers.gated_stage import _run_gathered
from mmdyn.registry import MODELS

SMALL_AIG = dict(SMALL_AIG, norm_eval=True, zero_init_residual=False)
SMALL_DG = {key: value for key, value in SMALL_AIG.items() if key != 'type'} | dict(type='mmdyn.DGResNet')
# A block with a projection and one without; to capture a second stage would take as long again.
ONE_STAGE = dict(num_stages=1, strides=(2, ), dilations=(1, ), out_indices=(0, ))
GATED_DG = dict(SMALL_DG, node_gates=True)
BOUND_DG = dict(SMALL_DG, node='block', node_gates=True, column_bound=1.0, router=dict(norm='LN', dynamic=1.0))
pytestmark = pytest.mark.parametrize('backbone', [SMALL_AIG, SMALL_DG, GATED_DG, BOUND_DG],
                                     ids=['AIG', 'DG', 'gated branches', 'bounded gated blocks'])


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch.compiler.reset()


def train(folder, backbone: dict, *, batch: int = 2, iters: int = 4, hooks=(), **optim_wrapper) -> dict:
    """The weights after training on the same images in the same order, with gates that are not sampled."""
    torch.manual_seed(0)
    runner = toy_runner(
        folder, backbone, iters=iters,
        hooks=[dict(type='mmdyn.DynamicModelHook'), dict(type='mmdyn.GateScheduleHook', start=0.0), *hooks],
        train_dataloader=dict(dataset=Pictures(), batch_size=batch, num_workers=0,
                              sampler=dict(type='DefaultSampler', shuffle=False)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)) | optim_wrapper)
    runner.model.init_weights()
    for decider in runner.model.backbone.deciders():
        for parameter in decider.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    start = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    weights = runner.model.state_dict()
    assert any(not torch.equal(weights[name], start[name]) for name in weights if 'gate.fc1' in name or 'router' in name)
    change = [(value.detach() - start[name]).flatten() for name, value in runner.model.named_parameters()]
    return weights | {'change': torch.cat(change)}


def assert_same(ours: dict, wanted: dict) -> None:
    assert not [name for name, value in wanted.items() if not torch.equal(ours[name], value)]


def test_accumulating_two_batches_of_one_equals_a_batch_of_two(tmp_path, backbone):
    wanted = train(tmp_path / 'whole', backbone)
    ours = train(tmp_path / 'parts', backbone, batch=1, iters=8, accumulative_counts=2)
    for name, value in wanted.items():
        if 'quantile' not in name and 'spread' not in name and 'steps' not in name:
            torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6,
                                       msg=lambda text, name=name: f'{name}: {text}')


def test_clipping_bounds_the_step_and_nothing_else(tmp_path, backbone):
    assert_same(train(tmp_path / 'high', backbone, clip_grad=dict(max_norm=1e9)), train(tmp_path / 'none', backbone))
    clipped = train(tmp_path / 'low', backbone, iters=1, optimizer=dict(type='SGD', lr=100.0),
                    clip_grad=dict(max_norm=0.01))
    assert clipped['change'].norm().item() == pytest.approx(100 * 0.01, rel=1e-3)


def test_with_cp_recomputes_the_same(tmp_path, backbone):
    assert_same(train(tmp_path / 'with', dict(backbone, with_cp=True)), train(tmp_path / 'without', backbone))


def test_ema_averages_gates_and_routers_and_does_not_disturb(tmp_path, backbone):
    ours = train(tmp_path / 'with', backbone, hooks=[dict(type='EMAHook', momentum=0.5)])
    assert_same(ours, train(tmp_path / 'without', backbone))
    checkpoint = torch.load(tmp_path / 'with' / 'iter_4.pth', weights_only=False)
    deciders = [name for name in ours if 'gate.fc1' in name or 'router' in name]
    # MMEngine exchanges the two: what is to be deployed is in `state_dict`.
    assert all(torch.equal(checkpoint['ema_state_dict'][f'module.{name}'], ours[name]) for name in deciders)
    assert any(not torch.equal(checkpoint['state_dict'][name], ours[name]) for name in deciders)


def test_a_compiled_backbone_decides_and_learns_alike(tmp_path, backbone):
    """Captured by torch.compile, a backbone keeps all its branches: what depends on a decision breaks the graph."""
    model = MODELS.build(dict(backbone, **ONE_STAGE))
    model.losses_attached = True
    compiled = torch.compile(model, backend='eager')
    images = torch.randn(2, 3, 16, 16)
    results = []
    for run in (model, compiled):
        torch.manual_seed(0)
        model.train().zero_grad()
        run(images)[0].square().mean().backward()
        results.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for a, b in zip(*results):  # a compiler sums in an order of its own
        torch.testing.assert_close(a, b, rtol=1e-4, atol=max(1e-5 * a.abs().max().item(), 1e-8))
    model.eval()
    mixed = {'layer1.1': [1, 0]}
    if hasattr(model, 'stages'):
        mixed = {'layer1': torch.ones(2, 3, 3).triu(1)}
        mixed['layer1'][0, :, 1] = mixed['layer1'][0, 1] = 0  # its second node is dead for the first image
    wirings = ('complete', 'chain') if hasattr(model, 'stages') else ()
    for decisions in (*wirings, *(('open', 'closed') if model.gates() else ()), mixed, None):
        model.force_decisions(decisions)
        with torch.no_grad():
            assert torch.equal(compiled(images)[0], model(images)[0]), decisions


@pytest.mark.skipif(not hasattr(torch.compiler, 'is_compiling'), reason='needs a compiler that captures autograd functions')
@pytest.mark.parametrize('mode', ['train', 'mask'])
def test_training_and_masked_evaluation_are_one_graph(backbone, mode):
    """``fullgraph=True`` raises where the host would have to read a value."""
    torch.compiler.reset()  # of one code, it keeps only so many graphs
    model = MODELS.build(backbone).train(mode == 'train')
    model.losses_attached = True
    model.execution = 'mask' if mode == 'mask' else 'skip'
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    images = torch.randn(2, 3, 16, 16)
    with torch.set_grad_enabled(mode == 'train'):
        outs = compiled(images)
    if mode == 'train':
        sum(out.square().mean() for out in outs).backward()
        assert all(p.grad is not None for decider in model.deciders() for p in decider.parameters())
    else:
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(outs, model(images)))


@pytest.mark.skipif(not hasattr(torch.compiler, 'is_compiling'), reason='needs a compiler that captures autograd functions')
def test_skipped_evaluation_breaks_the_graph_only_where_decisions_are_read(backbone, monkeypatch):
    # As on a GPU, which a CPU can do too.
    monkeypatch.setattr('mmdyn.layers.wired_stage.LiveMaps', BatchedMaps)
    monkeypatch.setattr('mmdyn.layers.gated_stage._run_portions', _run_gathered)
    model = MODELS.build(backbone).eval()
    with torch.no_grad():
        breaks = torch._dynamo.explain(model)(torch.randn(2, 3, 16, 16)).break_reasons
    places = {reason.user_stack[-1].line for reason in breaks}
    assert places and all('tolist()' in line or 'nonzero(' in line for line in places)
    assert len(places) <= 2  # of gates; or of nodes, and of the output of a stage
