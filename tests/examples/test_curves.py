"""metrics.csv, whole and damaged: a run that goes on cuts it at its last whole row, and no message shows its bytes."""

import random
import shutil

import pytest

import train
from streets.runs import checkpoints, curves
from streets.runs.curves import read_curves
from streets.system.command_line import LONGEST, one_line

OPTIONS = ["--model", "full_glow", "--width", "4", "--steps", "1", "1", "--context-width", "4",
           "--image-size", "8", "16", "--batch-size", "4",
           "--init-pairs", "6", "--generated", "8", "--epochs", "3", "--validate-every", "3", "--device", "cpu",
           "--no-linear-decay"]


AFTER = ["6", "6", "7", "8", "8", "8"]
"""Steps of the rows that follow on the last checkpoint: the end of the third epoch, and the fourth."""


def test_a_run_of_fewer_columns_keeps_them(tmp_path):
    """Go on with a table of an older version, which had no column for the velocity of flow matching."""
    older = [name for name in curves.COLUMNS if name != "velocity_error"]
    (tmp_path / "metrics.csv").write_text(",".join(older) + "\n" + "1,1,step,0.5" + "," * (len(older) - 4) + "\n")
    log = curves.Logger(tmp_path, 1, (tmp_path / "metrics.csv").stat().st_size)
    log.write("step", 2, 1, loss=0.25, bits_per_dim=5.0, learning_rate=0.1)
    log.close()
    rows = read_curves(tmp_path / "metrics.csv")
    assert [list(row) for row in rows] == [older, older]
    assert [(row["step"], row["loss"], row["bits_per_dim"], row["learning_rate"]) for row in rows] == [
        ("1", "0.5", "", ""), ("2", "0.25", "5", "0.1")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    train.main([*OPTIONS, "--out", str(out)])
    return out


DAMAGES = {
    "a row that ends early": lambda rows: (rows[:-1], rows[-1][:9] + b"\n"),
    "zeros at the end": lambda rows: (rows, bytes(5000) + b"\n"),
    "zeros within the last row": lambda rows: (rows[:-1], rows[-1][:6] + bytes(900) + rows[-1][6:]),
    "bytes at random": lambda rows: (rows[:-2], random.Random(0).randbytes(3000).replace(b"\n", b"") + b"\r\n"),
    "text that is no number": lambda rows: (rows[:-1], rows[-1].replace(b"1", b"one")),
    "two rows in one": lambda rows: (rows[:-2], rows[-2].rstrip() + rows[-1]),
    "rows of another process between zeros": lambda rows: (rows[:3], bytes(700) + b"".join(rows[2:])),
    "quotes": lambda rows: (rows[:-1], b'"' + rows[-1]),
    "a row without its step": lambda rows: (rows[:-1], b"," + rows[-1].split(b",", 1)[1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tail_is_cut_at_the_last_whole_row(damage, run, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    path = checkpoints.found(out / "checkpoints")[0]
    tensors, facts = checkpoints.read(path)
    header, *rows = (run / "metrics.csv").read_bytes()[:facts["log_length"]].splitlines(keepends=True)
    whole, rest = DAMAGES[damage](rows)
    damaged = header + b"".join(whole) + rest
    (out / "metrics.csv").write_bytes(damaged)
    del facts["format"], facts["step"]
    checkpoints.write(out / "checkpoints", 6, tensors, facts | {"log_length": len(damaged)})
    train.main(["--out", str(out), "--resume", "--epochs", "4"])
    said = capsys.readouterr().out
    assert (out / "metrics.csv").read_bytes().startswith(header + b"".join(whole))
    assert [row["step"] for row in read_curves(out / "metrics.csv")][len(whole):] == AFTER
    assert (out / "metrics.csv.damaged").read_bytes() == damaged
    start, step = len(header) + sum(map(len, whole)), whole[-1].split(b",")[0].decode()
    assert f"metrics.csv is damaged from byte {start} on: it is cut after its last whole row, of step {step}" in said
    assert len(said) < 3000
    assert said.replace("\n", "").isprintable()


def test_a_table_that_is_read_stops_where_it_is_damaged(run, tmp_path, capsys):
    content = (run / "metrics.csv").read_bytes()
    path = tmp_path / "metrics.csv"
    path.write_bytes(content + bytes(10_000) + b"\n1,2,3\n")
    assert read_curves(path) == read_curves(run / "metrics.csv")
    said = capsys.readouterr().out
    assert f"is damaged after {content.count(chr(10).encode()) - 1} rows, from byte {len(content)} on" in said
    assert "\0" not in said
    path.write_bytes(content + b"9,9,st")  # still being written
    assert read_curves(path) == read_curves(run / "metrics.csv")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", bytes(20_000) + b"\n", random.Random(1).randbytes(20_000) + b"\n"])
def test_another_file_is_no_table(content, run, tmp_path, capsys):
    """It is refused in a line that can be read, and stays as it is."""
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / "metrics.csv").write_bytes(content)
    with pytest.raises(SystemExit) as end:
        train.main(["--out", str(out), "--resume", "--epochs", "4"])
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("metrics.csv is no table of a training, without step, epoch, split: restore it, or remove it")
    assert (out / "metrics.csv").read_bytes() == content


def test_a_lost_table_begins_anew(run, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / "metrics.csv").unlink()
    train.main(["--out", str(out), "--resume", "--epochs", "4"])
    assert "the curves have a gap" in capsys.readouterr().out
    assert [row["step"] for row in read_curves(out / "metrics.csv")] == AFTER


def test_a_message_is_one_line_that_can_be_read():
    assert one_line("a\nb\r\nc") == "a b c"
    assert one_line("a\0b\x1b[2Jc") == "a?b?[2Jc"
    assert one_line("Straße, 街") == "Straße, 街"
    long = one_line("x" * 10 * LONGEST)
    assert len(long) < LONGEST + 10
    assert " ... " in long
