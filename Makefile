# Every target sets up what it needs. PYTHON is the interpreter that makes .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := runs/demo

.PHONY: help setup demo test lint format bench
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(READY) ## make .venv with everything that development needs

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: Python 3.10 or newer is needed; run: make setup PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY) ## draw facades, train, export, translate, and show a contact sheet; no data needed
	@rm -rf $(DEMO)
	$(BIN)/python -m train.drawings --out $(DEMO)/data --pairs 200 --test-pairs 6
	$(BIN)/python -m train --data $(DEMO)/data --out $(DEMO)/run --filters 16 --epochs 8 --no-augment --l1-weight 500
	$(BIN)/python -m export convert $(DEMO)/run/generator.keras --out $(DEMO)/engines --name facades --data $(DEMO)/data/test_label
	$(BIN)/python runtime/run.py --engine $(DEMO)/engines/facades.fp32.onnx --source $(DEMO)/data/test_label --sink $(DEMO)/translated/ --loop 20
	@$(BIN)/python -m train.grid --columns label=$(DEMO)/data/test_label translated=$(DEMO)/translated \
		truth=$(DEMO)/data/test_picture --out $(DEMO)/sheet.png
	@echo
	@echo 'Look at $(DEMO)/sheet.png: label, translated, truth. The same with your own pairs:'
	@echo '  $(BIN)/python -m train --data DIR --out runs/mine'
	@echo '  $(BIN)/python -m export convert runs/mine/generator.keras --out engines --name mine --data DIR'
	@echo '  $(BIN)/python runtime/run.py --engine engines/mine.fp32.onnx --source photos/ --sink out/ --view side-by-side'

test: $(READY) ## run the tests that need no GPU
	$(BIN)/python -m pytest

lint: $(READY) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## measure the demo's engines on this machine: runs/report
	@test -e $(DEMO)/engines/facades.fp32.onnx || $(MAKE) demo
	$(BIN)/python -m benchmarks run --engine $(DEMO)/engines/facades.fp32.onnx $(DEMO)/engines/facades.fp16.onnx \
		--data $(DEMO)/data/test_label --out runs/report --force
