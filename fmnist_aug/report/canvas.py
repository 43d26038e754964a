"""One way to draw: a figure without pyplot, in the colours of a light or a dark page, as PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 200


@dataclass(frozen=True)
class Theme:
    """Colours as hex strings. Arms differ by marker too, and never by red against green.

    Attributes:
        surface: the background.
        text: words and numbers.
        muted: axes and lesser words.
        grid: thin lines.
        strong: the end of the scale of confusions.
        better: the end of a diverging scale that is good.
        worse: the end of a diverging scale that is bad.
        right: the diagonal of a confusion matrix.
        arms: the colours of baseline, uniform, targeted and further arms, told apart by the
            colour-blind as well.
    """

    surface: str
    text: str
    muted: str
    grid: str
    strong: str
    better: str
    worse: str
    right: str
    arms: tuple[str, ...]


LIGHT = Theme(
    surface="#ffffff",
    text="#1b2330",
    muted="#5a6575",
    grid="#e2e6ec",
    strong="#a83200",
    better="#0a5c99",
    worse="#b4530a",
    right="#e8edf3",
    arms=("#5f6b7a", "#0072b2", "#c2500a", "#4b0a3a", "#2b1a8a", "#8c4d38", "#a51eff"),
)
DARK = Theme(
    surface="#151b24",
    text="#e6eaf0",
    muted="#9aa6b5",
    grid="#2b3441",
    strong="#ff9b52",
    better="#5db4f0",
    worse="#f0944a",
    right="#2a3442",
    arms=("#a3afbd", "#56b4e9", "#f5a04c", "#b8f5a4", "#fbf236", "#b08f6e", "#d23cff"),
)
MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def draw(theme: Theme, width: float, height: float, paint: Callable[[Figure], None]) -> bytes:
    """Make a figure, let ``paint`` fill it, and return it as PNG.

    Nothing of the user's matplotlibrc is used for what we set here, and text is never read as
    mathematics, because class names may hold dollar signs.

    Args:
        theme: the colours.
        width: in inches.
        height: in inches.
        paint: draws into the empty figure.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_settings(theme)), warnings.catch_warnings():
        # a script that the font lacks is drawn as boxes; the page has the names as text
        warnings.filterwarnings("ignore", category=UserWarning, module="matplotlib|fmnist_aug")
        warnings.filterwarnings("ignore", message="(?s).*[Gg]lyph")
        figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
        image = Image.fromarray(np.asarray(pixels)).convert("RGB")
    # a palette is a third as large; charts have few colours, and dots would blur their edges
    stream = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def blend(low: str, high: str, middle: str | None = None) -> Any:
    """A colour map from ``low`` (over ``middle``) to ``high``."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = [low, high] if middle is None else [low, middle, high]
    return LinearSegmentedColormap.from_list("fmnist_aug", colours)


def text_colour(rgba: tuple[float, ...]) -> str:
    """Black or white, whichever can be read on ``rgba`` (channels 0–1), by WCAG luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if luminance < 0.179 else "#000000"


def _settings(theme: Theme) -> dict[Any, Any]:
    return {
        "text.parse_math": False,
        "text.usetex": False,
        "font.family": ["DejaVu Sans"],
        "font.size": 9,
        "axes.unicode_minus": True,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": theme.grid,
        "axes.facecolor": theme.surface,
        "axes.labelcolor": theme.muted,
        "axes.titlecolor": theme.text,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "figure.facecolor": theme.surface,
        "legend.frameon": False,
        "text.color": theme.text,
        "xtick.color": theme.grid,
        "xtick.labelcolor": theme.text,
        "ytick.color": theme.grid,
        "ytick.labelcolor": theme.text,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
    }
