# Every target that needs $(VENV) sets it up first, once. This needs python3 >= 3.11 with pip or
# venv, and installs from the index that pip uses on this machine.
#   make test ARGS='-k padding -x'    passes ARGS to pytest
#   make test WORKERS=8               tests in 8 processes

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON3 ?= python3
VENV ?= .venv
WORKERS ?= 2
ARGS ?=

# Always use `python -m tool`: the scripts in bin/ contain the path where they were installed.
PYTHON := $(VENV)/bin/python
# worksteal first gives each process a contiguous part of the tests, so the expensive fixtures of a
# module are mostly made once.
PYTEST := $(PYTHON) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

# Installed before the project, because build isolation would download them again for every install.
# The kernels are compiled with torch's headers.
BUILD_REQUIRES := scikit-build-core cmake ninja torch

# 1: the native kernels must build. 0: do not build them. Empty: try to. See pyproject.toml.
REFORMER_NATIVE ?= $(if $(shell command -v "$${CXX:-c++}"),1)
export REFORMER_NATIVE

# clang_format has no __main__, so `python -m` cannot run it.
CLANG_FORMAT := $(PYTHON) -c 'from clang_format import clang_format; clang_format()'

# The editable install records the path of each module, so it is stale after a module or the
# checkout has moved. The stamp contains a checksum of both. The kernels are stale if one of their
# sources is newer than the stamp.
READY := $(VENV)/.ready
LAYOUT := $(shell { pwd; find reformer_export custom_ops models -name '*.py' | LC_ALL=C sort; } | cksum)
KERNELS := $(shell find custom_ops -name '*.cpp' -o -name '*.h')
NATIVE := $(KERNELS) $(shell find custom_ops -name '*.map' -o -path '*cmake/*' -o -name CMakeLists.txt -o -name spec.py)
RUNTIME := reformer_export/runtimes/cpp
CPP := $(KERNELS) $(shell find $(RUNTIME) examples tests -name '*.cpp' -o -name '*.h' -o -name '*.c')
ifneq ($(LAYOUT),$(shell cat $(READY) 2>/dev/null))
.PHONY: $(READY)
endif

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(READY)  ## set up the virtual environment (other targets do it when needed)

.PHONY: demo
demo test test-all: RUNTIME_TOO := 1
demo: $(READY)  ## export a trained model, verify it, run it on a text
	@$(PYTHON) examples/demo.py

.PHONY: test
test: $(READY)  ## run the tests, without the slow ones
	@$(PYTEST) -m "not slow"

.PHONY: test-all
test-all: $(READY)  ## run all tests
	@$(PYTEST)

# Playwright is large, so only this target installs it. Browsers come from the system; tests of a
# browser that is not there are skipped.
.PHONY: test-browser
test-browser: $(READY)  ## run the tests of pages in Chromium and Firefox (needs them and npm)
	@$(call INSTALL,playwright websockets)
	@$(PYTHON) -c 'from reformer_export.exporters.web.onnxruntime_web import find_package; find_package()'
	@$(PYTEST) tests/exporters/test_web_page.py tests/exporters/test_web_firefox.py

.PHONY: lint
lint: $(READY)  ## check style, format and types
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(CLANG_FORMAT) --dry-run --Werror $(CPP)
	@$(PYTHON) -m mypy

.PHONY: format
format: $(READY)  ## format the code and fix what ruff can fix
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .
	@$(CLANG_FORMAT) -i $(CPP)

.PHONY: cpp
cpp: $(READY)  ## build the C++ runtime into build/runtime/linux-<this machine>
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(SHELL) $(RUNTIME)/build.sh

.PHONY: cpp-torch
cpp-torch: $(READY)  ## the same with TorchScript, from the libtorch of torch's wheel, in linux-...-torch
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(SHELL) $(RUNTIME)/build.sh --torch

.PHONY: cross-aarch64
cross-aarch64: $(READY)  ## build the kernels and the C++ runtime for aarch64 Linux
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(SHELL) $(RUNTIME)/cross_aarch64.sh $(CURDIR)/$(PYTHON)

.PHONY: bench
bench: $(READY)  ## measure speed and memory (ARGS=--quick: only a part, in minutes)
	@$(PYTHON) -m benchmarks $(ARGS)

.PHONY: bench-train
bench-train: $(READY)  ## measure training: memory by depth and length, time (ARGS=--quick)
	@$(PYTHON) -m benchmarks.training $(ARGS)

.PHONY: bench-attention
bench-attention: $(READY)  ## compare with other attentions (ARGS=--quick: only a part, in minutes)
	@$(PYTHON) -m benchmarks.baselines $(ARGS)

# Does not use $(VENV): it uses the packages of the GPU machine and those in WHEELS.
.PHONY: gpu-check
gpu-check:  ## check everything that needs a GPU: OUT=folder for the report [WHEELS=folder] (docs/gpu.md)
	@test -n "$(OUT)" || { echo "name a folder for the report: make gpu-check OUT=..." >&2; exit 2; }
	@PYTHONPATH="$(CURDIR):$(CURDIR)/custom_ops:$(CURDIR)/models$${PYTHONPATH:+:$$PYTHONPATH}" \
		$(PYTHON3) -m tests.gpu.check --out "$(OUT)" $(if $(WHEELS),--wheels "$(WHEELS)") $(ARGS)

.PHONY: bench-weights
bench-weights: $(READY)  ## measure models with weights of fewer bits against fp32 (ARGS=--quick)
	@$(PYTHON) -m benchmarks.weights $(ARGS)

.PHONY: bench-serve
bench-serve: $(READY)  ## measure the HTTP server against the bare runner (ARGS=--quick)
	@$(PYTHON) -m benchmarks.serving $(ARGS)

# Ray and pyarrow are large, so `make venv` does not install them.
.PHONY: test-map
test-map: $(READY)  ## install what `map` needs, and run its tests, the slow ones too
	@$(call INSTALL,--no-build-isolation --editable '.[map]')
	@$(PYTEST) tests/serving/corpus

# ExecuTorch brings many packages along, so only this target installs it.
.PHONY: test-executorch
test-executorch: $(READY)  ## install ExecuTorch, and run the tests of to-executorch
	@$(call INSTALL,--no-build-isolation --editable '.[executorch]')
	@$(PYTEST) tests/exporters/test_executorch.py

.PHONY: clean
clean:  ## remove everything that make created, including the virtual environment
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's python3 has no ensurepip (it is in python3-venv), but its pip can install pip into an
# environment without pip.
define MAKE_VENV
$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	echo "$(PYTHON3) is missing or older than 3.11: name another with 'make PYTHON3=...'" >&2; exit 1; }
if $(PYTHON3) -c 'import ensurepip' 2>/dev/null; then
	$(PYTHON3) -m venv $(VENV)
elif $(PYTHON3) -c 'import pip' 2>/dev/null; then
	$(PYTHON3) -m venv --without-pip $(VENV)
	$(PYTHON3) -m pip --python $(PYTHON) install --quiet --quiet pip
else
	echo "$(PYTHON3) has neither venv nor pip: install python3-venv (or python3-pip)" >&2; exit 1
fi
endef
export MAKE_VENV

# $(call INSTALL,what): install with the pinned versions. pip's output goes to a file; its end is
# shown after a failure.
INSTALL = $(PYTHON) -m pip install --constraint constraints.txt $(1) >>$(VENV)/pip.log 2>&1 || { \
	tail -n 20 $(VENV)/pip.log >&2; echo "Setting up failed; all of it is in $(VENV)/pip.log" >&2; exit 1; }

# With RUNTIME_TOO the C++ runtime is built at the same time, while packages are downloaded. If this
# fails, the command that needs the runtime builds it again and reports the reason.
$(READY): pyproject.toml constraints.txt $(NATIVE)
	@echo "Setting up $(VENV): two to four minutes the first time (details in $(VENV)/pip.log)"
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || $(SHELL) $(.SHELLFLAGS) "$$MAKE_VENV"
	@: >$(VENV)/pip.log
	@echo "  1/2 build tools and torch"
	@$(call INSTALL,$(BUILD_REQUIRES))
	@echo "  2/2 the package with its native kernels, and what it needs$(if $(RUNTIME_TOO),; the C++ runtime)"
	@$(if $(RUNTIME_TOO),{ PATH="$(CURDIR)/$(VENV)/bin:$$PATH" nice sh $(RUNTIME)/build.sh >/dev/null 2>&1 || true; } & ) \
		$(call INSTALL,--no-build-isolation --editable '.[dev]'); wait
	@echo '$(LAYOUT)' >$@
