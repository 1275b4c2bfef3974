#!/bin/sh
# Print the first Python that can make the virtual environment, or say what is missing.
for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
    if "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
    then
        echo "$python"
        exit 0
    fi
done
cat >&2 <<'END'

The course needs Python 3.11 or newer, with its venv module, and none was found.
  Debian, Ubuntu: sudo apt install python3 python3-venv
  macOS:          install Python from python.org or with Homebrew
  elsewhere:      make lab PYTHON=/path/to/a/newer/python

END
exit 1
