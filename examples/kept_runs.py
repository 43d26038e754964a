"""Runs in a file of JSON lines, for the studies here: what is finished is not trained again."""

import base64
import dataclasses
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug import ConfusionPlan
from fmnist_aug.augment import Policy
from fmnist_aug.comparison import arm_treatment
from fmnist_aug.comparison.environment import describe_environment
from fmnist_aug.data import ImageDataset
from fmnist_aug.files import write_text
from fmnist_aug.training import Hardware, TrainSettings, train_model


class KeptRuns:
    """Predictions of finished runs by arm and seed, one JSON line each.

    A line holds how far each predicted label is from the true one, compressed: about 2 kB for
    10,000 images, so the file can be kept beside the figures that are computed from it.

    Args:
        path: the file; made with its folder if it isn't there.
        identity: what decides the runs besides arm and seed; the file's first line. A file with
            another one is refused. None to read a file as it is.
        labels: int64 (images,), the true labels, fewer than 256 classes.
        facts: what each line shall say about where its run came from.
    """

    def __init__(
        self,
        path: Path,
        identity: dict[str, Any] | None,
        labels: NDArray[np.int64],
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.labels = labels
        self.facts = facts or {}
        self.runs: dict[tuple[str, int], dict[str, Any]] = {}
        text = path.read_text() if path.exists() else ""
        # a line that was cut when the process was killed has no end, and is done again
        whole = text[: text.rfind("\n") + 1]
        values = [json.loads(line) for line in whole.splitlines()]
        if identity is None:
            if not values:
                raise SystemExit(f"{path} is not there, or holds no runs")
            identity = values[0]
        self.identity = identity
        if not values:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(identity) + "\n")
            return
        if values[0] != json.loads(json.dumps(identity)):
            raise SystemExit(f"{path} holds runs of something else; remove it or choose another")
        if whole != text:
            write_text(path, whole)  # never leaves a part of it
        self.runs = {(value["arm"], value["seed"]): value for value in values[1:]}

    def predictions(
        self, arm: str, seed: int, predict: Callable[[], tuple[NDArray[np.int64], float]]
    ) -> NDArray[np.int64]:
        """The predicted labels int64 (images,) of a run; trained now if they are not there.

        Args:
            arm: name of the arm.
            seed: of the run.
            predict: trains, and gives the predicted labels and the seconds of training.
        """
        if (arm, seed) not in self.runs:
            predicted, seconds = predict()
            off = (predicted - self.labels).astype(np.uint8)  # modulo 256
            value = {
                "arm": arm,
                "seed": seed,
                "accuracy": float((off == 0).mean()),
                "train_seconds": round(seconds, 3),
                **self.facts,
                "off": base64.b64encode(zlib.compress(off.tobytes(), 9)).decode(),
            }
            with self.path.open("a") as stream:
                stream.write(json.dumps(value) + "\n")
            self.runs[arm, seed] = value
        return self.read(arm, seed)

    def read(self, arm: str, seed: int) -> NDArray[np.int64]:
        """The predicted labels int64 (images,) of a run that is there."""
        run = self.runs[arm, seed]
        if "predicted" in run:  # as earlier versions kept them
            return _unpack(run["predicted"]).astype(np.int64)
        return (self.labels + _unpack(run["off"])) % 256

    def complete_seeds(self, arms: list[str]) -> list[int]:
        """The seeds, ascending, with which all of these arms were trained."""
        seeds = {seed for _, seed in self.runs}
        return sorted(seed for seed in seeds if all((arm, seed) in self.runs for arm in arms))


class ArmRuns:
    """Trains arms of a comparison with any seeds, and keeps what they predict for the test images.

    Args:
        path: the file of the `KeptRuns`.
        train: training images.
        test: test images.
        settings: of every run.
        base: augmentation of the arms that augment.
        plan: what the targeted arms follow.
        hardware: where to train.
    """

    def __init__(
        self,
        path: Path,
        train: ImageDataset,
        test: ImageDataset,
        settings: TrainSettings,
        base: Policy,
        plan: ConfusionPlan,
        hardware: Hardware,
    ) -> None:
        self.train, self.test, self.settings = train, test, settings
        self.base, self.plan, self.hardware = base, plan, hardware
        environment = describe_environment(hardware)
        self.kept = KeptRuns(
            path,
            {
                "settings": dataclasses.asdict(settings),
                "plan": plan.to_dict(),
                "hardware": dataclasses.asdict(hardware),
                "fingerprints": [train.fingerprint(), test.fingerprint()],
            },
            test.labels,
            {name: environment[name] for name in ("torch", "device_name", "threads", "commit")},
        )

    def predictions(self, arm: str, seed: int) -> NDArray[np.int64]:
        """The labels int64 (images,) that a run predicts; it is trained if it wasn't before."""
        return self.kept.predictions(arm, seed, lambda: self._train(arm, seed))

    def _train(self, arm: str, seed: int) -> tuple[NDArray[np.int64], float]:
        counts = np.bincount(self.train.labels, minlength=self.train.num_classes).tolist()
        augmentation, plan = arm_treatment(arm, self.plan, self.base, counts, seed)
        trained = train_model(
            self.train,
            self.settings,
            base=augmentation,
            plan=plan,
            seed=seed,
            hardware=self.hardware,
        )
        return trained.classifier.predict(self.test.images), trained.seconds


def _unpack(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
