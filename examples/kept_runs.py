"""Runs in a file of JSON lines, for the studies here: what is finished is not trained again."""

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class KeptRuns:
    """Predictions of finished runs by arm and seed, one JSON line each.

    Args:
        path: the file; made with its folder if it isn't there.
        identity: what decides the runs besides arm and seed; the file's first line. A file with
            another one is refused.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.runs: dict[tuple[str, int], dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        # a line that was cut when the process was killed has no end, and is done again
        values = [json.loads(line) for line in lines if line.endswith("\n")]
        if not values:
            path.write_text(json.dumps(identity) + "\n")
            return
        if values[0] != json.loads(json.dumps(identity)):
            raise SystemExit(f"{path} holds runs of something else; remove it or choose another")
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
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
            packed = zlib.compress(predicted.astype(np.uint8).tobytes(), 9)
            value = {
                "arm": arm,
                "seed": seed,
                "train_seconds": round(seconds, 3),
                "predicted": base64.b64encode(packed).decode(),
            }
            with self.path.open("a") as stream:
                stream.write(json.dumps(value) + "\n")
            self.runs[arm, seed] = value
        packed = base64.b64decode(self.runs[arm, seed]["predicted"])
        return np.frombuffer(zlib.decompress(packed), np.uint8).astype(np.int64)
