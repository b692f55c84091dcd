"""The greedy choice on losses that are known, and the mean wiring, exactly."""
import math

import torch

from mmdyn.analysis.fixed_choice import Choice, best_within, close_greedily, mean_wiring
from mmdyn.functional.graph import check_adjacency

# What closing a gate adds to the loss, and what it saves of the cost.
HARM = dict(a=3.0, b=1.0, c=1.0, d=2.0)
SAVED = dict(a=0.1, b=0.1, c=0.2, d=0.1)


def try_out(closed: tuple[str, ...]) -> Choice:
    return Choice(closed, sum(HARM[name] for name in closed), 1 - sum(SAVED[name] for name in closed))


def test_closes_what_harms_least_and_of_equals_what_saves_most():
    tried = close_greedily(list(HARM), try_out, share=0.5)
    best = {size: min((choice for choice in tried if len(choice.closed) == size), key=lambda choice: choice.rank)
            for size in range(5)}
    assert [best[size].closed for size in range(4)] == [(), ('c', ), ('b', 'c'), ('b', 'c', 'd')]
    assert len(tried) == 1 + 4 + 3 + 2 + 1 and best[4].share == 0.5
    assert len(close_greedily(list(HARM), try_out, share=0.7)) == 1 + 4 + 3
    assert close_greedily(list(HARM), try_out, share=1.0) == [Choice((), 0, 1)]


def test_the_search_ends_with_every_gate():
    assert max(len(choice.closed) for choice in close_greedily(list(HARM), try_out, share=0.1)) == 4


def test_the_best_within_a_cost_is_among_all_that_were_tried():
    """On the way from c to b and c, d and c were tried, and cost as much."""
    tried = close_greedily(list(HARM), try_out, share=0.5)
    assert best_within(tried, 0.9) == try_out(('c', ))
    assert best_within(tried, 0.75) == try_out(('b', 'c'))
    assert best_within([try_out(('d', )), try_out(('c', ))], 0.95).closed == ('c', )


def test_a_loss_that_is_not_a_number_is_the_worst():
    assert best_within([Choice(('a', ), math.nan, 0.1), Choice(('b', ), 9.0, 0.2)], 0.5).closed == ('b', )


def test_the_mean_wiring_and_what_is_cut_of_it():
    """Two nodes: one image reads both, the other the first alone."""
    both, chain = torch.zeros(3, 3), torch.zeros(3, 3)
    both[0, 1], both[0, 2], both[1, 2] = 1.0, 0.5, 0.75
    chain[0, 2] = 1.0
    assert mean_wiring(torch.stack([both, chain]), cut=0).tolist() == [[0, 0.5, 0.75], [0, 0, 0.375], [0, 0, 0]]
    # Node 1 dies with its only edge, and what it would send to the output with it.
    assert mean_wiring(torch.stack([both, chain]), cut=0.5).tolist() == [[0, 0, 0.75], [0, 0, 0], [0, 0, 0]]
    assert mean_wiring(torch.stack([both, chain]), cut=1).tolist() == [[0, 0, 0.75], [0, 0, 0], [0, 0, 0]]


def test_the_output_keeps_its_widest_path():
    """A third of the images reach node 3, the only one that the output reads, through node 1, the others through 2."""
    first, second = torch.zeros(5, 5), torch.zeros(5, 5)
    first[0, 1] = first[1, 3] = first[3, 4] = 0.75
    second[0, 2] = second[2, 3] = second[3, 4] = 0.75
    wiring = mean_wiring(torch.stack([first, second, second]), cut=10)
    kept = torch.zeros(5, 5)
    kept[0, 2] = kept[2, 3] = 0.5
    kept[3, 4] = 0.75
    assert torch.equal(wiring, kept)
    check_adjacency(wiring, 4, 'layer1')
