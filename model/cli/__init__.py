"""The commands of `python -m model`, one short file each; printing is left to `model/__main__.py`."""
