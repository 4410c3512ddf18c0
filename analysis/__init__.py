"""What can be found out about a run from a saved trace; never gradio."""
