"""Building a finished comparison's report again, from its files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmnist_aug.comparison.compare import load_comparison
from fmnist_aug.comparison.comparing import write_comparison_report
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.comparison.inputs import load_slice
from fmnist_aug.data import NAMED_DATASETS, ImageDataset, Split
from fmnist_aug.errors import DataError, FmnistAugError, RunFolderError, UsageError
from fmnist_aug.files import owned_folder

SPLITS: tuple[Split, Split] = ("train", "test")


def rebuild_report(
    path: Path, data_dir: str | Path | None = None, dataset: str | Path | None = None
) -> tuple[dict[str, Any], Path]:
    """Write ``report.html`` and the figures of a finished comparison anew.

    Args:
        path: the comparison's folder.
        data_dir: as it was given to the comparison.
        dataset: where the data set is now; by default where the comparison found it, which for a
            relative path is seen from the folder in which the comparison was started.

    Returns:
        The results, and the path of the report.

    Raises:
        RunFolderError: the folder holds no finished comparison.
        UsageError: the data set is not there.
        DataError: the images are no longer those of the comparison.
    """
    try:
        has_results = (path / "results.json").is_file()
    except OSError as error:  # a name that is too long
        raise RunFolderError(f"cannot read {path}: {error.strerror or error}") from error
    if not has_results:
        finished = sorted(inner.parent for inner in path.glob("*/results.json"))
        if finished:
            advice = f"did you mean {' or '.join(map(str, finished[:3]))}?"
        else:
            advice = "finish the comparison with the same command first"
        raise RunFolderError(f"{path} holds no results.json; {advice}")
    try:
        return _rebuild(path, data_dir, dataset)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, FmnistAugError):
            raise
        raise RunFolderError(
            f"{path / 'results.json'} is not as a comparison writes it ({error!r}); remove it and "
            "run the same command again, which makes it anew from the runs"
        ) from error


def _rebuild(
    path: Path, data_dir: str | Path | None, dataset: str | Path | None
) -> tuple[dict[str, Any], Path]:
    with owned_folder(path):
        found = load_comparison(path)
        results, config = found.results, found.results["config"]
        place = _find_dataset(config["dataset"]) if dataset is None else str(dataset)
        splits: list[ImageDataset] = []
        for split in SPLITS:
            images = load_slice(
                place,
                split,
                config[f"{split}_images"],
                data_dir=data_dir,
                image_size=config["image_size"],
                flip=config["flip"],
            )
            if images.fingerprint() != results["fingerprints"][split]:
                raise DataError(
                    f"the {split} images of {place} are not those of the comparison (other "
                    "fingerprint); give the same data (--dataset or --data-dir)"
                )
            splits.append(images)
        folder = ComparisonFolder(path)
        logits = {
            (run["arm"], run["seed"]): folder.load_logits(run["arm"], run["seed"])[0]
            for run in results["runs"]
        }
        train, test = splits
        report = write_comparison_report(path, results, train, test, logits, found.plan)
    return results, report


def _find_dataset(name: str) -> str:
    """The data set as the comparison names it, if it is still found like this."""
    if name not in NAMED_DATASETS and not Path(name).is_dir():
        raise UsageError(
            f"no data set {name!r} here, as the comparison names it; say where it is now with "
            "--dataset PATH"
        )
    return name
