"""The sweep: MMDetection's own configs train and predict with a dynamic backbone in place of theirs."""
import importlib.util
import os
from collections.abc import Iterator

import pytest
import torch
from stock_configs import EXCEPTIONS, NEEDS, choices, find, lookup, run

EVERYTHING = bool(os.environ.get('MMDYN_TEST_ALL'))  # or one config a folder


@pytest.fixture(autouse=True)
def no_denormals() -> Iterator[None]:
    """Unnormalised maps run into denormal numbers, which are a hundred times slower."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.slow
@pytest.mark.parametrize('name', find(everything=EVERYTHING))
def test_a_stock_config_trains_and_predicts(name: str) -> None:
    reason, package = lookup(EXCEPTIONS, name), lookup(NEEDS, name)
    if reason is not None:
        pytest.skip(reason)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f'needs the package {package}')
    for choice in choices(name):
        outcome = run(name, choice)
        assert torch.isfinite(outcome.loss)
        assert outcome.deciders and all(outcome.deciders.values()), outcome.deciders
        assert outcome.predictions == outcome.pictures
