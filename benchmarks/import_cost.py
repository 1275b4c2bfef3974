"""What `import course_utils` costs over `import torch`: processor seconds, median of several runs.

python benchmarks/import_cost.py
"""

import statistics
import subprocess
import sys
import tempfile

RUNS = 9
PROGRAM = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"


def seconds(modules: str, home: str) -> float:
    """Processor time of importing `modules` in a fresh Python with no saved parts."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(modules)],
        env={"COURSE_UTILS_HOME": home},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure both in turn and print the medians."""
    with tempfile.TemporaryDirectory() as home:
        pairs = [
            (seconds("torch", home), seconds("torch, course_utils", home)) for _ in range(RUNS)
        ]
    torch, both = (statistics.median(column) for column in zip(*pairs, strict=True))
    print("| import | processor seconds | ratio |")
    print("| --- | --- | --- |")
    print(f"| torch | {torch:.2f} | 1.00 |")
    print(f"| torch and course_utils | {both:.2f} | {both / torch:.2f} |")


if __name__ == "__main__":
    main()
