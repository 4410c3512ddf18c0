"""Nano's voice, trained: a corpus of clean speech, then tokenizer, speaker network, flow and vocoder, one file each."""
