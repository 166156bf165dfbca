# Every target does its own set-up; it needs Python 3.11 or newer, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup check lint types imports docs test demo bench wheel lock schema clean

help:
	@echo "make check   lint, types, import rules, documentation (warnings are errors)"
	@echo "make test    all tests, the slow and real ones too; ARGS='-m \"not slow\"' for the quick ones"
	@echo "make demo    a solar study as a script, in Prefect and in Snakemake"
	@echo "make bench   benchmarks, as ratios against a named peer in the same run"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

check: lint types imports docs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# Tests on the real Slurm mostly wait, and those with Prefect or Snakemake often do, so that all run beside each
# other; what the first two say is printed in the end. With ARGS just what these say.
test: $(READY)
ifneq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest $(ARGS)
else
	@logs=$$(mktemp -d); \
	env --default-signal=INT $(BIN)/python -m pytest -m slurm >$$logs/slurm 2>&1 & slurm=$$!; \
	env --default-signal=INT $(BIN)/python -m pytest -m "engine and not slurm" >$$logs/engine 2>&1 & engine=$$!; \
	trap 'kill $$slurm $$engine 2>/dev/null' INT TERM; \
	$(BIN)/python -m pytest -m "not slurm and not engine"; rest=$$?; \
	wait $$engine; engine=$$?; wait $$slurm; slurm=$$?; \
	cat $$logs/engine $$logs/slurm; rm -rf $$logs; exit $$((rest | engine | slurm))
endif

demo: $(READY)
	$(BIN)/python examples/solar/demo.py

bench: $(READY)
	$(BIN)/python -m benchmarks

wheel: $(READY)
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

schema: $(READY)
	$(BIN)/scalable schema > core/scalable/manifest/schema.json

# Only to renew the lock file; nothing else needs uv.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	.venv-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --all-extras \
	  --group dev --group docs --group examples --group build pyproject.toml --output-file requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) dist docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .scalable
