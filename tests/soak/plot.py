"""The plot of a soak: what the server held over time."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from .growth import Sample

PANELS = {
    "resident_bytes": ("resident memory, MB", 1e6),
    "descriptors": ("file descriptors", 1),
    "greenlets": ("greenlets", 1),
    "sessions": ("sessions", 1),
}


def draw(samples: list[Sample], resting: list[Sample], file: Path) -> None:
    """Draw a panel for each count; the dots are the samples at rest, which must not rise."""
    figure, panels = plt.subplots(len(PANELS), sharex=True, figsize=(10, 9), layout="constrained")
    for panel, (name, (title, unit)) in zip(panels, PANELS.items(), strict=True):
        for points, style in ((samples, "-"), (resting, "o")):
            seconds = [sample["seconds"] for sample in points]
            values = [sample[name] / unit for sample in points]
            panel.plot(seconds, values, style, linewidth=0.8, markersize=3)
        panel.set_ylabel(title)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("seconds")
    figure.savefig(file)
    plt.close(figure)
