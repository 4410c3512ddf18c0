"""What is to be installed, and what does without."""

import subprocess
import sys

from packaging.requirements import Requirement

from tests.file_map import ROOT

LINES = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()]
REQUIREMENTS = {each.name: each for each in map(Requirement, filter(None, LINES))}
WITHOUT_DDGS = """
import sys
sys.modules["ddgs"] = None                 # importing it fails, as where it is not installed
from model.tools.standard import WEB, standard_toolbox
from model.tools.base import ToolContext
(search,) = standard_toolbox(use=[WEB]).tools.values()
result = search.run({"query": "capital of Japan"}, ToolContext())
assert "offline" in result.source, result
"""
IMPORTED_LATE = """
import sys
import model.tools.standard
assert "ddgs" not in sys.modules
"""


def test_tools_of_the_assistant_find_their_packages():
    assert "9.1" in REQUIREMENTS["ddgs"].specifier and "8.9" not in REQUIREMENTS["ddgs"].specifier
    marker = REQUIREMENTS["tzdata"].marker
    assert marker.evaluate({"sys_platform": "win32"}) and not marker.evaluate({"sys_platform": "linux"})


def test_the_search_says_so_when_its_package_is_missing():
    subprocess.run([sys.executable, "-c", WITHOUT_DDGS], cwd=ROOT, check=True, timeout=300)


def test_the_package_is_imported_when_a_search_is_made():
    subprocess.run([sys.executable, "-c", IMPORTED_LATE], cwd=ROOT, check=True, timeout=300)
