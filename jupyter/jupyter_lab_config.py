"""How the course starts JupyterLab: on this machine only, quietly, calling nobody."""

import os
import sys
from pathlib import Path

c = get_config()  # noqa: F821  (Jupyter puts it there)

c.ServerApp.root_dir = str(Path(__file__).resolve().parents[1])
c.LabApp.default_url = "/lab/tree/notebooks/00_start_here.ipynb"
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.allow_root = hasattr(os, "geteuid") and os.geteuid() == 0
# Without a screen Python may find a text browser, which would take over the terminal.
c.ServerApp.open_browser = sys.platform != "linux" or bool(
    os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
)
c.Application.log_level = "WARN"

c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
