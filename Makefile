# Two commands: `make demo` shows what ptyonnx does, `make test` proves it. `make clean` undoes both.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
EXTRAS := cpu,torch,tensorflow-cpu,compare

# Whether `make test` may leave out the tests that need Chromium where there is none: optional or required.
BROWSER ?= $(if $(filter true,$(CI)),required,optional)

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test test-processors lint install clean

demo: $(VENV)/.installed
	$(BIN)/python examples/siemens_star.py

test: $(VENV)/.tested lint
	selected="$$(sh tests/browser.sh $(BROWSER))" && \
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "$$selected"
	$(MAKE) test-processors

# The tests of numbers again, as other processors compute: tests/another_processor.py.
test-processors: $(VENV)/.tested
	$(BIN)/python tests/another_processor.py narrow --numprocesses 2 --dist loadfile -q -m numerical
	$(BIN)/python tests/another_processor.py wide --numprocesses 2 --dist loadfile -q -m numerical

lint: $(VENV)/.tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing ptyonnx with PyTorch and TensorFlow (CPU builds) into $(VENV): one to three minutes"
	$(INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(INSTALL) --group dev
	@touch $@

clean:
	rm -rf $(VENV) demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . \( -name __pycache__ -o -name .ruff_cache -o -name '*.egg-info' \) -type d -prune -exec rm -rf {} +
