"""A backend that writes the ids it is given, through the project's own reader: every event and id is real but the
choice."""

import threading
import time

from model.options import GenerationOptions
from model.reply import Choice, Clock, Reply


class Roomy:
    """What a reply asks of a model: how long a prompt may be."""

    def __init__(self, limit: int) -> None:
        self.config = type("config", (), {"text_config": type("text", (), {"max_position_embeddings": limit})})


class WritingBackend:
    """Writes one list of ids after the other, a reply each; the last one again and again."""

    def __init__(self, processor, *replies, limit=4096, pause_s=0.0, capabilities=("text", "audio_codes")) -> None:
        self.processor, self.replies, self.pause_s = processor, list(replies), pause_s
        self.limit, self.capabilities = limit, capabilities
        self.prompts, self.options = [], []
        self._turn = threading.Lock()

    @property
    def info(self):
        return {"name": "writer", "capabilities": self.capabilities, "scripted": True}

    @property
    def token_ids(self):
        return self.processor.ids

    def room(self, conversation):
        return self.limit - len(self.processor.encode(conversation).ids)

    def prompt_ids(self, index=-1):
        return self.processor.encode(self.prompts[index]).ids

    def stream(self, conversation, options: GenerationOptions, *, cancel=None):
        with self._turn:
            self.prompts.append(conversation)
            self.options.append(options)
            ids = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(ids, Exception):
            raise ids
        cancel, clock, reply = cancel or threading.Event(), Clock(), Reply(self.processor, options)
        reply.prepare(conversation, Roomy(self.limit))
        yield clock.stage("prefill")
        for token_id in ids:
            if self.pause_s:
                time.sleep(self.pause_s)
            if cancel.is_set() or reply.reason:
                break
            yield from reply.add(Choice(token_id, -0.5), clock)
        yield from reply.end(clock, "cancelled" if cancel.is_set() else "stop")
