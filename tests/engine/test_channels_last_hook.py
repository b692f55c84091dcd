import torch

from mmdyn.backbones import AIGResNetCIFAR
from mmdyn.engine import ChannelsLastHook


class Runner:

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model


def test_maps_become_channels_last_and_stay_the_same():
    torch.manual_seed(0)
    model = AIGResNetCIFAR(20).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = model(images)[0]
        ChannelsLastHook().before_run(Runner(model))
        features = model(images)[0]
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(features, wanted, atol=1e-5)
