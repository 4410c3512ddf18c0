"""Take the README's pictures of the app: `python -m tests.ui.pictures [EXAMPLE [MODEL]]`; needs Chromium and nano.

EXAMPLE counts the example sounds from 0.

Writes docs/images/{asr,inspect}-{light,dark}.png.
"""

import shutil
import sys
from pathlib import Path

from demo.settings import Settings, prepare_environment

OUT = Path(__file__).parents[2] / "docs" / "images"
LARGEST_BYTES = 300_000
PATIENCE_MS = 240_000


def main(example: str = "0", model: str = "nano") -> None:
    """Serve a model, transcribe one example in both themes, and picture both tabs."""
    uploads = prepare_environment()
    from demo.ui import build, launch_arguments
    from demo.workbench import Workbench

    workbench = Workbench(Settings(model=model, lang="en"))
    demo = build(workbench).queue()
    try:
        _, url, _ = demo.launch(**launch_arguments(workbench.settings), quiet=True, prevent_thread_lock=True)
        workbench.start()
        OUT.mkdir(parents=True, exist_ok=True)
        for theme in ("light", "dark"):
            _picture(url, theme, int(example))
    finally:
        demo.close()
        shutil.rmtree(uploads, ignore_errors=True)


def _picture(url: str, theme: str, example: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": 1360, "height": 900}, color_scheme=theme, locale="en-US")
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.wait_for_selector(".strip[data-phase=ready]")
        page.locator(".examples button").nth(example).click()
        page.wait_for_selector("#asr-view .lv[data-layer]")
        _choose_longest_word(page, "#asr-view")
        _shoot(page, f"asr-{theme}.png")
        page.click("#open-inspect")
        page.wait_for_selector("#inspect-view .lv[data-layer]")
        _choose_longest_word(page, "#inspect-view")
        page.wait_for_selector("#token-details .token-big")
        _shoot(page, f"inspect-{theme}.png")
        chromium.close()


def _choose_longest_word(page, view: str) -> None:
    tokens = page.locator(f"{view} .lv-token")
    texts = tokens.all_inner_texts()
    tokens.nth(max(range(len(texts)), key=lambda i: len(texts[i]))).click()
    page.wait_for_selector(f"{view} .lv[data-ended]")  # the word has been played: no playhead in the picture


def _shoot(page, name: str) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)
    path = OUT / name
    page.screenshot(path=path, full_page=True)
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        sys.exit(f"{path} has {size} bytes, at most {LARGEST_BYTES} are wanted: use a shorter example.")
    print(f"{path} {size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:3])
