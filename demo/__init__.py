"""The gradio app: only shows and asks; never torch, never transformers."""
