import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from fmnist_aug import AugmentationSampler, ConfusionPlan, ConfusionReport, load_dataset
from fmnist_aug.comparison import make_plan, resolve_config
from fmnist_aug.comparison.probe import Probe

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, folder, *arguments, **environment):
    """What an example prints; it must run to its end."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=600,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["own_training_loop.py", "own_image_folder.py"])
def test_the_example_runs_to_its_end(name, tmp_path):
    assert "targeted" in run(name, tmp_path)


def test_the_example_of_hard_images_compares_at_equal_steps(tmp_path):
    short = ["--runs", "1", "--images", "500", "--epochs", "3"]
    told = run("hard_examples.py", tmp_path, *short)
    assert re.search(r"12 steps.*\nall draws: \d.*\nhardest half: \d", told)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("lightning_training.py", "lightning"),
        ("skorch_training.py", "skorch"),
        ("huggingface_training.py", "transformers"),
    ],
)
def test_a_framework_keeps_the_samplers_own_order(name, package, tmp_path):
    pytest.importorskip(package)
    told = run(name, tmp_path, HF_HUB_OFFLINE="1")
    assert re.search(r"\d+ draws in the sampler's own order, [1-9]\d* of them", told)
    assert re.search(r"and [1-9]\d* easy ones left out", told)


def test_the_proof_of_the_examples_tells_another_order(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import shared

    plan = ConfusionPlan(("a", "b"), (), (0.5, 0.0), "none", "a test")
    sampler = AugmentationSampler([0, 0, 1, 1], plan)
    images = [(np.zeros((8, 8, 1), np.uint8), label) for label in (0, 0, 1, 1)]
    for replaced, wrong in ((list(sampler), False), (range(4), True), (list(sampler)[::2], True)):
        data = shared.RecordedDataset(images, plan)
        for index in replaced:
            data[index]
        if wrong:
            with pytest.raises(SystemExit, match="own order"):
                shared.prove_order(data, sampler, 1)
        else:
            shared.prove_order(data, sampler, 1)


def test_the_notebook_runs_in_a_kernel(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's own inner workings
        nbclient.NotebookClient(
            notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    texts = [
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    assert any("with the plan" in text for text in texts)
    complaints = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        # what tqdm says of missing widgets depends on what else is installed
        if output.get("name") == "stderr" and "TqdmWarning" not in output["text"]
    ]
    assert not complaints


@pytest.mark.parametrize("arm", ["train", "targeted"])
def test_held_out_trials_read_no_test_images(arm, tmp_path):
    code = (
        "import sys, fmnist_aug; real = fmnist_aug.load_dataset;"
        "check = lambda name, split: real(name, split) if split == 'train' else 1 / 0;"
        "fmnist_aug.load_dataset = check;"
        f"sys.path.insert(0, {str(EXAMPLES)!r}); import held_out_trials;"
        f"held_out_trials.main(['--images', '600', '--epochs', '1', '--arm', {arm!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=600
    )
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "held_out_trials.jsonl").read_text().splitlines()
    value = json.loads(line)
    assert value["arm"] == arm
    assert value["plan"]["keep"] == 0.5
    assert 0 < value["accuracy"] < 1


def test_kept_runs_come_back_whole_and_a_cut_line_is_done_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from kept_runs import KeptRuns

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 10_000)
    path, trained = tmp_path / "folder" / "runs.jsonl", []

    def predictions(kept, seed):
        def predict():
            trained.append(seed)
            wrong = np.random.default_rng(seed).random(10_000) < 0.06
            return np.where(wrong, (labels + 3) % 10, labels), 1.5

        return kept.predictions("uniform", seed, predict)

    first = KeptRuns(path, {"a": 1}, labels, {"commit": "abc"})
    found = [predictions(first, seed) for seed in (0, 1)]
    assert path.stat().st_size < 2 * 3000
    assert (found[0] != labels).mean() == pytest.approx(0.06, abs=0.01)
    again = KeptRuns(path, {"a": 1}, labels)
    assert (predictions(again, 1) == found[1]).all()
    assert trained == [0, 1]
    assert again.complete_seeds(["uniform"]) == [0, 1]
    assert again.complete_seeds(["uniform", "targeted"]) == []
    path.write_bytes(path.read_bytes()[:-20])
    cut = KeptRuns(path, {"a": 1}, labels)
    assert (predictions(cut, 1) == found[1]).all()
    assert trained == [0, 1, 1]
    assert KeptRuns(path, {"a": 1}, labels).complete_seeds(["uniform"]) == [0, 1]
    with pytest.raises(SystemExit, match="something else"):
        KeptRuns(path, {"a": 2}, labels)
    as_it_is = KeptRuns(path, None, labels)
    assert as_it_is.identity == {"a": 1}
    assert (as_it_is.read("uniform", 1) == found[1]).all()
    with pytest.raises(SystemExit, match="not there"):
        KeptRuns(tmp_path / "other.jsonl", None, labels)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(SystemExit, match="no runs"):
        KeptRuns(tmp_path / "empty.jsonl", None, labels)
    assert not (tmp_path / "empty.jsonl").read_text()


def test_the_study_goes_on_and_shows_what_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import kept_runs
    import targeting_study

    def study(*options):
        line = ["targeting_study.py", "--preset", "smoke", "--epochs", "0.1", "--pairs", "0:6"]
        line += ["--out", str(tmp_path), "--arms", "uniform", "targeted", *options]
        monkeypatch.setattr(sys, "argv", line)
        targeting_study.main()
        return capsys.readouterr().out

    def runs():
        return len((tmp_path / "runs.jsonl").read_text().splitlines()) - 1

    one = study("--runs", "1")
    assert runs() == 2
    two = study("--runs", "2")
    assert runs() == 4
    assert [line in two for line in one.splitlines() if "(seed 0)" in line] == [True, True]
    with pytest.raises(SystemExit, match="has other pairs"):
        study("--runs", "3", "--pairs", "2:4")
    with pytest.raises(SystemExit, match="another policy"):
        study("--runs", "3", "--policy", "geometric")
    monkeypatch.setattr(kept_runs, "train_model", None)
    monkeypatch.setattr(targeting_study, "run_probe", None)
    (tmp_path / "plan.json").unlink()  # the plan of the runs stands beside them
    shown = study("--show")
    assert runs() == 4
    assert two[two.index("| arm |") :] == shown[shown.index("| arm |") :]
    assert "| targeted − uniform |" in shown
    assert "| Shirt |" in shown
    assert "Errors around the focus, targeted against uniform" in shown
    assert (tmp_path / "targeting.png").stat().st_size > 1000
    with pytest.raises(SystemExit, match="no seed"):
        study("--show", "--arms", "baseline")


def test_the_study_makes_the_plan_that_a_comparison_makes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import targeting_study

    train = load_dataset("fashion-mnist", "train")
    counts = np.diag([90] * 10)
    counts[0, 6] = counts[6, 0] = 10
    report = ConfusionReport(tuple(map(tuple, counts.tolist())), train.class_names)
    probe = Probe(report, 0.0, "made for a test", np.arange(0), np.zeros((0, 10), np.float32))
    monkeypatch.setattr(targeting_study, "run_probe", lambda *_: probe)
    for preset, keep in (("fast", 0.5), ("strong", 1.0)):
        config = resolve_config(preset=preset)
        plan = targeting_study.study_plan(config, train, tmp_path / f"{preset}.json")
        assert plan == make_plan(probe, train, keep=config.keep)
        assert plan.keep == keep


def test_the_ablation_goes_on_from_what_is_kept_and_prints_its_table(tmp_path):
    out = tmp_path / "kept.jsonl"
    command = [sys.executable, str(EXAMPLES / "original_ablation.py"), "--out", str(out)]
    command += ["--images", "160", "--epochs", "0.3", "--variants", "baseline-cnn-200k"]

    def run(*more):
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = run("--seeds", "0")
    first = out.read_text()
    assert re.search(r"\| baseline-cnn-200k \| 20\d,\d{3} \| (\S+) \| \1 \|", printed)
    printed = run("--seeds", "0", "--seeds", "1")
    assert out.read_text().startswith(first)
    assert len(out.read_text().splitlines()) == 3, "a run was repeated"
    assert not list(tmp_path.glob("*.state"))
    other = subprocess.run([*command, "--epochs", "0.4"], capture_output=True, text=True)
    assert other.returncode != 0
    assert "something else" in other.stderr
