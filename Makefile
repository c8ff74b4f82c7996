.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
KODAK ?= ../shared/data/kodak
PHOTOS ?= ../shared/data/photos/train
VALIDATION ?= ../shared/data/validation
RUN ?= runs/photo

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

setup: $(BIN)/python ## install codec with everything that tests, training and evaluation need
	$(BIN)/python -m pip install --quiet -e '.[dev,eval,train]'

demo: $(BIN)/python ## install the base and compress and decompress a real photograph
	$(BIN)/python -m pip install --quiet -e '.[demo]'
	$(BIN)/python scripts/demo.py demo

test: setup ## default tests, under ten minutes
	$(BIN)/python -m pytest -n auto -m 'not slow'

test-slow: setup ## tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## speed and memory figures
	$(BIN)/python scripts/bench.py

kodak: setup ## the README's rate-distortion figures; KODAK=DIR names the 24 images
	$(BIN)/codec eval $(KODAK) --against jpeg,webp,jpeg444 --json docs/kodak.json --force

figures: setup ## the README's pictures, from docs/kodak.json
	$(BIN)/python scripts/figures.py

train-photo: setup ## train the photo model (hours); continue with RUN=... and --resume
	$(BIN)/codec train $(RUN) --config photo --data $(PHOTOS) --validation $(VALIDATION) $(if $(wildcard $(RUN)/checkpoint.npz),--resume,)

wheel: $(BIN)/python ## build the wheel, install it into an empty environment, compress with it
	rm -rf dist build/wheel-env
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --wheel --outdir dist
	$(PYTHON) -m venv build/wheel-env
	build/wheel-env/bin/pip install --quiet dist/*.whl
	$(BIN)/python -m pip install --quiet scikit-image
	$(BIN)/python -c "from skimage import data; from PIL import Image; Image.fromarray(data.astronaut()).save('build/astronaut.png')"
	cd build && wheel-env/bin/python ../scripts/demo.py wheel-demo --photo astronaut.png
	build/wheel-env/bin/codec models

clean: ## remove caches and builds; keeps runs and environments
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

.PHONY: help setup demo test test-slow lint bench kodak figures train-photo wheel clean
