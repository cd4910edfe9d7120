# `make demo` and `make test` set up everything they need. Python >= 3.11 and make are all that must be there.
PYTHON ?= python3
BACKBONE ?= DemoVGG
# Most modules are never imported: those that are compile then, once.
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --no-compile
unexport PYTHONDONTWRITEBYTECODE
PYTEST = -m pytest -q --numprocesses auto --dist loadfile
QUICK = -m "not slow"
# What rests on Keras: everything that differs between its versions is tested here.
CORE = tests/kerasxfer/bottleneck tests/kerasxfer/callbacks tests/kerasxfer/export tests/kerasxfer/keras_internals \
	tests/kerasxfer/layers tests/kerasxfer/unfreezing tests/kerasxfer/test_groups.py tests/kerasxfer/test_models.py

.PHONY: demo check test test-all lint test-tensorflow test-jax test-torch test-core test-serving test-end-to-end \
	test-keras test-oldest-keras test-lowest docs clean

demo: .venv/installed
	.venv/bin/kerasxfer demo --backbone $(BACKBONE) --out demo-run --overwrite

# `make test BACKEND=jax` runs one part: tensorflow, jax, torch, serving or end-to-end.
ifdef BACKEND
test: $(BACKEND:%=test-%)
else
test: lint test-serving test-tensorflow test-jax test-torch test-end-to-end
endif

test-all: QUICK =
test-all: lint test-serving test-tensorflow test-jax test-torch test-end-to-end

test-tensorflow test-jax test-torch: test-%: .venv/installed
	KERAS_BACKEND=$* .venv/bin/python $(PYTEST) $(QUICK) tests/kerasxfer

# JAX's tests spend their time in compiling, not in what is compiled: that once, and quickly.
test-jax test-end-to-end: export JAX_DISABLE_MOST_OPTIMIZATIONS = 1
test-jax test-end-to-end: export JAX_COMPILATION_CACHE_DIR = $(abspath .venv/jax-cache)
test-jax test-end-to-end: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0

test-serving: .venv-serving/installed
	.venv-serving/bin/python $(PYTEST) $(QUICK) tests/serving

test-end-to-end: .venv/installed .venv-serving/installed
	.venv/bin/python $(PYTEST) $(QUICK) tests/end_to_end

# The loop of every few minutes: what most changes break. No server, no cluster, and of the tests that rest on Keras the
# decisive ones.
check: PYTEST += --ignore tests/serving/server --ignore-glob "*/test_ray_*"
check: CORE = tests/kerasxfer/bottleneck/test_fit.py tests/kerasxfer/bottleneck/test_schedule.py \
	tests/kerasxfer/export/test_pipeline.py tests/kerasxfer/keras_internals tests/kerasxfer/unfreezing
check: lint test-serving test-core

test-core: .venv/installed
	KERAS_BACKEND=$(or $(BACKEND),tensorflow) .venv/bin/python $(PYTEST) $(QUICK) $(CORE)

# Another Keras laid over the environment: `make test-keras VERSION=3.12.4 BACKEND=jax`.
test-keras: .venv/keras-$(VERSION)/installed
	PYTHONPATH=$(abspath $(<D)) KERAS_BACKEND=$(or $(BACKEND),tensorflow) .venv/bin/python $(PYTEST) $(QUICK) $(CORE)

# The oldest Keras in what decides: CI runs it after everything else, which runs with the newest.
test-oldest-keras:
	$(MAKE) test-keras VERSION=$(shell sed -n 's/^keras==//p' requirements/lowest.txt) CORE="tests/kerasxfer/keras_internals \
		tests/kerasxfer/bottleneck/test_fit.py tests/kerasxfer/unfreezing/test_resume.py"

.venv/keras-%/installed: .venv/installed
	.venv/bin/python $(PIP_INSTALL) --no-deps --upgrade --target $(@D) keras==$*
	touch $@

# The oldest versions that both distributions say they run with, Keras's too.
test-lowest: .venv-lowest/installed
	.venv-lowest/bin/python $(PYTEST) $(QUICK) tests/serving
	KERAS_BACKEND=$(or $(BACKEND),jax) .venv-lowest/bin/python $(PYTEST) $(QUICK) $(CORE)

lint: .venv/installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

# The site, strictly: a broken link, a page that is not there or a public name without a docstring fails. No network.
docs: export NO_MKDOCS_2_WARNING = 1
docs: .venv/installed
	.venv/bin/mkdocs build

.venv/installed: pyproject.toml serving/pyproject.toml requirements/development.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP_INSTALL) --constraint requirements/development.txt pip torch
	.venv/bin/python $(PIP_INSTALL) --constraint requirements/development.txt --group dev \
		--editable "./serving[parquet,plot,ray,remote]" --editable ".[export,jax,report,tensorflow,torch]"
	touch $@

.venv-serving/installed: serving/pyproject.toml requirements/serving.txt
	$(PYTHON) -m venv .venv-serving
	.venv-serving/bin/python $(PIP_INSTALL) --constraint requirements/serving.txt pip
	.venv-serving/bin/python $(PIP_INSTALL) --constraint requirements/serving.txt --group serving-test \
		--editable "./serving[cpu,openvino,parquet,plot,ray,remote]"
	touch $@

.venv-lowest/installed: pyproject.toml serving/pyproject.toml requirements/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python $(PIP_INSTALL) --upgrade pip
	.venv-lowest/bin/python $(PIP_INSTALL) --constraint requirements/lowest.txt --group test \
		--editable "./serving[cpu,parquet,plot,remote]" --editable ".[export,jax,report,tensorflow]"
	touch $@

clean:
	rm -rf .venv .venv-serving .venv-lowest demo-run site
