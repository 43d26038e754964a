"""The folder of a comparison: what lies where, what is done already, what may be removed."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.classifier import Classifier
from fmnist_aug.comparison.arms import ARMS
from fmnist_aug.errors import DataError, RunFolderError
from fmnist_aug.files import read_json, write_bytes, write_json
from fmnist_aug.plan import ConfusionPlan

_RUN_FILE = re.compile(rf"({'|'.join(ARMS)}|probe)-\d+\.(npz|safetensors|json)")
_RUN_FOLDERS = ("predictions", "checkpoints", "records", "state")


class ComparisonFolder:
    """Paths and files of one comparison; made inside `owned_folder`.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.plan = path / "plan.json"
        self.results = path / "results.json"
        self.runs_csv = path / "runs.csv"

    def predictions(self, arm: str, seed: int) -> Path:
        """Logits and labels of the test set."""
        return self.path / "predictions" / f"{arm}-{seed}.npz"

    def checkpoint(self, arm: str, seed: int) -> Path:
        """Weights."""
        return self.path / "checkpoints" / f"{arm}-{seed}.safetensors"

    def record(self, arm: str, seed: int) -> Path:
        """A run's figures; written last, so its presence means that the run is done."""
        return self.path / "records" / f"{arm}-{seed}.json"

    def state(self, arm: str, seed: int) -> Path:
        """A run's state at its last epoch boundary; removed when it is done."""
        return self.path / "state" / f"{arm}-{seed}.safetensors"

    def kept_precision(self) -> str | None:
        """The precision of the comparison that the folder belongs to; None if there is none."""
        if not self.config.exists():
            return None
        kept = read_json(self.config)
        hardware = kept.get("hardware") if isinstance(kept, dict) else None
        return hardware.get("precision") if isinstance(hardware, dict) else None

    def claim(
        self, config: dict[str, Any], resume: bool, measured: dict[str, Any] | None = None
    ) -> None:
        """Make the folder this configuration's own, or go on in it if it is already.

        Args:
            config: the resolved configuration, plain values.
            resume: whether to go on; otherwise earlier results are removed, foreign files stay.
            measured: what the choice of the precision rests on, if it was measured; kept beside
                the configuration, but no part of what makes it another one.

        Raises:
            RunFolderError: it belongs to another configuration, or holds results of something
                else.
        """
        if not resume:
            self._clear()
        if self.config.exists():
            kept = read_json(self.config)
            if isinstance(kept, dict):
                kept.pop("measured", None)
            difference = _first_difference(kept, config)
            if difference:
                raise RunFolderError(
                    f"{self.path} belongs to another comparison ({difference}); choose another "
                    "--out, or --no-resume to start over"
                )
            return
        for path in (self.results, self.plan):
            if path.exists():
                raise RunFolderError(
                    f"{path} is there but no {self.config.name}, so it is not of a comparison; "
                    "choose another --out"
                )
        write_json(self.config, {**config, "measured": measured} if measured else config)

    def save_plan(self, plan: ConfusionPlan, probe: dict[str, Any]) -> None:
        """Write the plan, with what is known of its probe."""
        write_json(self.plan, {**plan.to_dict(), "probe": probe})

    def load_plan(self) -> tuple[ConfusionPlan, dict[str, Any]] | None:
        """The plan and what is known of its probe; None if there is no plan yet."""
        if not self.plan.exists():
            return None
        value = read_json(self.plan)
        try:
            return ConfusionPlan.from_dict(value), dict(value["probe"])
        except (KeyError, TypeError, AttributeError, DataError) as error:
            raise RunFolderError(
                f"{self.plan} was changed or damaged ({error}); remove it and run the same "
                "command again"
            ) from error

    def save_run(
        self,
        figures: dict[str, Any],
        classifier: Classifier,
        logits: NDArray[np.float32],
        labels: NDArray[np.int64],
    ) -> None:
        """Write all of a run's files, its record last, and drop its state."""
        arm, seed = figures["arm"], figures["seed"]
        stream = io.BytesIO()
        np.savez(stream, logits=logits, labels=labels)
        write_bytes(self.predictions(arm, seed), stream.getvalue())
        classifier.save(self.checkpoint(arm, seed))
        write_json(self.record(arm, seed), figures)
        self.drop_state(arm, seed)

    def load_run(self, arm: str, seed: int) -> dict[str, Any] | None:
        """A finished run's figures; None if it must be done, or done again."""
        needed = (self.predictions(arm, seed), self.checkpoint(arm, seed), self.record(arm, seed))
        if not all(path.is_file() for path in needed):
            return None
        figures = read_json(self.record(arm, seed))
        return figures if isinstance(figures, dict) else None

    def load_logits(self, arm: str, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """A run's logits float32 (N, classes) and labels int64 (N,) of the test set.

        Raises:
            RunFolderError: the file is missing or damaged.
        """
        path = self.predictions(arm, seed)
        try:
            with np.load(path, allow_pickle=False) as content:
                return content["logits"], content["labels"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise RunFolderError(
                f"cannot read {path} ({error}); remove it and run the same command again"
            ) from error

    def drop_state(self, arm: str, seed: int) -> None:
        """Remove a run's kept state, and the folder of states once it is empty."""
        self.state(arm, seed).unlink(missing_ok=True)
        folder = self.state(arm, seed).parent
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _clear(self) -> None:
        """Remove what a comparison wrote and nothing else."""
        if not self.config.exists():
            return
        # results first: as long as they are there the folder counts as done
        for path in (self.results, self.runs_csv, self.path / "report.html", self.plan):
            path.unlink(missing_ok=True)
        for name in _RUN_FOLDERS:
            if (self.path / name).is_dir():
                for path in (self.path / name).iterdir():
                    if _RUN_FILE.fullmatch(path.name):
                        path.unlink()
        self.config.unlink()


def _first_difference(old: Any, new: Any, name: str = "") -> str | None:
    """The first value in which two configurations differ, in words; None if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            found = _first_difference(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
            if found:
                return found
        return None
    return None if old == new else f"{name} is {old!r} there and {new!r} now"
