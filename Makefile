# make demo | test | bench | lint | browser | notebooks | map: each works alone from a clean clone and makes .venv when it has to.
# Flags go through ARGS:       make demo ARGS="--port 7861"      make test ARGS="tests/model -k mel"
# pip options through PIP_FLAGS, e.g. a smaller torch without CUDA:
#     make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

ARGS ?=
PIP_FLAGS ?=
PY := .venv/bin/python

# The packages of a .venv are installed again whenever the text of the requirements changes.
key = $(shell cat $(1) | cksum | cut -d' ' -f1)
APP := .venv/app-$(call key,requirements.txt)
DEV := .venv/dev-$(call key,requirements.txt requirements-dev.txt)

.PHONY: demo test browser bench lint notebooks map
.DEFAULT_GOAL := demo

demo: $(APP)
	@command -v ffmpeg >/dev/null || echo "Note: m4a and webm files need ffmpeg: apt-get install ffmpeg"
	$(PY) app.py $(ARGS)

test: $(DEV)
	@command -v ffmpeg >/dev/null || echo "Note: tests of m4a and webm are skipped without ffmpeg: apt-get install ffmpeg"
	$(PY) -m pytest $(ARGS)

browser: $(DEV)
	@command -v chromium >/dev/null || echo "Note: browser tests are skipped without it: apt-get install chromium fonts-noto-cjk"
	$(PY) -m pytest -m browser $(ARGS)

bench: $(DEV)
	$(PY) -m pytest -m bench -s $(ARGS)

lint: $(DEV)
	$(PY) -m ruff check $(ARGS) .

# Executes the notebooks and writes their outputs; ARGS="02 05" for some of them.
notebooks: $(DEV)
	$(PY) -m tests.run_notebooks $(ARGS)

# The README's file map, from what git tracks and the modules' docstrings.
map: $(PY)
	$(PY) -m tests.file_map

# The first Python >= 3.11 that can make environments; without one, say what to install.
$(PY):
	@for python in python3 python3.11 python3.12 python3.13; do \
	  $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  $$python -m venv .venv && exit 0; \
	done; \
	echo "No Python >= 3.11 with venv is here. On Debian: apt-get install python3 python3-venv"; exit 1

$(APP): | $(PY)
	$(PY) -m pip install --quiet $(PIP_FLAGS) -r requirements.txt
	@rm -f .venv/app-*; touch $@

$(DEV): | $(PY)
	$(PY) -m pip install --quiet $(PIP_FLAGS) -r requirements-dev.txt
	@rm -f .venv/dev-*; touch $@
