"""Somebody who looks at a session's page: headless Chromium, and what it costs."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["chromium_path", "viewer"]


def chromium_path() -> str | None:
    """Return a Chromium of this machine, and None where there is none or no Playwright."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return None
    return shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def viewer(url: str) -> Iterator[Any]:
    """Open a page in a browser of its own; yields it once frames are shown."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        try:
            yield page
        finally:
            browser.close()
