"""The spread of open probabilities, exactly."""
import json
from pathlib import Path

import pytest
import torch

from mmdyn.engine import leave_process_group
from mmdyn.layers.gate_spread import GateSpread, constant_gates, say_constant


def logits(*probabilities: float) -> dict:
    return {'layer1.0': torch.tensor(probabilities, dtype=torch.float64).logit()}


def test_of_one_batch_it_is_the_standard_deviation():
    spread = GateSpread()
    spread.add(logits(0.2, 0.4, 0.9))
    assert spread.take()['layer1.0'] == pytest.approx(torch.tensor([0.2, 0.4, 0.9]).std().item(), rel=1e-6)
    assert spread.take() == {}  # it has started anew


def test_what_the_network_learns_between_two_batches_is_no_spread():
    """Each batch is compared with its own mean; (0.1^2 + 0.1^2 + 0.2^2 + 0.2^2) over two degrees of freedom."""
    spread = GateSpread()
    spread.add(logits(0.1, 0.3))
    spread.add(logits(0.5, 0.9))
    assert spread.take()['layer1.0'] == pytest.approx(0.05**0.5, rel=1e-12)


def test_a_batch_of_one_image_says_nothing():
    spread = GateSpread()
    spread.add(logits(0.3))
    assert spread.take() == {}
    spread.add(logits(0.3))
    spread.add(logits(0.5, 0.9))
    assert spread.take()['layer1.0'] == pytest.approx(0.08**0.5, rel=1e-12)


def _add_share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    spread = GateSpread()
    spread.add(logits(*((0.1, 0.3), (0.5, ))[rank]))  # the second rank's batch of one image says nothing
    spread.add(logits(*((0.5, 0.9), (0.2, 0.4, 0.6))[rank]))
    Path(folder, f'{rank}.json').write_text(json.dumps(spread.take(all_ranks=True)))
    leave_process_group()


@pytest.mark.slow
@pytest.mark.e2e
def test_the_batches_of_two_ranks(tmp_path):
    torch.multiprocessing.spawn(_add_share, (str(tmp_path), ), nprocs=2)
    for rank in range(2):
        found = json.loads((tmp_path / f'{rank}.json').read_text())
        assert found['layer1.0'] == pytest.approx(((0.02 + 0.08 + 0.08) / 4)**0.5, rel=1e-12)


def test_nothing_is_read_while_batches_are_added():
    with torch._subclasses.FakeTensorMode():  # reading a value raises
        spread = GateSpread()
        for _ in range(2):
            spread.add({'layer1.0': torch.zeros(2)})


def test_constant_gates():
    assert constant_gates({'layer1.0': 0.0099, 'layer1.1': 0.01}) == ['layer1.0']
    assert say_constant(['layer1.0', 'layer2.0']).startswith('The decisions of layer1.0, layer2.0 hardly depend')
