"""Times are taken in turn, and what is saved for the backward pass is counted once."""
import torch

from mmdyn.analysis.timing import interleave, saved_bytes


def test_saved_bytes_counts_each_storage_once_and_no_parameter():
    linear = torch.nn.Linear(8, 8)
    images = torch.randn(4, 8)

    def forward():
        x = linear(images)
        return (x * x).sum() + torch.relu(x).view(-1).square().sum()

    # `images`, `x` (saved twice) and its ReLU (saved twice, once as a view): 4 x 8 floats each.
    assert saved_bytes(linear, forward) == 3 * 4 * 8 * 4
    assert saved_bytes(linear, forward) == saved_bytes(linear, forward)


def test_interleave_runs_all_in_each_round():
    calls = []
    times = interleave(dict(a=lambda: calls.append('a'), b=lambda: calls.append('b')), 4, 3,
                       prepare=lambda name: calls.append(name.upper()))
    rounds = [''.join(calls[start:start + 4]) for start in range(0, len(calls), 4)]
    assert len(rounds) == 4 + 3 and set(rounds) == {'AaBb', 'BbAa'}
    assert {name: len(values) for name, values in times.items()} == dict(a=4, b=4)
