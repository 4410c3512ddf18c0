"""What the assistant can do besides talking: the clock, the weather, a search, another voice.

Start at `standard.py` (the four of them), then `toolbox.py` (how calls are run) and `base.py` (what a tool is).
"""
