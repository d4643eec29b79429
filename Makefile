# The one task runner. `make` lists what it can do; CI runs these targets and nothing of its own.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PROMPT ?= The capital of France is
VENV := .venv
BIN := $(VENV)/bin
LAUNCHER := services/ollama/launcher
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

# ---- set up

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "eudai: Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + "; set PYTHON=python3.x")'
	@echo 'eudai: making $(VENV) …' >&2
	@$(PYTHON) -m venv $(VENV)

# The stamps are written last, so that an interrupted install is repeated.
$(VENV)/server.stamp: requirements/server.txt clients/python/pyproject.toml services/server/pyproject.toml | $(BIN)/python
	@echo 'eudai: installing the server and the Python client …' >&2
	@$(PIP) --require-hashes -r requirements/server.txt
	@$(PIP) --no-build-isolation -e clients/python -e services/server
	@touch $@

$(VENV)/develop.stamp: requirements/develop.txt $(VENV)/server.stamp
	@echo 'eudai: installing what the tests and lints need …' >&2
	@$(PIP) --require-hashes -r requirements/develop.txt
	@touch $@

$(BIN)/grpcurl: tests/tools/go.sum | $(BIN)/python
	@$(PYTHON) $(LAUNCHER) build tests/tools github.com/fullstorydev/grpcurl/cmd/grpcurl $@

.PHONY: setup
setup: $(VENV)/server.stamp ## make .venv with the server and the Python client

.PHONY: setup-develop
setup-develop: $(VENV)/develop.stamp $(BIN)/grpcurl ## the same, with what the tests and lints need

# ---- run

.PHONY: run
run: setup ## start everything, stream one real generation (PROMPT="…"), then serve until Ctrl-C
	@EUDAI_ADMIN=$${EUDAI_ADMIN:-true} EUDAI_LOAD_OPTIONS=$${EUDAI_LOAD_OPTIONS:-true} $(PYTHON) $(LAUNCHER) run -- $(BIN)/python services/run.py "$$PROMPT"
run: export PROMPT := $(PROMPT)

.PHONY: ollama
ollama: ## a real Ollama at OLLAMA_BASE_URL, models included
	@$(PYTHON) $(LAUNCHER) start

.PHONY: ollama-stop
ollama-stop: ## stop the Ollama that make ollama started
	@$(PYTHON) $(LAUNCHER) stop

# ---- check

.PHONY: test
test: setup-develop ## all tests, against a real Ollama
	@$(PYTHON) $(LAUNCHER) run -- $(BIN)/pytest $(ARGS)

.PHONY: test-fast
test-fast: setup-develop ## the tests of codecs and behaviours without a real Ollama, but the slow ones
	@$(BIN)/pytest tests/test_tidy.py tests/codec tests/behaviour -q -m "not slow and not real" $(ARGS)

.PHONY: test-image-python
test-image-python: ## the tests of codecs and behaviours on the image's Python, where that is installed
	@scripts/image_python.sh

$(BIN)/docker-compose: tests/compose/go.sum | $(BIN)/python
	@$(PYTHON) $(LAUNCHER) build tests/compose github.com/docker/compose/v2/cmd $@

.PHONY: compose
compose: $(BIN)/docker-compose ## build the real Docker Compose, with which make test checks docker-compose.yml too

.PHONY: docker-test
docker-test: setup-develop compose ## docker compose up with a Docker daemon of its own (root, Debian; two minutes)
	@$(PYTHON) $(LAUNCHER) start
	@$(PYTHON) $(LAUNCHER) stop
	@tests/compose/docker.sh

.PHONY: registry-test
registry-test: setup-develop ## push to and pull from a real registry behind a real Envoy (Debian's docker-registry)
	@command -v docker-registry > /dev/null || { echo 'eudai: docker-registry is missing: apt-get install docker-registry' >&2; exit 1; }
	@$(PIP) --require-hashes -r requirements/system.txt
	@$(PYTHON) $(LAUNCHER) run -- $(BIN)/pytest tests/system/test_registry.py -rP

.PHONY: reasons
reasons: setup-develop ## provoke every reason a call can fail for, and show what grpcurl prints
	@$(PYTHON) $(LAUNCHER) run -- $(BIN)/pytest tests/system/test_reasons.py -rP

.PHONY: ignored
ignored: setup-develop ## see each test of the contract walk fail before a server that ignores what it is for (minutes)
	@$(PYTHON) $(LAUNCHER) run -- $(BIN)/pytest --ignoring --timeout 20 -q --tb=no $(ARGS)

ROUNDS ?= 100
.PHONY: formats
formats: setup-develop ## how many of ROUNDS real answers under a format parse; wants a server at EUDAI_LISTEN
	@PYTHONPATH=tests/support $(BIN)/python tests/reliability/formats.py --rounds $(ROUNDS) --address $${EUDAI_LISTEN:-127.0.0.1:50051}

.PHONY: parsers
parsers: setup-develop ## what arrives of thoughts and tool calls, by each parser of Ollama, as a table
	@$(PYTHON) $(LAUNCHER) run -- $(BIN)/pytest tests/system/test_parsers.py -q -rP

.PHONY: record
record: setup-develop ## write the answers of the real Ollama that the double plays
	@$(PYTHON) $(LAUNCHER) run -- $(BIN)/pytest tests/system/test_parsers.py tests/system/test_scripted_model.py -q -rP --record

SEEDS ?= 1000
.PHONY: simulate
simulate: setup-develop ## the whole server on a virtual clock: SEEDS=n of them, or SEED=n alone, with what happened
	@PYTHONPATH=tests:tests/support $(BIN)/python -m simulation.simulate $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

# A folder for PYTHONPATH, since one environment holds one grpcio.
NEWER_GRPCIO := $(VENV)/newer-grpcio
$(NEWER_GRPCIO)/installed.stamp: requirements/newer_grpcio.txt $(VENV)/develop.stamp
	@rm -rf $(NEWER_GRPCIO)
	@$(PIP) --require-hashes --target $(NEWER_GRPCIO) -r requirements/newer_grpcio.txt
	@touch $@

.PHONY: reliability
reliability: setup-develop $(NEWER_GRPCIO)/installed.stamp ## every row of docs/reliability.md, measured, as a table (15 minutes)
	@$(PIP) --require-hashes -r requirements/system.txt
	@$(PYTHON) $(LAUNCHER) run -- $(BIN)/pytest -m row --full -q $(ARGS)

MINUTES ?= 30
MIX ?= faults
.PHONY: soak
soak: setup-develop ## the row R17 for MINUTES, with MIX=faults or MIX=leavers
	@$(BIN)/pytest tests/reliability/test_soak.py --full --minutes $(MINUTES) -k $(MIX) -q

.PHONY: coverage
coverage: setup-develop ## the same tests as make test, with the branches they reach
	@$(PYTHON) $(LAUNCHER) run -- $(BIN)/pytest --cov --cov-report=term-missing:skip-covered $(ARGS)

.PHONY: lint
lint: setup-develop ## formatting, ruff, mypy, import rules, buf
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports --no-cache
	@buf lint
	@buf format -d --exit-code

.PHONY: breaking
breaking: setup-develop ## the contract against the first one that landed, and the one before this commit
	@scripts/breaking.sh

.PHONY: check
check: test generate-check lint breaking test-image-python check-compose ## what CI runs

.PHONY: check-compose
check-compose: setup-develop compose
	@$(BIN)/pytest tests/system/test_compose.py

.PHONY: fix
fix: setup-develop ## let ruff and buf mend what they can
	@ruff check --fix .
	@ruff format .
	@buf format -w

# ---- make what is committed

STUBS := clients/python/src
.PHONY: generate
generate: setup-develop ## the Python stubs from proto/
	@buf build -o $(VENV)/image.binpb
	@rm -f $(STUBS)/eudai/v1/*_pb2*
	@python -m grpc_tools.protoc --descriptor_set_in=$(VENV)/image.binpb --python_out=$(STUBS) --mypy_out=quiet:$(STUBS) \
		$(patsubst proto/%,%,$(wildcard proto/eudai/v1/*.proto))
	@python -m grpc_tools.protoc --descriptor_set_in=$(VENV)/image.binpb --grpc_python_out=$(STUBS) --mypy_grpc_out=quiet:$(STUBS) \
		$(patsubst proto/%,%,$(wildcard proto/eudai/v1/*_service.proto))

.PHONY: generate-check
generate-check: generate ## regenerating must leave no diff
	@git diff --exit-code --stat -- $(STUBS)

.PHONY: lock
lock: setup-develop ## resolve requirements/*.in anew, with hashes and without addresses
	@cd requirements && for name in server develop system; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $$name.in -o $$name.txt; done
	@cd requirements && uv pip compile --quiet --universal --no-deps --python-version 3.11 --generate-hashes --no-emit-index-url --no-header newer_grpcio.in -o newer_grpcio.txt
	@cd $(LAUNCHER) && for name in python go; do \
		uv pip compile --quiet --no-deps --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $$name.in -o $$name.txt; done
