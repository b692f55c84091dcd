"""Statistics, table and file of what images have cost."""
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional, Sequence

import numpy as np
import torch

from ..cost import ImageCost
from ..layers.gate_spread import GateSpread, constant_gates, say_constant

FORMAT = 'mmdyn.compute'
FORMAT_VERSION = 1
PERCENTILES = (5, 50, 95)
# COCO's: areas in pixels, lower bound included.
OBJECT_SIZES = {'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, float('inf'))}


@dataclass(frozen=True)
class ImageRecord:
    """What is known of one image after its evaluation.

    Attributes:
        image: Its id in the data set; None where it has none.
        path: Of its file.
        size: (H, W) in pixels, as it entered the backbone, padding left out.
        cost: In the backbone, at the size that it would be padded to alone.
        ran: Block name -> whether it ran, for the blocks that may be left out.
        target_rates: Block name -> target rate.
        adjacency: Stage name -> (n+1, n+1) edge weights.
        labels: (K,) classes of the ground truth, or None where there is none.
        areas: (K,) areas of the ground truth's boxes in pixels, or None.
        gate_logits: Block name -> logit of the probability with which its gate opens.
    """

    image: Any
    path: Optional[str]
    size: tuple[int, int]
    cost: ImageCost
    ran: dict[str, bool]
    target_rates: dict[str, float]
    adjacency: dict[str, np.ndarray]
    labels: Optional[np.ndarray] = None
    areas: Optional[np.ndarray] = None
    gate_logits: dict[str, float] = field(default_factory=dict)

    def count_objects(self) -> dict[str, int]:
        """Object size -> number of objects."""
        return {name: int(((low <= self.areas) & (self.areas < high)).sum())
                for name, (low, high) in OBJECT_SIZES.items()}


@dataclass(frozen=True)
class Summary:
    """What is reported of a set of images.

    Attributes:
        images: Number of images.
        gmacs: Statistic -> 1e9 multiply-adds an image.
        dense_gmacs: Mean of the dense backbone at the same sizes.
        ratio: Mean dynamic cost over mean dense cost.
        open_rates: Block name -> share of the images for which it ran.
        target_rates: Block name -> target rate.
        edge_rates: Stage name -> (n+1, n+1) shares of the images for which an edge was open.
        groups: Class name or object size -> mean GMACs of the images that hold such an object,
            and their number.
        spreads: Block name -> standard deviation of its gate's open probability over the images; of one image, nothing.
    """

    images: int
    gmacs: dict[str, float]
    dense_gmacs: float
    ratio: float
    open_rates: dict[str, float]
    target_rates: dict[str, float]
    edge_rates: dict[str, list[list[float]]]
    groups: dict[str, tuple[float, int]] = field(default_factory=dict)
    spreads: dict[str, float] = field(default_factory=dict)

    @property
    def open_rate(self) -> Optional[float]:
        """Mean of the blocks' open rates; None where no block decides."""
        return float(np.mean(list(self.open_rates.values()))) if self.open_rates else None

    def scalars(self) -> dict[str, float]:
        """For logs and visualizer back ends."""
        scalars = {f'gmacs_{name}': value for name, value in self.gmacs.items()}
        scalars.update(dense_gmacs=self.dense_gmacs, ratio=self.ratio)
        if (open_rate := self.open_rate) is not None:
            scalars['open_rate'] = open_rate
        scalars.update((f'open_rate/{name}', rate) for name, rate in self.open_rates.items())
        scalars.update((f'open_probability_std/{name}', spread) for name, spread in self.spreads.items())
        scalars.update((f'gmacs/{name}', mean) for name, (mean, _) in self.groups.items())
        return scalars


def summarise(records: Sequence[ImageRecord], classes: Optional[Sequence[str]] = None,
              object_sizes: bool = False) -> Summary:
    """Statistics over images.

    Args:
        records: At least one.
        classes: Names of the classes, to group by; None not to.
        object_sizes: Whether to group by object size.
    """
    gmacs = np.array([record.cost.macs for record in records]) / 1e9
    dense = np.array([record.cost.dense_macs for record in records]) / 1e9
    statistics = dict(mean=gmacs.mean(), std=gmacs.std())
    statistics.update((f'p{p}', np.percentile(gmacs, p)) for p in PERCENTILES)
    open_rates = {name: float(np.mean([record.ran[name] for record in records]))
                  for name in records[0].ran}
    edge_rates = {
        stage: np.mean([record.adjacency[stage] > 0 for record in records], axis=0).tolist()
        for stage in records[0].adjacency}
    groups = {}
    if classes is not None:
        for label, name in enumerate(classes):
            groups[f'class/{name}'] = [label in record.labels for record in records]
    if object_sizes:
        for name in OBJECT_SIZES:
            groups[f'objects/{name}'] = [record.count_objects()[name] > 0 for record in records]
    return Summary(
        images=len(records),
        gmacs={name: float(value) for name, value in statistics.items()},
        dense_gmacs=float(dense.mean()),
        ratio=float(gmacs.mean() / dense.mean()),
        open_rates=open_rates,
        target_rates=records[0].target_rates,
        edge_rates=edge_rates,
        groups={name: (float(gmacs[held].mean()), sum(held))
                for name, held in groups.items() if any(held)},
        spreads=_spreads(records))


def _spreads(records: Sequence[ImageRecord]) -> dict[str, float]:
    spread = GateSpread()
    spread.add({name: torch.tensor([record.gate_logits[name] for record in records], dtype=torch.float64)
                for name in records[0].gate_logits})
    return spread.take()


def table(summary: Summary) -> str:
    """The summary for people."""
    gmacs = summary.gmacs
    percentiles = ', '.join(f'{gmacs[f"p{p}"]:.3f}' for p in PERCENTILES)
    lines = [f'{gmacs["mean"]:.3f} GMACs an image in the backbone over {summary.images} images, '
             f'{summary.ratio:.1%} of the {summary.dense_gmacs:.3f} of the dense one',
             f'standard deviation {gmacs["std"]:.3f}; percentiles {PERCENTILES}: {percentiles}']
    if summary.open_rates:
        lines.append(f'blocks run for {summary.open_rate:.1%} of the images, and each:')
        lines.append(f'  {"block":<14}{"open":>7}{"target":>8}' + (f'{"spread":>9}' if summary.spreads else ''))
        for name, rate in summary.open_rates.items():
            target, spread = summary.target_rates.get(name), summary.spreads.get(name)
            lines.append(f'  {name:<14}{rate:>7.3f}{"-" if target is None else f"{target:.3f}":>8}'
                         + ('' if spread is None else f'{spread:>9.4f}'))
    if constant := constant_gates(summary.spreads):
        lines.append(say_constant(constant) + ' Leaving a fixed choice of blocks out for all images would do the same.')
    for stage, rates in summary.edge_rates.items():
        open_edges, edges = sum(map(sum, rates)), len(rates) * (len(rates) - 1) // 2
        lines.append(f'edges of {stage}: {open_edges / edges:.1%} of {edges} open')
    for name, (mean, count) in summary.groups.items():
        lines.append(f'  {name:<28}{mean:>9.3f} GMACs over {count} images')
    return '\n'.join(lines)


def write_dump(path: str, records: Sequence[ImageRecord], summary: Summary,
               classes: Sequence[str]) -> None:
    """Writes one JSON file for the analysis tools, whole or not at all.

    A header (``format``, ``version``, ``backbone``, ``blocks``, ``target_rates``, ``classes``,
    ``summary``) and ``images``, each with ``image``, ``path``, ``size``, ``macs``, ``dense_macs``,
    ``ran`` (0 or 1 in the order of ``blocks``), ``adjacency`` (wired stages) and, where there is
    ground truth, ``labels``, ``objects``, and of boxes ``object_sizes`` and ``areas`` in pixels.
    """
    blocks = list(summary.open_rates)
    content = dict(
        format=FORMAT, version=FORMAT_VERSION, backbone=records[0].cost.backbone, blocks=blocks,
        target_rates=summary.target_rates, classes=list(classes), summary=asdict(summary),
        images=[_row(record, blocks) for record in records])
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'.{target.name}.{os.getpid()}')
    try:
        partial.write_text(json.dumps(content, default=_plain) + '\n', encoding='utf-8')
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _row(record: ImageRecord, blocks: Sequence[str]) -> dict[str, Any]:
    row = dict(
        image=record.image, path=record.path, size=list(record.size), macs=record.cost.macs,
        dense_macs=record.cost.dense_macs, ran=[int(record.ran[name]) for name in blocks])
    if record.adjacency:
        row['adjacency'] = {stage: np.round(value.astype(float), 5).tolist()
                            for stage, value in record.adjacency.items()}
    if record.labels is not None:
        row.update(labels=record.labels.tolist(), objects=len(record.labels))
    if record.areas is not None:
        row.update(object_sizes=record.count_objects(),
                   areas=np.round(record.areas.astype(float), 1).tolist())
    return row


def _plain(value: Any) -> Any:
    """Image ids may be numbers of NumPy or PyTorch."""
    if hasattr(value, 'item'):
        return value.item()
    return str(value)
