"""A whole turn of the assistant with a server behind it: thought, tool, answer, and what the next turn reads."""

import pytest

from model.assistant import Assistant, ConversationState, TurnOptions
from model.backends.vllm_server import VllmBackend
from model.events import collect
from model.tools.standard import CLOCK, standard_toolbox
from tests.model.backends.fake_server import DONE, FakeServer, delta


@pytest.fixture
def server():
    server = FakeServer()
    yield server
    server.close()


def test_thought_tool_and_answer(server, tone):
    def answer(call):
        question = call.question
        opening = question["messages"][-1]["content"] if question["continue_final_message"] else ""
        if opening.endswith("<think>\n"):
            call.write(delta(content="A quiet voice.</think>", finish="stop", choice={"stop_reason": "</think>"}))
        elif any(message["role"] == "input" for message in question["messages"]):
            call.write(delta(content="It is noon.", finish="stop"))
        else:
            function = {"name": CLOCK, "arguments": "{}"}
            call.write(delta(tool_calls=[{"index": 0, "id": "c1", "type": "function", "function": function}]))
            call.write(delta(finish="tool_calls"))
        call.write(DONE)

    server.script = [answer]
    options = TurnOptions(think=50, tools=standard_toolbox(use=[CLOCK], online=False))
    assistant, state = Assistant(VllmBackend(server.url), options=options), ConversationState()
    turn = collect(assistant.say(state, tone(16_000), "What time is it?"))
    assert (turn.thought, turn.text, turn.reason) == ("A quiet voice.", "It is noon.", "stop")
    assert [call.name for call in turn.tool_calls] == [CLOCK] and not turn.tool_results[0].failed

    collect(assistant.say(state, "And now?"))
    thought, called, answered, *again = server.questions
    assert thought["stop"] == ["</think>"] and thought["tools"][0]["function"]["name"] == CLOCK
    assert called["messages"][-1]["content"] == "\n<think>\nA quiet voice.\n</think>\n\n"
    told = again[0]["messages"]
    assert [message["role"] for message in told[1:6]] == ["human", "assistant", "input", "assistant", "human"]
    assert told[2]["tool_calls"][0]["function"]["name"] == CLOCK and told[4]["content"] == "It is noon."
    assert "quiet voice" not in str(told)
    assert told[1]["content"][0]["type"] == "input_audio" and answered["messages"][-1]["role"] == "input"


def test_a_server_that_dies_leaves_the_conversation_as_it_was(server):
    state, assistant = ConversationState(), Assistant(VllmBackend(server.url))
    server.script = [delta(content="Hel")]
    with pytest.raises(Exception, match="broke off"):
        collect(assistant.say(state, "Hi"))
    assert state.exchanges == () and state.unanswered is not None
    server.script = [delta(content="Hello", finish="stop"), DONE]
    assert collect(assistant.regenerate(state)).text == "Hello" and len(state.exchanges) == 1
