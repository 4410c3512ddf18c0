from dataclasses import replace

from demo.settings import Settings
from demo.tabs.about import ability, about_html, card_text, facts_html
from demo.texts import Texts
from demo.workbench import ModelFacts, Workbench
from tests.demo.fakes import ready_workbench, replay_engine


def test_what_is_kept_and_for_how_long_is_said(texts):
    shown = about_html(Workbench(Settings(run_minutes=30)), texts)
    assert "30 minutes" in shown and "No model is loaded yet" in shown
    assert "30 分钟" in about_html(Workbench(Settings(run_minutes=30)), Texts("zh"))


def test_facts_are_escaped_and_complete(texts):
    facts = ModelFacts(
        "<b>", "abc123", "cuda", "bfloat16", 7_600_000_000, 15 << 30, 0.123456, capabilities=("text", "new_one")
    )
    shown = facts_html(facts, texts)
    assert "<b>" not in shown
    for word in ("abc123", "cuda · bfloat16", "7.6 B", "15,360 MiB", "0.123", "reads and writes text · new_one"):
        assert word in shown


def test_the_card_comes_without_its_front_matter():
    engine = replay_engine()
    card = "---\nlicense: apache-2.0\ntags:\n- a\n---\n\n# Nano\n\nText --- more.\n"
    workbench = ready_workbench(replace(engine, facts=replace(engine.facts, card=card)))
    assert card_text(workbench) == "# Nano\n\nText --- more.\n"
    assert card_text(Workbench(Settings())) == ""


def test_every_capability_of_a_backend_has_words():
    from model.backends import base

    names = [value for key, value in vars(base).items() if key.isupper() and isinstance(value, str)]
    assert names and all(ability(name, Texts("en")) != name for name in names)
