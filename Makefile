# Every target sets up what it needs. PYTHON is the interpreter that makes .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
RUNTIME := .venv/.runtime
PYCUDA := .venv/fake-cuda/site/pycuda
PIPELINE := runs/pipeline

.PHONY: help setup demo pipeline test test-oldest test-batch test-triton docs lint format bench test-arm gpu-report
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(READY) ## make .venv with everything that development needs

define MAKE_VENV
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	{ echo "error: Python 3.10 or newer is needed; run: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
$(PYTHON) -m venv .venv
endef

$(READY): pyproject.toml
	$(MAKE_VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(RUNTIME)

$(RUNTIME): pyproject.toml
	$(MAKE_VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

demo: $(RUNTIME) ## translate the drawings in samples/ with the bundled models, and show contact sheets
	@rm -rf runs/demo
	$(BIN)/pix2pix-edge demo --out runs/demo
	@echo 'The whole way, from pictures to an engine of your own: make pipeline'

pipeline: $(READY) ## the whole chain with no data: draw facades, train, export, translate, contact sheet
	@rm -rf $(PIPELINE)
	$(BIN)/python -m train.drawings --out $(PIPELINE)/data --pairs 200 --test-pairs 6
	$(BIN)/python -m train --data $(PIPELINE)/data --out $(PIPELINE)/run --filters 16 --recipe paper --epochs 8 --no-augment --l1-weight 500
	$(BIN)/python -m export convert $(PIPELINE)/run/generator.keras --out $(PIPELINE)/engines --name drawn --data $(PIPELINE)/data/test_label
	$(BIN)/python runtime/run.py --engine $(PIPELINE)/engines/drawn.fp32.onnx --source $(PIPELINE)/data/test_label --sink $(PIPELINE)/translated/ --loop 20
	@$(BIN)/python -m train.grid --columns label=$(PIPELINE)/data/test_label translated=$(PIPELINE)/translated \
		truth=$(PIPELINE)/data/test_picture --out $(PIPELINE)/sheet.png
	@echo
	@echo 'Look at $(PIPELINE)/sheet.png: label, translated, truth. The same with your own pairs:'
	@echo '  $(BIN)/python -m train --data DIR --out runs/mine'
	@echo '  $(BIN)/python -m export convert runs/mine/generator.keras --out engines --name mine --data DIR'
	@echo '  $(BIN)/python runtime/run.py --engine engines/mine.fp32.onnx --source photos/ --sink out/ --view side-by-side'

test: $(READY) $(PYCUDA) ## run the tests that need no GPU
	$(BIN)/python -m pytest -n auto --dist worksteal

# Real pycuda and cuda-bindings for the tests, compiled once; without a compiler or an index those tests are skipped.
$(PYCUDA): tests/fake_cuda/install.sh | $(READY)
	@tests/fake_cuda/install.sh $(BIN)/python || echo 'pycuda could not be made: the tests over it will be skipped'

test-oldest: ## run the tests with the lowest versions that pyproject.toml allows, in .venv-oldest
	@test -x .venv-oldest/bin/python || { $(PYTHON) -m venv .venv-oldest && .venv-oldest/bin/pip install --quiet uv; }
	.venv-oldest/bin/uv pip install --quiet --upgrade --python .venv-oldest/bin/python --resolution lowest-direct --editable '.[dev]'
	.venv-oldest/bin/python -m pytest

test-batch: ## run the tests of `pix2pix-edge batch` on a real Ray, in .venv-batch
	@test -x .venv-batch/bin/python || $(PYTHON) -m venv .venv-batch
	.venv-batch/bin/python -m pip install --quiet --editable '.[batch]' 'pytest<10' 'hypothesis<7' onnx
	.venv-batch/bin/python -m pytest -m 'slow or not slow' tests/runtime/batch

test-triton: $(READY) ## serve a repository with a real tritonserver, made in .venv-triton, and stream through it
	@test -x .venv-triton/bin/python || $(PYTHON) -m venv .venv-triton
	.venv-triton/bin/python -m pip install --quiet --disable-pip-version-check nvidia-pytriton==0.7.0 onnxruntime 'numpy<2'
	TRITON_ENV=.venv-triton $(BIN)/python -m pytest -m triton tests/triton

docs: $(READY) ## build the site from docs/ with the reference from the docstrings: runs/site
	@$(BIN)/python -c 'import mkdocstrings, material' 2>/dev/null || $(BIN)/python -m pip install --quiet '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'Look at runs/site/architecture.html'

lint: $(READY) ## check style, types, walls and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.14
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

test-arm: $(READY) ## run the bundled model and the runtime's tests on an emulated 64-bit ARM processor, as on JetPack 6
	tests/arm.sh $(BIN)/python runs/arm

# An environment that is here stays as it is, for on a Jetson it sees the system's packages; see docs/jetson.md.
gpu-report: ## on a machine with a GPU: run and measure everything, and pack it into one file to send
	@test -x $(BIN)/python || $(MAKE) setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pytest>=8,<10' 'hypothesis>=6.100,<7' \
		'onnx>=1.17,<2' 'matplotlib>=3.8,<4' nvidia-ml-py
	$(BIN)/python -m tests.gpu.report --out runs/gpu-report

format: $(READY) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## measure the pipeline's engines on this machine: runs/report
	@test -e $(PIPELINE)/engines/drawn.fp32.onnx || $(MAKE) pipeline
	$(BIN)/python -m benchmarks run --engine $(PIPELINE)/engines/drawn.fp32.onnx $(PIPELINE)/engines/drawn.fp16.onnx \
		--data $(PIPELINE)/data/test_label --out runs/report --force
