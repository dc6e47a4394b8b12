# make demo · make test · make lock. Needs Python 3.11, make and the Python package index; nothing else.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RF_HOME ?= .rf
TEST_PROCESSES ?= 3
export RF_HOME

.PHONY: demo install install-gpu install-bench install-text test lint unit fuzz screenshots stubs lock sbom audit clean

demo: $(VENV)/.installed ## features -> dataset -> training -> bundle -> Retrieve, on MovieLens-100K; DEMO=--keep leaves server and console running
	$(BIN)/rf demo $(DEMO)

install: $(VENV)/.installed-dev ## everything for development

install-gpu: $(VENV)/.installed-gpu ## the same with the CUDA builds of torch, fbgemm and faiss, for Linux with an NVIDIA GPU; never tested

install-bench: $(VENV)/.installed-bench ## the libraries of the baselines als, gru4rec, sasrec and bert4rec, for `rf compare`

install-text: $(VENV)/.installed-text ## the sentence encoder of fields with kind=text

test: lint unit ## what has to be green

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/lint-imports --config tests/benchmarks/pyproject.toml
	$(BIN)/mypy
	$(BIN)/python infra/check_contracts.py
	$(BIN)/python infra/check_stubs.py
	$(BIN)/python infra/check_docs.py

unit: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile

fuzz: $(VENV)/.installed-dev ## 20,000 random and malformed requests over gRPC, and 8,000 over HTTP, to a server on a copy of the workspace; FUZZ="--seed 1"
	PYTHONPATH=tests/serving/fuzz $(BIN)/python -m rf_fuzz $(FUZZ)

screenshots: $(VENV)/.installed-dev ## pictures of the console in the README, from the demo; needs chromium, and RF_TEST_NODE_MODULES as .ci/run sets it
	$(BIN)/python infra/screenshots.py

stubs: $(VENV)/.installed-dev ## regenerate the gRPC stubs, and what contracts and documents say of the code
	$(BIN)/python infra/check_contracts.py --write
	$(BIN)/python infra/check_stubs.py --write
	$(BIN)/python infra/check_docs.py --write

lock: ## resolve the dependencies anew
	PYTHON=$(PYTHON) infra/lock.sh

sbom: $(VENV)/.installed $(VENV)-audit/.installed ## build/sbom.json: CycloneDX list of what is installed
	mkdir -p build
	$(VENV)-audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o build/sbom.json $(BIN)/python

audit: $(VENV)-audit/.installed ## known vulnerabilities of the locked packages; advice, and it needs a network
	infra/audit.sh $(VENV)-audit/bin/pip-audit infra/requirements-cpu.txt

clean:
	rm -rf $(VENV) $(VENV)-audit $(RF_HOME)/demo $(RF_HOME)/demo-quick

# torch comes first and with its own dependencies, so that a CPU build is taken where pip is configured with one; the rest of
# the set is installed as locked.
$(VENV)/.installed: infra/requirements-cpu.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c infra/requirements-cpu.txt $$(grep '^torch==' infra/requirements-cpu.txt)
	$(PIP) install -q --no-deps -r infra/requirements-cpu.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed infra/requirements-dev.txt tests/benchmarks/pyproject.toml
	$(PIP) install -q --no-deps -r infra/requirements-dev.txt
	$(PIP) install -q --no-deps --no-build-isolation -e tests/benchmarks
	touch $@

# Apart from what it looks at.
$(VENV)-audit/.installed: infra/requirements-audit.txt
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip --disable-pip-version-check install -q --no-deps -r infra/requirements-audit.txt
	touch $@

$(VENV)/.installed-text: $(VENV)/.installed infra/requirements-text.txt
	$(PIP) install -q --no-deps -r infra/requirements-text.txt
	touch $@

# The CUDA libraries that torch and faiss-gpu declare are in the lock. The builds for CPUs are the same modules and must go first.
$(VENV)/.installed-gpu: infra/requirements-gpu.txt infra/requirements-dev.txt pyproject.toml tests/benchmarks/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) uninstall -q -y torch faiss-cpu fbgemm-gpu-cpu
	$(PIP) install -q --no-deps -r infra/requirements-gpu.txt -r infra/requirements-dev.txt
	$(PIP) install -q --no-deps --no-build-isolation -e . -e tests/benchmarks
	touch $(VENV)/.installed $(VENV)/.installed-dev $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev infra/requirements-bench.txt
	$(PIP) install -q --no-deps -r infra/requirements-bench.txt
	touch $@
