"""How a reply is to be written: one record for every backend, light to import for tasks and settings."""

from dataclasses import dataclass

from model.errors import OptionsError


@dataclass(frozen=True)
class GenerationOptions:
    """How to write a reply; the same for every backend."""

    max_new_tokens: int = 256
    """Most ids to generate, 1 or more."""
    temperature: float = 0.0
    """0 takes the likeliest id every time; above, ids are drawn."""
    top_p: float = 1.0
    """Draw from the likeliest ids that together reach this probability, in (0, 1]."""
    top_k: int = 0
    """Draw from this many likeliest ids; 0 is no limit."""
    repetition_penalty: float = 1.0
    """Divides the odds of ids already seen, prompt included; 1 changes nothing."""
    seed: int | None = None
    """Makes draws repeatable; None draws anew each time."""
    speak: bool = False
    """Open the reply with `<tts_start>`, if the conversation has not opened it."""
    think: bool = False
    """Open the reply with a thought, if the conversation has not opened it."""
    stop: tuple[str, ...] = ()
    """Texts that end the reply once they have appeared in it; they stay in it."""
    repetition_guard: int = 96
    """Break off when the last so many text ids are one short cycle over and over; 0 never does."""

    def __post_init__(self) -> None:
        """Refuse values out of range and settings that contradict each other."""
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        greedy = self.temperature == 0
        checks = [
            (self.max_new_tokens >= 1, f"max_new_tokens={self.max_new_tokens}", "1 or more"),
            (0 <= self.temperature <= 10, f"temperature={self.temperature}", "0 (greedy) to 10"),
            (0 < self.top_p <= 1, f"top_p={self.top_p}", "above 0, at most 1"),
            (self.top_k >= 0, f"top_k={self.top_k}", "0 (no limit) or more"),
            (0.1 <= self.repetition_penalty <= 10, f"repetition_penalty={self.repetition_penalty}", "0.1 to 10"),
            (self.repetition_guard >= 0, f"repetition_guard={self.repetition_guard}", "0 (off) or more"),
            (all(self.stop), f"stop={self.stop}", "texts that are not empty"),
            (
                not greedy or (self.top_p == 1 and self.top_k == 0),
                f"temperature=0 with top_p={self.top_p}, top_k={self.top_k}",
                "no limits on draws where nothing is drawn",
            ),
        ]
        for good, found, expected in checks:
            if not good:
                todo = "Correct the option; a temperature above 0 turns drawing on"
                raise OptionsError("use the generation options", found=found, expected=expected, todo=todo)
