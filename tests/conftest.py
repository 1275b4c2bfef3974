"""Every test run has a learner's folder of its own: what you wrote in `my_parts` takes no part."""

import os
import shutil
import tempfile

HOME = tempfile.mkdtemp(prefix="course-utils-")

# Set before any test imports course_utils, which reads them.
os.environ["COURSE_UTILS_HOME"] = HOME
os.environ["OMP_NUM_THREADS"] = "1"  # test processes run side by side
for name in ("COURSE_UTILS_PARTS", "COURSE_UTILS_STRICT"):
    os.environ.pop(name, None)


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(HOME, ignore_errors=True)
