"""Talk of the world: turns refer back, tones follow the voice and not the words, and two sides never meet."""

import numpy as np
import pytest

from model.tasks.chat import Chat, register_of
from model.tasks.normalize import english, mandarin
from model.training.world import dialogue as d
from model.training.world import facts


def draw(language, count, *, held_out=False, seed=0, **options):
    rng = np.random.default_rng(seed)
    return [d.sample(rng, language, held_out=held_out, **options) for _ in range(count)]


@pytest.mark.parametrize(("language", "normalize"), [("en", english), ("zh", mandarin)])
def test_the_last_reply_names_what_it_must(language, normalize):
    for talk in draw(language, 50) + draw(language, 20, held_out=True):
        last = talk.exchanges[-1]
        said = normalize(last.reply)
        for part in last.key.split("+"):
            assert any(normalize(word) in said for word in part.split("/")), last


def test_talk_of_several_turns():
    for talk in draw("en", 20, n_turns=(2,)):
        assert len(talk.exchanges) == 2 and not talk.exchanges[0].key and talk.exchanges[1].key


@pytest.mark.parametrize("language", d.LANGUAGES)
def test_the_sides_never_meet(language):
    def whole(talk):
        return tuple(e.human for e in talk.exchanges)

    train = {whole(talk) for talk in draw(language, 100, seed=1)}
    assert not train & {whole(talk) for talk in draw(language, 40, seed=2, held_out=True)}
    rng = np.random.default_rng(3)
    said = {d.sample_feeling(rng, language).human for _ in range(80)}
    assert not said & {d.sample_feeling(rng, language, held_out=True).human for _ in range(40)}


def test_nothing_of_the_training_side_is_a_test_sentence():
    for talk in draw("en", 30, seed=4):
        assert not any(d.sides.gives_away(text) for e in talk.exchanges for text in (e.human, e.reply))


@pytest.mark.parametrize("language", d.LANGUAGES)
def test_the_same_words_get_four_tones(language):
    rng = np.random.default_rng(5)
    for feeling in d.feelings():
        words = d.sides.draw(d.sides.fields(*feeling.said), rng)
        told = [d.tell(feeling, words, emotion, language, rng) for emotion in d.EMOTIONS]
        assert len({e.human for e in told}) == 1 and len({e.reply for e in told}) == 4
        assert [register_of(e.reply, language) for e in told] == list(d.EMOTIONS) == [e.manner for e in told]


def test_tones_are_told_apart():
    assert register_of("That is wonderful! Have fun!", "en") == "happy"
    assert register_of("I am here for you. That is wonderful!", "en") is None
    assert register_of("The meeting is tomorrow.", "en") is None
    assert register_of("好的。会议在明天。", "zh") == "neutral"
    with pytest.raises(ValueError, match="bored"):
        d.sample_feeling(np.random.default_rng(0), "en", emotion="bored")


def test_draws_repeat_with_their_seed():
    assert draw("zh", 8, seed=6) == draw("zh", 8, seed=6) != draw("zh", 8, seed=7)


@pytest.mark.parametrize("language", d.LANGUAGES)
def test_the_written_reply_is_always_right_and_another_one_is_not(language):
    rng = np.random.default_rng(8)
    talks = draw(language, 25) + draw(language, 15, held_out=True)
    for held_out in (False, True):
        talks += [d.Dialogue((facts.sample(rng, language, held_out=held_out),)) for _ in range(40)]
        talks += [d.Dialogue((d.sample_feeling(rng, language, held_out=held_out),)) for _ in range(12)]
    examples = [d.as_example(talk, id=str(k)) for k, talk in enumerate(talks)]
    wrong = [e.id for e in examples if Chat.score(e.reference, e).value != 1.0]
    assert [talks[int(k)] for k in wrong] == []
    assert not any(Chat.score("I do not know that." if language == "en" else "我不知道。", e).value for e in examples)


def test_earlier_turns_become_history():
    talk = draw("en", 1, n_turns=(2,))[0]
    example = d.as_example(talk, id="x")
    assert [m.role for m in example.conversation] == ["system", "human", "assistant", "human", "assistant"]
    assert example.conversation[2].parts[0].text == talk.exchanges[0].reply
    with pytest.raises(ValueError):
        d.as_example(talk, ["one"], id="x")
