import pytest

from demo.settings import Settings, prepare_environment, read_settings


def test_defaults_are_local_and_nano():
    settings = read_settings([], {})
    assert settings == Settings()
    assert (settings.model, settings.host, settings.port) == ("nano", "127.0.0.1", None)


def test_a_flag_wins_over_its_variable_over_the_default():
    environ = {"STEP_AUDIO_MODEL": "from-env", "STEP_AUDIO_PORT": "8001", "STEP_AUDIO_MAX_AUDIO_S": "60"}
    settings = read_settings(["--model", "from-flag"], environ)
    assert (settings.model, settings.port, settings.max_audio_s, settings.device) == ("from-flag", 8001, 60.0, "auto")


def test_what_a_hosted_space_sets_is_read_unless_ours_is_there():
    space = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": "7860"}
    assert read_settings([], space).host == "0.0.0.0"
    assert read_settings([], {**space, "STEP_AUDIO_HOST": "127.0.0.1"}).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("argv", "environ", "says"),
    [
        (["--lang", "fr"], {}, "--lang 'fr' is unknown; use one of auto, en, zh"),
        (["--port", "70000"], {}, "70000 is not a port"),
        ([], {"STEP_AUDIO_PORT": "many"}, "STEP_AUDIO_PORT='many' is not a number"),
        ([], {"STEP_AUDIO_MAX_AUDIO_S": "0"}, "has to be above zero"),
        (["--share"], {}, "unrecognized arguments"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(argv, environ, says, capsys):
    with pytest.raises(SystemExit):
        read_settings(argv, environ)
    assert says in capsys.readouterr().err


def test_environment_keeps_gradio_quiet_and_uploads_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environ = {}
    folder = prepare_environment(environ)
    assert environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert environ["GRADIO_TEMP_DIR"] == str(folder) and folder.is_dir()
    assert prepare_environment({}) != folder


def test_a_full_disk_does_not_keep_the_page_from_opening(monkeypatch):
    def no_space(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", no_space)
    environ = {}
    assert str(prepare_environment(environ)) == environ["GRADIO_TEMP_DIR"]
