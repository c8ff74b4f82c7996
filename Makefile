.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The versions that were tested, for what is installed here and for what builds it.
PIP := PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --constraint constraints.txt
# Advisories that are known not to matter, one a line, with the reason.
IGNORED ?= audit-ignored.txt
KODAK ?= ../shared/data/kodak
PHOTOS ?= ../shared/data/photos/train
VALIDATION ?= ../shared/data/validation
RUN ?= runs/photo
MNIST ?= ../shared/data/mnist
EMNIST ?= ../shared/data/emnist/emnist_bymerge_subset.npz
SECONDS ?= 60
BASELINES := tests/data/baselines
GATE := $(foreach i,04 13 23,$(KODAK)/kodim$(i).png)

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip

setup: $(BIN)/python ## install codec with everything that tests, training and evaluation need
	$(PIP) -e '.[dev,eval,large,train]'

demo: $(BIN)/python ## install the base and compress and decompress a real photograph
	$(PIP) -e '.[demo]'
	$(BIN)/python scripts/demo.py demo

browser: ## install Chromium (Debian, as root), which the tests of the HTML report need; without it they skip
	@command -v chromium || command -v chromium-browser || command -v google-chrome \
		|| { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; }

TOOLS := imagemagick libjxl-tools libavif-bin libimage-exiftool-perl libtiff-tools netpbm libjpeg-turbo-progs webp \
	libheif-examples pngcrush apngasm libgs-common

tools: ## install the programs (Debian, as root) that make the files of docs/INPUTS.md; without them tests skip
	@command -v cjxl >/dev/null && command -v apngasm >/dev/null && command -v exiftool >/dev/null \
		|| { apt-get update -q && apt-get install -y -q --no-install-recommends $(TOOLS); }

test: setup ## default tests, under ten minutes
	$(BIN)/python -m pytest -n auto -m 'not slow'

test-slow: setup ## tests that take minutes
	$(BIN)/python -m pytest -m slow

fuzz: setup ## fuzz for SECONDS=N (60): files and archives, and model folders for a fifth of that
	$(PIP) -e '.[fuzz]'
	$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)
	$(BIN)/python tests/fuzz/run.py --target models --seconds $$(( $(SECONDS) / 5 ))

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## speed and memory figures
	$(BIN)/python scripts/bench.py

kodak: setup ## the README's rate-distortion figures; KODAK=DIR names the 24 images
	$(BIN)/codec eval $(KODAK) --against jpeg,jpeg444,webp,avif,jxl,heic --json docs/kodak.json --force

report: setup ## an HTML report on the Kodak images in build/report
	mkdir -p build
	$(BIN)/codec eval $(KODAK) --against jpeg,webp,avif,jxl,heic --published bpg,vtm,factorized --jobs 0 \
		--report build/report --force

gate: setup ## fail when the Kodak images come out larger or worse than the stored baseline
	$(BIN)/codec eval $(KODAK) --baseline $(BASELINES)/kodak.json --no-cache --jobs 0

gate-quick: setup ## the same with three of the images
	$(BIN)/codec eval $(GATE) --baseline $(BASELINES)/kodak-3.json --no-cache --jobs 0

baseline: setup ## store new baselines; say in the commit why they changed
	$(BIN)/codec eval $(KODAK) --write-baseline $(BASELINES)/kodak.json --no-cache --jobs 0 --force
	$(BIN)/codec eval $(GATE) --write-baseline $(BASELINES)/kodak-3.json --no-cache --jobs 0 --force

figures: setup ## the README's pictures, from docs/kodak.json
	$(BIN)/python scripts/figures.py

study: setup ## train and measure the studies of docs/STUDIES.md again (hours); MNIST=DIR, EMNIST=FILE.npz
	$(BIN)/codec study mnist runs/study-mnist --data $(MNIST)
	$(BIN)/codec study latents runs/study-latents --data $(MNIST) --seeds 2
	$(BIN)/codec study decoders runs/study-decoders --data $(EMNIST)
	$(BIN)/codec train runs/digits --config digits-adversarial --data $(MNIST) $(if $(wildcard runs/digits/checkpoint.npz),--resume,)
	$(BIN)/codec train runs/plain --config digits-adversarial --set adversarial=null --data $(MNIST) $(if $(wildcard runs/plain/checkpoint.npz),--resume,)
	rm -rf build/networks
	$(BIN)/codec export runs/digits build/networks/digits --format savedmodel --format keras --format tflite
	$(BIN)/codec export runs/plain build/networks/plain --format savedmodel

train-photo: setup ## train the photo model (hours); continue with RUN=... and --resume
	$(BIN)/codec train $(RUN) --config photo --data $(PHOTOS) --validation $(VALIDATION) $(if $(wildcard $(RUN)/checkpoint.npz),--resume,)

wheel: $(BIN)/python ## build the wheel, install it into an empty environment, compress with it
	rm -rf dist build/wheel-env
	$(PIP) build hatchling scikit-image
	$(BIN)/python -m build --no-isolation --wheel --outdir dist
	$(PYTHON) -m venv build/wheel-env
	build/wheel-env/bin/pip install --quiet dist/*.whl
	$(BIN)/python -c "from skimage import data; from PIL import Image; Image.fromarray(data.astronaut()).save('build/astronaut.png')"
	cd build && wheel-env/bin/python ../scripts/demo.py wheel-demo --photo astronaut.png
	build/wheel-env/bin/codec models

reproducible: $(BIN)/python ## build sdist and wheel twice, compare them byte for byte, compress with the sdist
	rm -rf build/release build/sdist-env
	$(PIP) build hatchling
	scripts/reproducible.sh $(BIN)/python build/release
	$(PYTHON) -m venv build/sdist-env
	build/sdist-env/bin/python -m pip install --quiet --constraint constraints.txt build/release/*.tar.gz scikit-image
	cd build && sdist-env/bin/python ../scripts/demo.py sdist-demo

constraints: $(BIN)/python ## write constraints.txt; UPGRADE=1 takes the newest versions
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --no-annotate \
		--custom-compile-command 'make constraints' $(if $(UPGRADE),--upgrade) pyproject.toml --output-file constraints.txt

audit: $(BIN)/python ## look up constraints.txt in the database of advisories; fails on what IGNORED does not list
	$(PIP) pip-audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt \
		$$(sed -n 's/^\([A-Z][A-Za-z0-9-]*\).*/--ignore-vuln \1/p' $(IGNORED))

clean: ## remove caches and builds; keeps runs and environments
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

.PHONY: help setup demo browser tools test test-slow fuzz lint bench kodak report gate gate-quick baseline figures study train-photo wheel reproducible constraints audit clean
