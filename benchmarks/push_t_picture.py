"""A picture of demonstrations of Push-T: the block from dark to bright, the agent's way and its targets, the mark.

python benchmarks/push_t_picture.py data/push_t docs/push_t.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.simulation.push_t import FIELD, GOAL_POSE, corners_at
from minidiffuser_ros.training.sequence_data import SequenceEpisode, load_sequences

OUTLINE = [0, 1, 2, 5, 6, 7, 4, 3, 0]  # of the corners, around the T


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demonstrations", type=Path)
    parser.add_argument("picture", type=Path, help="a .jpg or .png to write")
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    figure = Figure(figsize=(12, 6.2), dpi=75, layout="constrained")
    FigureCanvasAgg(figure)
    episodes = load_sequences(args.demonstrations)[args.first :]
    for axes, episode in zip(figure.subplots(2, 4).flat, episodes, strict=False):
        _draw(axes, episode)
    kind = args.picture.suffix.lstrip(".")
    replace_file(args.picture, lambda path: figure.savefig(path, format=kind))


def _draw(axes: Any, episode: SequenceEpisode) -> None:
    steps = len(episode.runs[0])  # those after it begin from disturbances of the first
    states, actions = episode.states[:steps], episode.actions[:steps]
    colors = colormaps["viridis"](np.linspace(0.0, 1.0, steps))
    mark = corners_at(GOAL_POSE)[OUTLINE]
    axes.fill(mark[:, 0], mark[:, 1], color="lightgreen")
    for step in [*range(0, steps, 8), steps - 1]:
        outline = corners_at(states[step, 2:])[OUTLINE]
        axes.plot(outline[:, 0], outline[:, 1], color=colors[step], linewidth=0.8)
    axes.plot(states[:, 0], states[:, 1], color="black", linewidth=0.6)
    axes.scatter(actions[:, 0], actions[:, 1], c=colors, s=5)
    axes.set(xlim=(0, FIELD), ylim=(FIELD, 0), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"{steps} steps", size=9)


if __name__ == "__main__":
    main()
