"""The shared loop: the clock's schedule, the average, and a run that resumes where it was cut."""

import csv

import pytest
import torch
from torch import nn

from model.training import loop


def test_learning_rate_rises_then_falls_to_a_few_percent():
    rates = []
    for step in (0, 4, 50, 100):
        clock = loop.Clock(steps=100, step=step)
        rates.append(clock.learning_rate(1.0))
    assert rates[0] < rates[1] == pytest.approx(1.0)
    assert rates[1] > rates[2] > rates[3] == pytest.approx(loop.FINAL_LR_SHARE)


def test_minutes_decide_when_they_are_given():
    clock = loop.Clock(steps=10, minutes=1.0, step=10, elapsed_s=30.0)
    assert clock.progress == pytest.approx(0.5)


def test_pause_is_not_counted(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    clock = loop.Clock(steps=10, _mark=0.0)
    now[0] = 2.0
    clock.tick()
    now[0] = 50.0
    clock.pause()
    now[0] = 53.0
    clock.tick()
    assert clock.elapsed_s == pytest.approx(5.0)


def test_average_of_a_constant_is_the_constant_and_moves_towards_changes():
    layer = nn.Linear(2, 2)
    average = loop.Average(layer)
    before = average.values["weight"].clone()
    average.update(layer, step=0)
    assert torch.allclose(average.values["weight"], before)
    with torch.no_grad():
        layer.weight.add_(1.0)
    average.update(layer, step=10_000)
    assert torch.allclose(average.values["weight"], before + 1 - average.decay, atol=1e-5)


def test_a_step_with_a_broken_gradient_changes_nothing():
    layer = nn.Linear(2, 1)
    optimizer = loop.optimizer_for(layer, weight_decay=0.0)
    before = layer.weight.detach().clone()
    loop.step_optimizer(layer(torch.ones(1, 2)).sum() * float("nan"), optimizer, lr=0.1)
    assert torch.equal(layer.weight, before)
    loop.step_optimizer(layer(torch.ones(1, 2)).sum(), optimizer, lr=0.1)
    assert not torch.equal(layer.weight, before)


def test_run_saves_and_loads_its_state_and_log(tmp_path):
    run = loop.Run(tmp_path / "run", {"lr": 0.1})
    assert run.load() is None
    run.save(step=3, weights=torch.ones(2))
    run.log({"step": 1, "loss": 0.5})
    run.log({"step": 2, "loss": 0.25})
    again = loop.Run(tmp_path / "run", {"lr": 0.1})
    assert again.load()["step"] == 3
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert [float(row["loss"]) for row in rows] == [0.5, 0.25]
