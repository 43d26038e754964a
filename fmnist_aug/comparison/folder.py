"""The folder of a comparison: what lies where, what is done already, what may be removed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.comparison.arms import ARMS
from fmnist_aug.comparison.config import spell_dataset
from fmnist_aug.errors import RunFolderError
from fmnist_aug.files import (
    encode_json,
    read_bytes,
    read_json,
    read_sealed,
    remove_temporaries,
    write_bytes,
    write_json,
    write_sealed,
    write_text,
)
from fmnist_aug.plan import ConfusionPlan

_PROBE_FIGURES = {"held_out_images", "accuracy", "seconds"}
_RUN_FILE = re.compile(rf"({'|'.join(ARMS)}|probe)-(0|[1-9]\d*)\.(npz|safetensors|json)")
_FIGURE = re.compile(
    r"(accuracy|learning-curves|recall-change|confusion-difference|"
    rf"(confusion|mislabelled)-({'|'.join(ARMS)}))\.png"
)
_RUN_FOLDERS = ("records", "predictions", "checkpoints", "state")
_WRITTEN = {**dict.fromkeys(_RUN_FOLDERS, _RUN_FILE), "figures": _FIGURE}
"""Folders inside, and what a comparison calls its files there."""


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
        self.checksum = path / ".results.sha256"
        self.runs_csv = path / "runs.csv"
        self.page = path / "report.html"

    def predictions(self, arm: str, seed: int) -> Path:
        """Logits and labels of the test set."""
        return self.path / "predictions" / f"{arm}-{seed}.npz"

    def checkpoint(self, arm: str, seed: int) -> Path:
        """Weights."""
        return self.path / "checkpoints" / f"{arm}-{seed}.safetensors"

    def checkpoints(self) -> list[tuple[str, int, Path]]:
        """Arm, seed and path of the checkpoints that are there, arm by arm."""
        names = [
            (path.stem.rpartition("-"), path)
            for path in (self.path / "checkpoints").glob("*.safetensors")
            if _RUN_FILE.fullmatch(path.name)
        ]
        found = [(arm, int(seed), path) for (arm, _, seed), path in names if arm in ARMS]
        return sorted(found, key=lambda item: (list(ARMS).index(item[0]), item[1]))

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
        kept = self._read_config()
        hardware = kept.get("hardware") if isinstance(kept, dict) else None
        return hardware.get("precision") if isinstance(hardware, dict) else None

    def claim(
        self,
        config: dict[str, Any],
        resume: bool,
        measured: dict[str, Any] | None = None,
        extend: bool = False,
    ) -> None:
        """Make the folder this configuration's own, or go on in it if it is already.

        Args:
            config: the resolved configuration, plain values.
            resume: whether to go on; otherwise earlier results are removed, foreign files stay.
            measured: what the choice of the precision rests on, if it was measured; kept beside
                the configuration, but no part of what makes it another one.
            extend: whether to go on, too, if all that is new are more arms or runs.

        Raises:
            RunFolderError: it belongs to another configuration, or holds results of something
                else.
        """
        for folder in (self.path, *(self.path / name for name in _WRITTEN)):
            remove_temporaries(folder)
        if not resume:
            self._refuse_foreign()
            try:
                self._clear()
            except OSError as error:
                raise RunFolderError(
                    f"cannot remove the earlier results in {self.path}: "
                    f"{error.strerror or error}; choose another --out"
                ) from error
        if self.config.exists():
            kept = self._read_config()
            if isinstance(kept, dict):
                measured = kept.pop("measured", None)
                if isinstance(kept.get("dataset"), str):  # may be as it was typed, bin/ for bin
                    kept["dataset"] = spell_dataset(kept["dataset"])
            difference = _first_difference(kept, config)
            if not difference:
                return
            other = _first_difference(_grown(kept, config), config)
            if other or not extend:
                self._refuse_foreign()
                adding = "" if other else ", --extend to add what is new"
                arms = _all_arms(kept, config) if extend else []
                named = " ".join(f"--arm {arm}" for arm in arms)
                raise RunFolderError(
                    f"{self.path} belongs to another comparison ({other or difference}); choose "
                    f"another --out{adding}, or --no-resume to start over"
                    + (f"; to add to it name its arms too: {named}" if named else "")
                )
        else:
            self._refuse_unclaimed()
        write_json(self.config, {**config, "measured": measured} if measured else config)

    def _read_config(self) -> Any:
        try:
            return read_json(self.config)
        except RunFolderError as error:
            raise RunFolderError(
                f"{self.config} cannot be read or was damaged, so nobody can tell whose results "
                "these are; choose another --out, or --no-resume to start over"
            ) from error

    def _refuse_foreign(self) -> None:
        """Refuse a ``config.json`` that no comparison wrote, but not a damaged one."""
        try:
            kept = read_json(self.config)
        except RunFolderError:  # missing, or nobody can tell whose it was
            return
        if not isinstance(kept, dict) or not {"dataset", "arms", "settings"} <= kept.keys():
            raise RunFolderError(f"{self.config} is not of a comparison; choose another --out")

    def _refuse_unclaimed(self) -> None:
        """Refuse files called as a comparison's where no configuration says whose they are."""
        # finished runs of who knows which configuration would pass for this one's, and files of
        # somebody else be overwritten
        written = [
            path
            for name, ours in _WRITTEN.items()
            for path in sorted((self.path / name).glob("*"))
            if ours.fullmatch(path.name)
        ]
        for path in (self.results, self.plan, self.runs_csv, self.page, *written):
            if path.exists():
                raise RunFolderError(
                    f"{path} is there but no {self.config.name}, so it is not of a comparison; "
                    "choose another --out"
                )

    def save_plan(self, plan: ConfusionPlan, probe: dict[str, Any]) -> None:
        """Write the plan, with what is known of its probe."""
        write_sealed(self.plan, {**plan.to_dict(), "probe": probe})

    def load_plan(self) -> tuple[ConfusionPlan, dict[str, Any]] | None:
        """The plan and what is known of its probe; None if there is no plan yet."""
        if not self.plan.exists():
            return None
        value = read_sealed(self.plan)
        try:
            probe = dict(value["probe"])
            if not probe.keys() >= _PROBE_FIGURES:
                raise KeyError("probe")
            return ConfusionPlan.from_dict(value), probe
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise RunFolderError(
                f"{self.plan} was changed or damaged ({error}); remove it and run the same "
                "command again"
            ) from error

    def save_run(
        self,
        figures: dict[str, Any],
        checkpoint: bytes,
        logits: NDArray[np.float32],
        labels: NDArray[np.int64],
    ) -> None:
        """Write all of a run's files, its record last, and drop its state."""
        arm, seed = figures["arm"], figures["seed"]
        stream = io.BytesIO()
        np.savez(stream, logits=logits, labels=labels)
        write_bytes(self.predictions(arm, seed), stream.getvalue())
        write_bytes(self.checkpoint(arm, seed), checkpoint)
        write_sealed(self.record(arm, seed), figures)
        self.drop_state(arm, seed)

    def load_run(self, arm: str, seed: int) -> dict[str, Any] | None:
        """A finished run's figures; None if it must be done, or done again.

        Raises:
            RunFolderError: its record was changed or damaged.
        """
        needed = (self.predictions(arm, seed), self.checkpoint(arm, seed), self.record(arm, seed))
        if not all(path.is_file() for path in needed):
            return None
        figures = read_sealed(self.record(arm, seed))
        if (figures.get("arm"), figures.get("seed")) != (arm, seed):
            raise RunFolderError(
                f"{self.record(arm, seed)} is not of run {arm}-{seed}; remove it and run the same "
                "command again"
            )
        return figures

    def save_results(self, results: dict[str, Any]) -> None:
        """Write ``results.json`` last, since its presence means done; its checksum before."""
        content = encode_json(results)
        line = f"{hashlib.sha256(content).hexdigest()}  {self.results.name}\n"  # as sha256sum -c
        write_text(self.checksum, line)
        write_bytes(self.results, content)

    def load_results(self) -> dict[str, Any]:
        """The content of ``results.json``; without its checksum beside it, it is believed.

        Raises:
            RunFolderError: it is missing, is not JSON, or was changed.
        """
        results = read_json(self.results)
        if self.checksum.is_file():
            expected = read_bytes(self.checksum)[:64]
            if hashlib.sha256(read_bytes(self.results)).hexdigest().encode() != expected:
                raise RunFolderError(
                    f"{self.results} was changed or damaged after it was written, or "
                    f"{self.checksum} was; remove both and run the same command again, which "
                    "makes them anew from the runs"
                )
        return results  # type: ignore[no-any-return]

    def load_logits(self, arm: str, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """A run's logits float32 (N, classes) and labels int64 (N,) of the test set.

        Raises:
            RunFolderError: the file is missing or damaged.
        """
        path = self.predictions(arm, seed)
        try:
            with zipfile.ZipFile(path) as archive:
                logits, labels = (_read_array(archive, f"{name}.npy") for name in _ARRAYS)
            kinds = [str(values.dtype) for values in (logits, labels)]
            fits = logits.ndim == 2 and labels.shape == logits.shape[:1]
            if kinds != ["float32", "int64"] or not fits:
                raise ValueError(f"holds {logits.dtype} {logits.shape} and {labels.dtype}")
            if not np.isfinite(logits).all():
                raise ValueError("holds logits that are not finite")
            return logits, labels
        except (OSError, ValueError, KeyError, RuntimeError, *_ZIP_ERRORS) as error:
            raise RunFolderError(
                f"cannot read {path} ({error}); remove it, and {self.results.name} if that is "
                "there, and run the same command again, which does this run anew"
            ) from error

    def drop_state(self, arm: str, seed: int) -> None:
        """Remove a run's kept state, and the folder of states once it is empty."""
        folder = self.state(arm, seed).parent
        with contextlib.suppress(OSError):  # one that stays is not used any more
            self.state(arm, seed).unlink(missing_ok=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _clear(self) -> None:
        """Remove what a comparison wrote and nothing else."""
        if not self.config.exists():
            return
        # results first: as long as they are there the folder counts as done
        for path in (self.results, self.checksum, self.runs_csv, self.page, self.plan):
            path.unlink(missing_ok=True)
        for name, ours in _WRITTEN.items():
            if (self.path / name).is_dir():
                for path in (self.path / name).iterdir():
                    if ours.fullmatch(path.name):
                        path.unlink()
        self.config.unlink()


_ARRAYS = ("logits", "labels")
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, struct.error)
"""What damaged archives raise besides; encrypted ones raise RuntimeError."""
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(<f4|<i8)', 'fortran_order': False, "
    rb"'shape': \((\d{1,12}),(?: (\d{1,12}))?\), \} *\n",
    re.DOTALL,
)


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array as `numpy.savez` stores it, unpacked: no member can grow beyond its file."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    content = archive.read(member)
    found = _NPY.match(content)
    if not found:
        raise ValueError(f"{name} is not stored as it should be")
    dtype, *sizes = (part.decode() for part in found.groups() if part)
    values = np.frombuffer(content, dtype, offset=found.end())
    return values.reshape([int(size) for size in sizes]).copy()


def _grown(old: Any, new: dict[str, Any]) -> Any:
    """The old configuration with the new one's arms and runs, if those are more."""
    try:
        more = set(old["arms"]) <= set(new["arms"]) and old["runs"] <= new["runs"]
    except (KeyError, TypeError):
        return old
    return {**old, "arms": new["arms"], "runs": new["runs"]} if more else old


def _all_arms(old: Any, new: dict[str, Any]) -> list[str]:
    """The arms of both configurations, if with them the old one could grow to the new one."""
    try:
        arms = list(dict.fromkeys([*old["arms"], *new["arms"]]))
    except (KeyError, TypeError):
        return []
    whole = {**new, "arms": arms}
    grows = len(arms) > len(old["arms"]) and not _first_difference(_grown(old, whole), whole)
    return arms if grows else []


def _first_difference(old: Any, new: Any, name: str = "") -> str | None:
    """The first value in which two configurations differ, in words; None if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            found = _first_difference(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
            if found:
                return found
        return None
    return None if old == new else f"{name} is {old!r} there and {new!r} now"
