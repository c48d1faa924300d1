# Everything happens in .venv, which the first target that needs it creates.
.POSIX:

PYTHON ?= python3
TORCH_VERSION = 2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PYTEST_ARGS ?=

VENV = .venv
RUN = $(VENV)/bin/python -m

help:
	@echo 'make demo       training over SSH to this machine: facts, plan, a detached job, a lost link'
	@echo 'make test       every test (end-to-end tests need root and Docker)'
	@echo 'make test-e2e   the end-to-end tests only'
	@echo 'make test-reboot  a QEMU machine is provisioned through a real reboot (root, QEMU, Docker)'
	@echo 'make lint       ruff and mypy'
	@echo 'make setup      only create the development environment in $(VENV)'
	@echo 'make clean      remove $(VENV) and every generated file'

demo: $(VENV)/.demo-installed
	@$(RUN) provisioner.demo

test: $(VENV)/.dev-installed
	@$(RUN) pytest $(PYTEST_ARGS)

test-e2e: $(VENV)/.dev-installed
	@$(RUN) pytest -m e2e $(PYTEST_ARGS)

# -s: minutes pass, so what happens is shown as it happens. What is missing here is named.
test-reboot: $(VENV)/.dev-installed
	@$(RUN) pytest -s -m reboot tests/reboot $(PYTEST_ARGS)

lint: $(VENV)/.dev-installed
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

setup: $(VENV)/.dev-installed

clean:
	rm -rf $(VENV) .demo build dist rigup.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.demo-installed: $(VENV)/.torch-$(TORCH_VERSION) pyproject.toml
	@echo 'Installing rigup and what the demo needs'
	@$(RUN) pip install -qq -e '.[demo]'
	@touch $@

$(VENV)/.dev-installed: $(VENV)/.torch-$(TORCH_VERSION) pyproject.toml
	@echo 'Installing rigup and what the tests need'
	@$(RUN) pip install -qq -e '.[dev]'
	@touch $@

# A CPU build: first one that pip finds on this machine (its own find-links), else PyTorch's index.
# The plain package index is never asked, because there torch brings gigabytes of CUDA.
$(VENV)/.torch-$(TORCH_VERSION): $(VENV)/.created
	@echo 'Installing PyTorch $(TORCH_VERSION) for the CPU'
	@$(RUN) pip install -qq --no-index --no-deps 'torch==$(TORCH_VERSION)' 2>/dev/null || \
	PIP_EXTRA_INDEX_URL='$(TORCH_INDEX)' \
	$(RUN) pip install -qq --no-deps 'torch==$(TORCH_VERSION)' --index-url '$(TORCH_INDEX)' || { \
	echo 'No CPU build of torch $(TORCH_VERSION) for this Python: neither among the wheels of this' >&2; \
	echo 'machine (pip find-links) nor at $(TORCH_INDEX).' >&2; \
	echo 'Try: make TORCH_INDEX=https://your.mirror/whl/cpu, or another PYTHON=python3.x' >&2; \
	exit 1; }
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	echo "rigup needs Python 3.10 or newer; $(PYTHON) is: $$($(PYTHON) -V 2>&1)" >&2; \
	echo 'Try: make PYTHON=python3.12 (any newer one you have)' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	echo 'Could not create $(VENV). On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(RUN) pip install -qq 'pip>=23.1'
	@touch $@

.PHONY: help demo test test-e2e test-reboot lint setup clean
