import json

import click
import pytest
from click.testing import CliRunner

from fmnist_aug.cli.main import cli
from fmnist_aug.cli.options import data_options, output_options, plan_options, training_options

TRAINING_COMMANDS = ("compare", "train", "confusions", "plan")


@click.command()
@data_options
@training_options
@plan_options
@click.option("--arm", "arms", multiple=True, type=click.Choice(["baseline", "targeted"]))
@click.option("--resume/--no-resume", default=True)
@output_options
def show(**options):
    click.echo(json.dumps(options))


@pytest.fixture
def shown(tmp_path):
    path = tmp_path / "my.toml"

    def run(text, *arguments, code=0):
        path.write_text(text)
        done = CliRunner().invoke(show, ["--config", str(path), *arguments])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if code == 0 else done.stderr

    return run


def test_values_come_from_the_file_and_the_command_line_wins(shown):
    text = 'epochs = 3\npreset = "smoke"\nimage-size = 32\narm = ["targeted", "baseline"]\n'
    found = shown(text + "resume = false\nflip = true\njson = true\n", "--epochs", "0.5")
    assert (found["epochs"], found["preset"], found["image_size"]) == (0.5, "smoke", 32)
    assert found["arms"] == ["targeted", "baseline"]
    assert (found["resume"], found["flip"], found["as_json"]) == (False, True, True)
    # what neither names keeps its default
    assert (found["seed"], found["dataset"], found["quiet"]) == (0, "fashion-mnist", False)


def test_the_file_counts_wherever_it_stands_on_the_command_line(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text("image_size = 32\nseed = 4\n")
    done = CliRunner().invoke(show, ["--seed", "5", "--no-resume", "--config", str(path)])
    found = json.loads(done.stdout)
    assert (found["seed"], found["image_size"], found["resume"]) == (5, 32, False)


def test_a_file_may_begin_as_windows_begins_text(shown):
    assert shown("\ufeffseed = 4")["seed"] == 4


def test_flags_on_the_command_line_win_over_the_files(shown):
    found = shown('flip = true\nresume = false\narm = "targeted"', "--no-flip", "--resume")
    assert (found["flip"], found["resume"], found["arms"]) == (False, True, ["targeted"])
    found = shown('arm = ["targeted"]', "--arm", "baseline")
    assert found["arms"] == ["baseline"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "unknown key 'epoch'; did you mean epochs?"),
        ("zzz = 3", "known are arm, data-dir"),
        ('config = "other.toml"', "unknown key 'config'"),
        ('epochs = "many"', "epochs: 'many' is not a valid float"),
        ('preset = "quick"', "'quick' is not one of"),
        ('arm = ["targeted", "mine"]', "'mine' is not one of"),
        ("epochs = true", "epochs = True cannot be used; expected text or a number"),
        ("resume = 1", "resume = 1 cannot be used; expected true or false"),
        ("seed = [1]", "cannot be used"),
        ("[train]\nseed = 1", "unknown key 'train'"),
        ("seed = ", "is not valid TOML"),
        ("image-size = 28\nimage_size = 32", "image-size is given twice"),
    ],
)
def test_files_that_cannot_be_used_give_one_line(shown, text, said):
    told = shown(text, code=2)
    lines = [line for line in told.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert "my.toml" in lines[0]
    assert said in lines[0]


def test_a_file_that_is_missing_or_no_text_gives_one_line(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, said in (("nowhere.toml", "cannot read"), ("binary", "is not valid TOML")):
        done = CliRunner().invoke(show, ["--config", str(tmp_path / name)])
        assert done.exit_code == 2
        assert said in done.stderr


@pytest.mark.parametrize("name", TRAINING_COMMANDS)
def test_all_commands_that_train_take_a_file(name):
    options = {option for parameter in cli.commands[name].params for option in parameter.opts}
    assert "--config" in options


def test_the_run_folder_keeps_what_was_resolved(tmp_path, small):
    from fmnist_aug.comparison import resolve_config

    path = tmp_path / "my.toml"
    path.write_text(
        f'dataset = "{small}"\npreset = "smoke"\nepochs = 0.3\nruns = 1\narm = ["baseline"]\n'
        f'pairs = "0:6"\nout = "{tmp_path / "out"}"\ndevice = "cpu"\n'
    )
    done = CliRunner().invoke(cli, ["compare", "--config", str(path), "--seed", "7", "--quiet"])
    assert done.exit_code == 0, done.output
    kept = json.loads((tmp_path / "out" / "config.json").read_text())
    expected = resolve_config(
        small, preset="smoke", epochs=0.3, runs=1, arms=("baseline",), pairs="0:6", seed=7
    ).to_dict()
    expected = json.loads(json.dumps(expected))
    assert {key: kept[key] for key in expected} == expected
    (run,) = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    epochs, accuracies, losses = zip(*run["curve"], strict=True)
    assert list(epochs) == sorted(epochs)
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    assert all(loss > 0 for loss in losses)
