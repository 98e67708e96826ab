PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -P -m pytest --import-mode=importlib

.PHONY: help demo setup test lint types unit wheel results clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: $(VENV)/.demo ## Digits from training to three families of targets, with a report
	$(BIN)/edgekit demo --output build/demo

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[demo]'
	@touch $@

setup: $(VENV)/.ready ## Create .venv with everything that tests need

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.demo

test: lint types unit ## Everything that must hold; ends with what could not run

lint: setup ## Style, layers, names
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -P tests/check_layers.py

types: setup ## Static types of the installed packages
	$(BIN)/python -P tests/check_types.py

unit: setup ## Tests and docstring examples
	$(PYTEST) -n 2 -q tests

wheel: setup ## Build the wheel and test it from another folder, without torch
	$(BIN)/python -P tests/check_wheel.py

results: setup ## Measure again and render the README's tables (five hours; needs the data; IMAGES=… for cycles)
	$(BIN)/python benchmarks/reference_models.py
	$(BIN)/python benchmarks/boards.py
	$(if $(IMAGES),$(BIN)/python benchmarks/cycles.py --images $(IMAGES))
	$(BIN)/python benchmarks/host_latency.py
	$(BIN)/python benchmarks/har_wisdm.py
	$(BIN)/python benchmarks/quantize_study.py
	$(BIN)/python benchmarks/coded_formats.py
	$(BIN)/python benchmarks/quantizers.py
	$(BIN)/python benchmarks/spiking_kernels.py
	$(BIN)/python benchmarks/har_study.py
	$(BIN)/python benchmarks/spiking_exactness.py
	$(BIN)/python -P benchmarks/render_readme.py

clean: ## Remove what was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
