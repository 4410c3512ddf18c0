"""Reports: JSON and model card say what was measured."""

import pytest

from analysis.evaluation.report import Metric, Report, write_into_card

REPORT = Report(
    "asr",
    (
        Metric("WER", 2.0, 1.5, 2.75, 300, bar="<= 3 %"),
        Metric("pointing", 80.0, 70.0, 95.0, 900, of="words", unit="ms"),
    ),
    {"command": "python -m analysis.evaluation asr", "model": "nano"},
)


def test_json_round_trip(tmp_path):
    REPORT.save(tmp_path / "deep" / "report.json")
    assert Report.load(tmp_path / "deep" / "report.json") == REPORT


def test_markdown_shows_value_interval_and_command():
    text = REPORT.markdown()
    assert "| WER | 2.0 % [1.5, 2.8] | 300 utterances | <= 3 % |" in text
    assert "80.0 ms [70.0, 95.0]" in text and "`python -m analysis.evaluation asr`" in text


def test_card_keeps_everything_but_the_numbers(tmp_path):
    card = tmp_path / "README.md"
    card.write_text("# Card\n<!-- numbers:asr -->\nold\n<!-- /numbers:asr -->\n## Limits\n")
    write_into_card(card, REPORT)
    write_into_card(card, REPORT)
    text = card.read_text()
    assert "old" not in text and text.count("| WER |") == 1
    assert text.startswith("# Card\n") and text.endswith("## Limits\n")


def test_card_without_markers_is_refused(tmp_path):
    card = tmp_path / "README.md"
    card.write_text("# Card\n")
    with pytest.raises(ValueError, match="numbers:asr"):
        write_into_card(card, REPORT)


def test_a_value_outside_its_interval_is_refused():
    with pytest.raises(ValueError, match="outside"):
        Metric("WER", 5.0, 1.0, 2.0, 10)
