"""Configs name what the engine offers, and nobody imports anything for it."""
import subprocess
import sys
from pathlib import Path

CODE = """
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
for registry, name in ((HOOKS, 'AtomicCheckpointHook'), (HOOKS, 'ChannelsLastHook'), (HOOKS, 'CalibrationHook'),
                       (OPTIM_WRAPPERS, 'AutocastOptimWrapper')):
    assert registry.get(f'mmdyn.{name}').__name__ == name
from mmdyn.hooks import AtomicCheckpointHook, ChannelsLastHook
"""


def test_the_registry_finds_them(checkout: Path) -> None:
    subprocess.run([sys.executable, '-c', CODE], cwd=checkout, check=True)
