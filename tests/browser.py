"""A headless Chromium for tests of pages."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def needed(found: object, what: str) -> None:
    """Skip a test that lacks what a developer's machine may lack; in CI that is a failure."""
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI has no {what}; .ci/run installs it")
    pytest.skip(f"needs {what}")


def without_priority() -> None:
    """Run by a process that becomes the browser's driver: it and all it starts stay behind the tests.

    As root, Chromium puts its own threads before everything else; two of them that spin can hold a machine of two
    cores until they are killed, and the time limits of the tests with it.
    """
    os.nice(5)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(24, 23, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_SYS_NICE: root's right to raise a priority


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser with its logs of messages and of what it asks for."""
    binary = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
    )
    driver = shutil.which("chromedriver")
    needed(binary and driver, "chromium and chromedriver on PATH")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(driver, popen_kw={"preexec_fn": without_priority})
    opened = webdriver.Chrome(options=options, service=service)
    opened.set_script_timeout(60)
    try:
        yield opened
    finally:
        opened.quit()


def wait(condition: Callable[[], Any], *, seconds: float = 30) -> Any:
    """What ``condition`` gives, as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


@contextmanager
def phone(browser: Any) -> Iterator[None]:
    """The width of a phone for a while."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
