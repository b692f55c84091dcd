"""How many operators a training step dispatches: a change that adds launches is seen."""
import re

import kernel_counts
import pytest
import torch


def test_a_training_step_launches_what_the_table_says():
    """If it is meant to launch more, or fewer: `python tests/kernel_counts.py` writes the table anew."""
    kept = kernel_counts.FILE.read_text()
    version = re.search(r'PyTorch ([\d.]+)\.\n', kept)[1]
    if version != torch.__version__.partition('+')[0]:
        pytest.skip(f'the table is of PyTorch {version}, and this is {torch.__version__}')
    assert kernel_counts.table() == kept
