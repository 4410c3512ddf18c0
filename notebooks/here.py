"""Make the project importable from a notebook in this folder, and matplotlib draw into it: `import here`.

The working folder becomes the project's, so that paths read as in the README.
"""

import os
import sys
import warnings
from pathlib import Path

from IPython import get_ipython

ROOT = Path(__file__).resolve().parents[1]
DPI = 110

os.chdir(ROOT)
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are drawn as text, which is enough
shell = get_ipython()
if shell is not None:
    shell.run_line_magic("matplotlib", "inline")
    shell.run_line_magic("config", f"InlineBackend.print_figure_kwargs = {{'bbox_inches': 'tight', 'dpi': {DPI}}}")
