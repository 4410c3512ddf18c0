"""Start the app: flags -> settings -> workbench -> page. See `python app.py --help`."""

import logging
import shutil
import sys

from demo.settings import prepare_environment, read_settings


def main() -> None:
    """Serve the page; the model loads in the background meanwhile."""
    settings = read_settings()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uploads = prepare_environment()
    # Only now: gradio reads its switches when it is imported.
    from demo.ui import QUEUE_LENGTH, build, launch_arguments
    from demo.workbench import Workbench

    workbench = Workbench(settings)
    demo = build(workbench).queue(max_size=QUEUE_LENGTH)
    try:
        _, url, _ = demo.launch(**launch_arguments(settings), quiet=True, prevent_thread_lock=True)
        print(f"Step-Audio 2 is at {url} (Ctrl-C ends it); {settings.model} is loading.", flush=True)
        workbench.start()
        demo.block_thread()
    except OSError as error:
        sys.exit(f"The page could not be served at {settings.host}:{settings.port or '7860 and up'}: {error}")
    finally:
        shutil.rmtree(uploads, ignore_errors=True)


if __name__ == "__main__":
    main()
