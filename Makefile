# `make lab` opens the course, `make test` tests it. Both set up what they need the first time.

BIN := .venv/bin
SET_UP := pyproject.toml constraints.txt

.PHONY: help lab test check format solved clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

lab: .venv/.lab ## Open the course in JupyterLab
	@JUPYTER_CONFIG_PATH=jupyter $(BIN)/jupyter lab

test: check ## Run all tests: style, types, units, every notebook, the browser
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/.test ## Check format, lint and types
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy

format: .venv/.test ## Format all code
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

solved: .venv/.lab ## Write the solved notebooks to build/solved
	@$(BIN)/python tools/solve.py build/solved

clean: ## Remove the set-up and everything built; what you wrote in my_parts stays
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.lab: $(SET_UP)
	@echo "Setting up the course in .venv. This happens once and takes a few minutes."
	@python=$$(sh tools/find_python.sh) && $$python -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

.venv/.test: .venv/.lab
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	@touch $@
