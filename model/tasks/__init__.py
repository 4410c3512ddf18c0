"""A task owns its prompt, its examples, its score and its reward."""
