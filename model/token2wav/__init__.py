"""From codes to sound: speech tokenizer, speaker, flow matching, vocoder, streaming state, voices."""
