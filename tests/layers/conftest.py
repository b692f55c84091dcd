"""What tests of layers share."""
import pytest

from mmdyn.layers.batched_maps import BatchedMaps
from mmdyn.layers.live_maps import LiveMaps


@pytest.fixture(params=[LiveMaps, BatchedMaps], ids=['CPU', 'GPU'])
def live_maps(request, monkeypatch):
    """At evaluation wired stages run as on CPUs, and as on GPUs."""
    monkeypatch.setattr('mmdyn.layers.wired_stage.LiveMaps', request.param)
