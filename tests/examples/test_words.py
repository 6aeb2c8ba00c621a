"""Wrong values of every flag: one line that names what came, nothing is run, nothing raises."""

import pytest

from examples.mura import __main__, commands
from examples.mura.errors import UserError
from examples.mura.flags import build_parser
from tests.examples.small_mura import SMALL, draw_spots

VALUES = (
    *("", "-1", "1.5", "nan", "inf", "abc", "1e11", "9" * 23, "²", "e.txt", "nowhere/deeper"),
    *("/dev/null", "elbow", "a,b", "e\nvil"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, and a run that was trained on them."""
    folder = tmp_path_factory.mktemp("words")
    draw_spots(folder, parts=("ELBOW", "HAND"))
    (folder / "e.txt").write_text("hello")
    (folder / "empty").mkdir()
    argv = ["train", "--data", str(folder), "--run", str(folder / "R"), "--epochs", "1", *SMALL]
    assert __main__.main([*argv, "--no-baselines"]) == 0
    return folder


RIGHT = {
    "demo": ["--data-folder", "D"],
    "prepare": ["--data", "."],
    "breakdown": ["--data", ".", "--picture", "b.png"],
    "train": ["--data", ".", "--run", "T", *SMALL],
    "transfer": ["--data", ".", "--run", "X", "--base-parts", "elbow", "--target-parts", "hand"],
    "evaluate": ["--run", "R"],
    "predict": ["--run", "R", "MURA-v1.1/valid/XR_HAND"],
    "explain": ["--run", "R", "--out", "E", "MURA-v1.1/valid/XR_HAND"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", RIGHT)
def test_one_line_says_what_is_wrong(command, folder, monkeypatch, capsys):
    def would_run(*args, **kwargs):
        raise UserError("it would run")

    for name in ("generate", "Experiment", "train_run", "evaluate_run", "predict_files"):
        monkeypatch.setattr(commands, name, would_run)
    monkeypatch.setattr(commands, "explain_files", would_run)
    monkeypatch.chdir(folder)
    flags = build_parser()._subparsers._group_actions[0].choices[command]._actions
    wrong = []
    for flag in flags:
        if flag.nargs == 0 or not flag.option_strings or "no-" in flag.option_strings[-1]:
            continue
        for value in VALUES:
            argv = [command, *RIGHT[command], flag.option_strings[-1], value]
            try:
                status = __main__.main(argv)
            except SystemExit as ended:
                status = ended.code
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
                wrong.append((argv[-2:], repr(error)))
                continue
            lines = capsys.readouterr().err.splitlines()
            errors = [line for line in lines if line.startswith("error: ")]
            told = status in (1, 2) and errors == lines[-1:] and len(errors[0]) < 400
            if not told and status != 0:
                wrong.append((argv[-2:], status, lines))
    assert not wrong
    assert (folder / "e.txt").read_text() == "hello"


@pytest.mark.parametrize("flag", ["--weights", "--unfreeze-from"])
def test_a_flag_without_text_is_refused(flag, capsys):
    with pytest.raises(SystemExit):
        __main__.main(["train", flag, ""])
    assert f"{flag}: it is empty" in capsys.readouterr().err


def test_a_table_goes_into_a_csv(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["predict", "--run", "R", "--csv", "notes.txt", "image.png"])
    assert "'notes.txt' has to end in .csv" in capsys.readouterr().err
