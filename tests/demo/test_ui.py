"""The page as a whole, built but not opened in a browser."""

import subprocess
import sys
from pathlib import Path

import pytest

from demo.settings import Settings
from demo.ui import build, launch_arguments, upload_failed
from tests.demo.fakes import ready_workbench

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo():
    return build(ready_workbench())


def test_the_page_builds_without_a_model_and_without_torch():
    """Starting fast means that the heavy libraries are left to the loader's thread."""
    code = (
        "import sys; from demo.settings import Settings, prepare_environment; prepare_environment();"
        "from demo.ui import build; from demo.workbench import Workbench; build(Workbench(Settings()));"
        "heavy = {'torch', 'transformers', 'scipy', 'librosa', 'plotly', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_a_public_endpoint(demo):
    public = [fn.api_name for fn in demo.fns.values() if fn.api_visibility == "public"]
    assert public == []


def test_model_events_share_one_place_in_the_queue(demo):
    turns = [fn for fn in demo.fns.values() if fn.concurrency_id == "model"]
    assert turns and all(fn.concurrency_limit == 1 for fn in turns)


def test_every_control_has_a_name(demo):
    unnamed = []
    for part in demo.get_config_file()["components"]:
        props = part["props"]
        if part["type"] in ("button", "audio", "dropdown", "checkbox", "uploadbutton", "downloadbutton"):
            if not (props.get("label") or props.get("value")):
                unnamed.append(part["type"])
    assert not unnamed


def test_the_app_stays_local_and_private():
    arguments = launch_arguments(Settings())
    assert arguments["server_name"] == "127.0.0.1" and arguments["share"] is False
    assert arguments["run_history"] is False and arguments["show_error"] is False
    assert arguments["max_file_size"] == 400 * 2**20


def test_nothing_in_the_look_comes_from_elsewhere():
    look = launch_arguments(Settings())
    page = look["css"] + look["head"] + look["theme"]._get_theme_css()
    assert "http://" not in page.replace("http://www.w3.org/", "") and "https://" not in page and "@import" not in page
    assert not look["theme"]._stylesheets


@pytest.mark.parametrize("lang", ["en", "zh", "auto"])
def test_the_page_builds_in_every_language(lang):
    assert build(ready_workbench(settings=Settings(lang=lang))).fns


def test_an_upload_on_a_full_disk_says_so_and_leaves_nothing(tmp_path, monkeypatch):
    from starlette.requests import Request

    monkeypatch.setattr("demo.ui.get_upload_folder", lambda: str(tmp_path))
    (tmp_path / "tmpabc123").write_bytes(b"half an upload")
    (tmp_path / "hash").mkdir()
    (tmp_path / "hash" / "kept.wav").write_bytes(b"whole")
    request = Request({"type": "http", "headers": [(b"accept-language", b"zh-CN")]})
    answer = upload_failed("auto", request, OSError(28, "No space left on device"))
    assert answer.status_code == 507 and "磁盘已满" in answer.body.decode()
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["kept.wav"] and not (tmp_path / "tmpabc123").exists()
    answer = upload_failed("en", request, OSError(5, "Input/output error", "/secret"))
    assert answer.status_code == 500 and b"secret" not in answer.body
