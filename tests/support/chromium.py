"""Chromium without a window, driven over the WebDriver protocol by Debian's chromedriver."""

import base64
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from archiver.local.ports import HOST, choose_free

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""Key of an element's id in the protocol."""
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # as root, Chromium has no sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_START_WITHIN_S = 120


@dataclass(frozen=True)
class Browser:
    """One window."""

    driver: httpx.Client

    def _call(self, method: str, path: str, body: object = None) -> Any:
        answer = self.driver.request(method, path, json=body if method == "POST" else None)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()["value"]

    def open(self, url: str) -> None:
        """Go there and wait until it is loaded."""
        self._call("POST", "url", {"url": url})

    def url(self) -> str:
        """Where we are."""
        return str(self._call("GET", "url"))

    def _find(self, selector: str) -> str:
        found = self._call("POST", "element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def type(self, selector: str, text: str) -> None:
        """Type into an input."""
        self._call("POST", f"element/{self._find(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Click on something."""
        self._call("POST", f"element/{self._find(selector)}/click", {})

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.script("return document.body.innerText"))

    def script(self, source: str) -> Any:
        """What a script gives."""
        return self._call("POST", "execute/sync", {"script": source, "args": []})

    def resize(self, width: int, height: int) -> None:
        """Make the page that large, pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """Be a browser of somebody who likes pages `light` or `dark`."""
        self.devtools("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def devtools(self, command: str, parameters: object) -> Any:
        """A command of Chromium's own protocol."""
        return self._call("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    def problems(self) -> list[str]:
        """What the console says of errors and refused content."""
        entries = self._call("POST", "se/log", {"type": "browser"})
        return [str(entry["message"]) for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Keep a picture of the page."""
        shot = self.devtools("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        file.write_bytes(base64.b64decode(shot["data"]))

    def wait_for(self, condition: Callable[[], bool], within_s: float = 60) -> None:
        """Return when `condition` holds."""
        deadline = time.monotonic() + within_s
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, self.text()
            pause.wait(0.1)


@contextmanager
def run_browser(folder: Path) -> Iterator[Browser]:
    """A window of a browser with a new profile in `folder`."""
    (port,) = choose_free(["chromedriver"], {}).values()
    with (folder / "chromedriver.log").open("wb") as log:
        process = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{HOST}:{port}/", timeout=120, trust_env=False) as client:
            _wait_until_ready(client)
            options = {"args": [*_ARGUMENTS, f"--user-data-dir={folder / 'profile'}"], "binary": "/usr/bin/chromium"}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            answer = client.post("session", json={"capabilities": {"alwaysMatch": wanted}})
            assert answer.status_code == httpx.codes.OK, answer.text
            session = answer.json()["value"]["sessionId"]
            with httpx.Client(
                base_url=f"http://{HOST}:{port}/session/{session}/", timeout=120, trust_env=False
            ) as driver:
                try:
                    yield Browser(driver)
                finally:
                    # Without a slash at its end, or the driver does not know it and the browser goes on.
                    ended = client.delete(f"session/{session}")
            assert ended.status_code == httpx.codes.OK, ended.text
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + _START_WITHIN_S
    pause = threading.Event()
    while True:
        try:
            if client.get("status").json()["value"]["ready"]:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        pause.wait(0.1)
