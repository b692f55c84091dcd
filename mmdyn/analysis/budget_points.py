"""Points of accuracy and compute, kept in a file as they are made, and the search for a budget between them."""
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..engine import InputError

# A budget is met when it is missed by no more than this.
TOLERANCE = 0.01
MAX_REFINEMENTS = 5


class Sweep:
    """The points made so far, and the file that they are kept in.

    Args:
        path: Of the JSON file.
        header: What all points have in common.
        evaluate: Value -> metrics.

    Raises:
        InputError: If the file holds points of something else.
    """

    def __init__(self, path: Path, header: dict[str, Any], evaluate: Callable[[float], dict[str, float]]) -> None:
        self.path, self.header, self.evaluate = path, header, evaluate
        self.points: list[dict[str, Any]] = []
        if path.is_file():
            content = json.loads(path.read_text())
            self.points = content.pop('points')
            if content != header:
                raise InputError(f'{path} holds the points of something else: expected {header}, found {content}; '
                                 'name another folder with --out, or remove the file')

    def at(self, value: float) -> dict[str, Any]:
        """The point at a value; made and written if it is not there yet."""
        for point in self.points:
            if point['value'] == value:
                return point
        metrics = self.evaluate(value)
        point = dict(value=value, ratio=metrics['compute/ratio'], gmacs=metrics['compute/gmacs_mean'], metrics=metrics)
        self.points = sorted([*self.points, point], key=lambda point: point['value'])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix('.partial')
        partial.write_text(json.dumps(dict(self.header, points=self.points), indent=1) + '\n')
        partial.replace(self.path)
        return point

    def find(self, budget: float) -> dict[str, Any]:
        """The point whose ratio to dense comes closest to a budget, after a search between the points at hand.

        Raises:
            InputError: If no point lies on the other side of the budget.
        """
        for _ in range(MAX_REFINEMENTS):
            closest = min(self.points, key=lambda point: abs(point['ratio'] - budget))
            if abs(closest['ratio'] - budget) <= TOLERANCE:
                break
            # Larger values close more; between two values the ratio moves in steps.
            brackets = [pair for pair in zip(self.points, self.points[1:])
                        if pair[0]['ratio'] >= budget >= pair[1]['ratio']]
            if not brackets:
                ratios = [point['ratio'] for point in self.points]
                raise InputError(f'a budget of {budget:g} cannot be reached with the values tried: '
                                 f'their ratios lie between {min(ratios):.3f} and {max(ratios):.3f}')
            low, high = brackets[0]
            share = (low['ratio'] - budget) / (low['ratio'] - high['ratio'])
            self.at(low['value'] + min(max(share, 0.1), 0.9) * (high['value'] - low['value']))
        return min(self.points, key=lambda point: abs(point['ratio'] - budget))
