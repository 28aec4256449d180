"""``prmkit bench``: the table of a machine, what it counts, and what it says where something is missing."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from prmkit.cli import app
from prmkit.evaluation import MachineReport, measure_machine
from prmkit.evaluation._measure_machine import MachineRow, _rounds, _rows, _solutions, _Subject
from prmkit.features.encoding import model_path
from prmkit.utils.machine import machine, versions


@pytest.fixture
def no_encoder(monkeypatch):
    """Neither the package with the encoder nor the network. Small matrices, for a quick test."""
    monkeypatch.setattr("prmkit.evaluation._measure_machine._SIZE", 64)
    monkeypatch.setattr(model_path, "_installed_folder", lambda: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(model_path, "_hub_folder", lambda _name, ways_out: (_ for _ in ()).throw(OSError(ways_out)))


def test_the_help_shows_calls():
    words = " ".join(CliRunner().invoke(app, ["bench", "--help"]).output.split())
    assert "prmkit bench --json" in words
    assert "times as fast" in words
    assert "measure_machine()" in words


def test_without_an_encoder_the_rest_is_measured(no_encoder):
    threads = torch.get_num_threads()
    result = CliRunner().invoke(app, ["bench", "--seconds", "0.01"])
    assert result.exit_code == 0
    assert "| float32, 1 thread |" in result.stdout
    assert "Encode" not in result.stdout
    assert "there is no all-MiniLM-L6-v2. Either pip install" in result.stdout
    assert torch.get_num_threads() == threads


def test_the_numbers_are_there_as_json(no_encoder):
    found = json.loads(CliRunner().invoke(app, ["bench", "--seconds", "0.01", "--json"]).stdout)
    assert found["tables"]["products"][0] | {"rate": 1} == {
        "way": "float32, 1 thread",
        "rate": 1,
        "unit": "GFLOP/s",
        "times": 1.0,
        "share": None,
    }
    assert found["versions"] == versions()
    assert found["machine"].keys() == machine().keys()


def test_a_named_encoder_that_is_nowhere_is_an_error(tmp_path):
    result = CliRunner().invoke(app, ["bench", "--model", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "no folder at" in result.stderr


def test_time_must_be_positive():
    with pytest.raises(ValueError, match="seconds is 0, expected a number above 0"):
        measure_machine(0)
    assert "--seconds is" in CliRunner().invoke(app, ["bench", "--seconds", "-1"]).stderr


def test_ratios_are_taken_within_rounds():
    peer = "transformers.Trainer, batches of 8"
    # The machine was ten times as slow in the second round.
    rows, did = _rows({peer: [2.0, 20.0, 2.0], "ours": [1.0, 10.0, 1.0]}, "train", {"tokens": 300}, "tokens")
    assert [(row.rate, row.times) for row in rows] == [(150.0, 1.0), (300.0, 2.0)]
    assert did == "300 tokens; median of 3 rounds"


def test_a_way_may_tell_its_own_seconds():
    assert _rounds({"a": lambda: 0.5}, seconds=0, least=2) == {"a": [0.5, 0.5]}


def test_operations_are_those_of_the_model(monkeypatch):
    class Body(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(1000, 8)  # looked up, not multiplied
            self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 4), torch.nn.Linear(4, 8)])
            self.config = type("Config", (), {"num_hidden_layers": 3, "hidden_size": 8})

    subject = object.__new__(_Subject)
    subject.network = [type("First", (), {"auto_model": Body()})]
    subject.device, subject.threads, subject.peaks = "cpu", 2, {"float32, 2 threads": 1e6, "float32, 1 thread": 1.0}
    # Per token 2 x 64 weights; per pair of tokens 4 x 3 layers x 8 dimensions.
    assert subject.operations([10, 5]) == 128 * 15 + 96 * 125
    assert subject.share(5e5, [1.0, 0.5, 2.0], "float32") == 0.5
    assert subject.share(5e5, [1.0], "int8") is None


def test_solutions_are_long_and_labelled():
    solutions, labels = _solutions(20)
    assert [len(of) for of in labels] == [solution.n_steps for solution in solutions]
    assert set(np.concatenate(labels).tolist()) == {-1, 0, 1}
    longest = max(len(step) for solution in solutions for step in solution.steps)
    shortest = min(len(step) for solution in solutions for step in solution.steps)
    assert longest > 300 > 80 > shortest


def test_the_table_can_be_pasted():
    facts = {"processor": "A", "cores": 2, "torch_threads": 2, "memory_gib": 8.0, "gpu": None, "system": "Linux"}
    rows = [MachineRow("peer", 1234.5, "tokens/s", 1.0, 0.25), MachineRow("ours", 2.5, "tokens/s", 0.002, None)]
    report = MachineReport(
        facts | {"load_average": [1.5, 1.0, 1.0]},
        {"python": "3.11", "ray": None},
        "mini",
        {"train": rows},
        {"train": "x"},
    )
    text = str(report)
    assert "**A**, 2 cores, 2 threads in use, 8.0 GiB, no GPU, Linux, load 1.5 before." in text
    assert "ray not installed; encoder mini." in text
    assert "| Train a language model to judge steps, one epoch (x) | tokens/s | times as fast | of the peak |" in text
    assert "| peer | 1,234 | 1.00 | 25% |\n| ours | 2.5 | 0.00 |  |" in text
    assert text.endswith("the ratios say more than the rates.")


@pytest.mark.slow
def test_everything_is_measured():
    report = measure_machine(1, show_progress=False)
    assert report.notes == []
    assert list(report.tables) == ["products", "encode", "fit", "score", "train"]
    for part, rows in report.tables.items():
        assert rows[0].times == 1.0
        assert len(rows) >= 2
        assert all(row.rate > 0 and row.times > 0 for row in rows), part
    shares = [row.share for part in ("encode", "train") for row in report.tables[part]]
    assert all(share > 0 for share in shares)
