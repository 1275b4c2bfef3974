"""JupyterLab in Chromium, driven through Playwright.

    with Lab(folder) as lab, lab.browser() as ui:
        ui.open("notebooks/01_projection.ipynb")
        ui.run_all()
        ui.type_in_cell(2, "x = 1")
        print(ui.outputs(2))

The server starts with the configuration of `make lab` and listens on 127.0.0.1.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Route, expect, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[2]
WATCH = Path(__file__).parent / "watch"
# Waits end on a state. The limit ends what hangs, and no machine is so busy that it gets there.
PATIENCE = 180.0  # seconds
CHROMIUM_OPTIONS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-sandbox",
]


def find_chromium() -> str | None:
    """Path of Chromium or Chrome: $CHROMIUM, else the first one on the path. None without one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Lab:
    """A JupyterLab server of its own, with `root` as its top folder and a fresh user's settings.

    `environment` is added to the environment of the server and its kernels.
    """

    def __init__(self, root: Path, environment: Mapping[str, str] | None = None):
        self.root = Path(root)
        self.environment = dict(environment or {})
        self.token = secrets.token_hex(16)
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="lab-"))
        self.log = self.folder / "lab.log"
        self.watch_log = self.folder / "watch.log"

    def __enter__(self) -> "Lab":
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self._command(), env=self._environment(), stdout=log, stderr=log, cwd=self.root
            )
        # Without this, a test run that is stopped by SIGTERM leaves the server and its kernels.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self._wait_for_server()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)  # it has kernels to end
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def browser(self, width: int = 1400, height: int = 1000) -> Iterator["UI"]:
        """A browser window with an empty profile."""
        with sync_playwright() as playwright:
            context = playwright.chromium.launch_persistent_context(
                str(self.folder / f"chromium-{secrets.token_hex(3)}"),
                executable_path=find_chromium(),
                args=CHROMIUM_OPTIONS,
                timeout=PATIENCE * 1000,
                viewport={"width": width, "height": height},
            )
            try:
                yield UI(self, context)
            finally:
                context.close()

    def reached(self) -> list[str]:
        """Hosts outside this machine that the server or a kernel looked up or connected to."""
        return self.watch_log.read_text().splitlines() if self.watch_log.exists() else []

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "jupyterlab", "--no-browser"),
            f"--ServerApp.root_dir={self.root}",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            "--LabApp.expose_app_in_browser=True",
        ]

    def _environment(self) -> dict[str, str]:
        private = {
            name: str(self.folder / name.lower())
            for name in (
                "JUPYTER_CONFIG_DIR",
                "JUPYTER_DATA_DIR",
                "JUPYTER_RUNTIME_DIR",
                "JUPYTERLAB_SETTINGS_DIR",
                "JUPYTERLAB_WORKSPACES_DIR",
                "IPYTHONDIR",
            )
        }
        ours = {
            "JUPYTER_CONFIG_PATH": str(REPOSITORY / "jupyter"),
            "PYTHONPATH": os.pathsep.join([str(WATCH), str(REPOSITORY)]),
            "WATCH_LOG": str(self.watch_log),
        }
        return {**os.environ, **private, **ours, **self.environment}

    def _wait_for_server(self) -> None:
        end = time.monotonic() + PATIENCE
        url = f"http://127.0.0.1:{self.port}/api/status?token={self.token}"
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(url, timeout=10).close()
                return
            except OSError:
                time.sleep(0.1)
        log = self.log.read_text()
        self.__exit__()
        raise RuntimeError(f"JupyterLab did not start:\n{log}")


class UI:
    """One browser window. `off_host` lists every request to another machine; each is refused."""

    def __init__(self, lab: Lab, context: BrowserContext):
        self.lab = lab
        self.off_host: list[str] = []
        self.errors: list[str] = []
        self.page = context.pages[0]
        self.page.set_default_timeout(PATIENCE * 1000)
        expect.set_options(timeout=PATIENCE * 1000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        context.route(self._leaves_the_machine, self._refuse)

    # --- Notebooks -------------------------------------------------------------------------------

    def open(self, name: str) -> None:
        """Open a notebook, by its path in the lab's root, and wait for its kernel."""
        address = f"http://127.0.0.1:{self.lab.port}/lab/tree/{name}"
        self.page.goto(f"{address}?reset&token={self.lab.token}")
        self.notebook = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        self.notebook.locator(".jp-Cell").first.wait_for()
        self.wait_for_kernel()
        self.name = name

    def save(self) -> None:
        """Save the open notebook."""
        self.js("await notebook.context.save()")

    def reopen(self) -> None:
        """Save the notebook, load the page again and open what was saved."""
        self.save()
        self.open(self.name)

    def restart_kernel(self) -> None:
        """Restart the kernel. Outputs stay, all that was computed is gone."""
        self.js("await notebook.sessionContext.session.kernel.restart()")
        self.wait_for_kernel()

    # --- Cells -----------------------------------------------------------------------------------

    def run_all(self, seconds: float = PATIENCE) -> None:
        """Run every cell and wait until the kernel is idle again."""
        self.command("notebook:run-all-cells", seconds=seconds)
        self.wait_until_done(seconds)

    def cell(self, index: int) -> Locator:
        """A cell, scrolled into view: cells far from the window are not on the page."""
        self.js("await notebook.content.scrollToItem(argument)", index)
        return self.notebook.locator(f'.jp-Cell[data-windowed-list-index="{index}"]')

    def type_in_cell(
        self,
        index: int,
        code: str,
        *,
        run: bool = True,
        keys: bool = False,
        seconds: float = PATIENCE,
    ) -> None:
        """Replace a cell's source by `code` and run it.

        With `keys`, every key is pressed, so that JupyterLab's own brackets and indents take part.
        """
        self.cell(index).locator(".cm-content").click()
        keyboard = self.page.keyboard
        keyboard.press("ControlOrMeta+A")
        keyboard.press("Delete")
        if keys:
            keyboard.type(code, delay=10)
        else:
            keyboard.insert_text(code)
        if run:
            keyboard.press("Shift+Enter")
            self.wait_until_done(seconds)

    def outputs(self, index: int) -> list[str]:
        """Text of each output of a cell, as it is shown."""
        return self.cell(index).locator(".jp-OutputArea-output").all_inner_texts()

    def cells(self) -> list[dict[str, Any]]:
        """All cells as in the saved file, those out of view too."""
        return self.js("return [...notebook.content.model.cells].map(cell => cell.toJSON())")

    def source(self, index: int) -> str:
        """Source of a cell."""
        source = self.cells()[index]["source"]
        return source if isinstance(source, str) else "".join(source)

    # --- JupyterLab ------------------------------------------------------------------------------

    def command(self, name: str, argument: Any = None, seconds: float = PATIENCE) -> None:
        """Run one of JupyterLab's commands."""
        self.js("await app.commands.execute(...argument)", [name, argument or {}], seconds)

    def theme(self, name: str) -> None:
        """Change to "JupyterLab Light", "JupyterLab Dark" or "JupyterLab Dark High Contrast"."""
        self.command("apputils:change-theme", {"theme": name})
        self.page.locator(f'body[data-jp-theme-name="{name}"]').wait_for(state="attached")

    def shot(self, path: Path, index: int | None = None) -> None:
        """Picture of the window, or of one cell."""
        (self.page if index is None else self.cell(index)).screenshot(path=path)

    def js(self, body: str, argument: Any = None, seconds: float = PATIENCE) -> Any:
        """Await the body of an async function (app, notebook, argument) and return its result."""
        return self.page.evaluate(
            """([body, argument, seconds]) => {
                const app = window.jupyterapp;
                const Async = (async () => {}).constructor;
                const giveUp = reject => () => reject(new Error(`no answer in ${seconds} s`));
                const late = new Promise((_, reject) => setTimeout(giveUp(reject), seconds * 1000));
                const call = new Async("app", "notebook", "argument", body);
                return Promise.race([call(app, app.shell.currentWidget, argument), late]);
            }""",
            [body, argument, seconds],
        )

    # --- Waiting ---------------------------------------------------------------------------------

    def wait_for_kernel(self, seconds: float = PATIENCE) -> None:
        """Wait until the kernel answers. The toolbar says "idle" before the kernel is connected."""
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext", timeout=seconds * 1000
        )
        self.js(
            """await notebook.context.ready;
            await notebook.sessionContext.ready;
            for (;;) {
                const kernel = notebook.sessionContext.session?.kernel;
                if (kernel?.connectionStatus === "connected" && kernel.status === "idle") {
                    await kernel.info;
                    return;
                }
                await new Promise(resolve => setTimeout(resolve, 50));
            }""",
            seconds=seconds,
        )

    def wait_until_done(self, seconds: float = PATIENCE) -> None:
        """Wait until no cell is running or waiting, and the kernel has been idle for a moment."""
        self.js(
            """for (let calm = 0; calm < 6; calm++) {
                const idle = notebook.sessionContext.session?.kernel?.status === "idle";
                const running = [...notebook.content.widgets].some(
                    cell => cell.model.type === "code" && cell.model.executionState === "running");
                if (!idle || running) calm = -1;
                await new Promise(resolve => setTimeout(resolve, 30));
            }""",
            seconds=seconds,
        )

    # --- The network -----------------------------------------------------------------------------

    def _leaves_the_machine(self, url: str) -> bool:
        here = f"//127.0.0.1:{self.lab.port}/"
        return here not in url and not url.startswith(("data:", "blob:", "file:"))

    def _refuse(self, route: Route) -> None:
        self.off_host.append(route.request.url)
        route.abort()
