# All tasks of the project. `make` lists the targets; CI runs `make check` and nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PROMPT ?= The capital of France is
VENV := .venv
BIN := $(VENV)/bin
LAUNCHER := services/ollama/launcher
# Runs a command with the Ollama at OLLAMA_BASE_URL, or with one that it starts and stops.
WITH_OLLAMA := $(PYTHON) $(LAUNCHER) run --
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## list all targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) \
		| sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

# ---- set up

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"eudai: Python 3.11 or newer is required, but $(PYTHON) is " + sys.version.split()[0] + \
		"; set PYTHON=python3.x")'
	@echo 'eudai: creating $(VENV) …' >&2
	@$(PYTHON) -m venv $(VENV)

# A stamp is written after its install, so that an interrupted install is repeated.
$(VENV)/server.stamp: requirements/server.txt requirements/cli.txt clients/python/pyproject.toml \
		services/server/pyproject.toml | $(BIN)/python
	@echo 'eudai: installing the server and the Python client …' >&2
	@$(PIP) --require-hashes -r requirements/server.txt -r requirements/cli.txt
	@$(PIP) --no-build-isolation -e clients/python -e services/server
	@touch $@

$(VENV)/develop.stamp: requirements/develop.txt $(VENV)/server.stamp
	@echo 'eudai: installing the tools for tests and lints …' >&2
	@$(PIP) --require-hashes -r requirements/develop.txt
	@touch $@

$(BIN)/grpcurl: tests/tools/go.sum | $(BIN)/python
	@$(PYTHON) $(LAUNCHER) build tests/tools github.com/fullstorydev/grpcurl/cmd/grpcurl $@

GO_CLIENT := clients/go
GO_TOOLS := $(GO_CLIENT)/tools
$(BIN)/protoc-gen-go: $(GO_TOOLS)/go.sum | $(BIN)/python
	@$(PYTHON) $(LAUNCHER) build $(GO_TOOLS) google.golang.org/protobuf/cmd/protoc-gen-go $@

$(BIN)/protoc-gen-go-grpc: $(GO_TOOLS)/go.sum | $(BIN)/python
	@$(PYTHON) $(LAUNCHER) build $(GO_TOOLS) google.golang.org/grpc/cmd/protoc-gen-go-grpc $@

.PHONY: setup
setup: $(VENV)/server.stamp ## create .venv with the server and the Python client

.PHONY: setup-develop
setup-develop: $(VENV)/develop.stamp $(BIN)/grpcurl ## create .venv, with the tools for tests and lints

# ---- run

.PHONY: run
run: setup ## start everything, stream one answer (PROMPT="…"), serve until Ctrl-C
	@EUDAI_ADMIN=$${EUDAI_ADMIN:-true} EUDAI_LOAD_OPTIONS=$${EUDAI_LOAD_OPTIONS:-true} \
		$(WITH_OLLAMA) $(BIN)/python services/run.py "$$PROMPT"
run: export PROMPT := $(PROMPT)

.PHONY: ollama
ollama: ## start a real Ollama at OLLAMA_BASE_URL, with the test models
	@$(PYTHON) $(LAUNCHER) start

.PHONY: ollama-stop
ollama-stop: ## stop the Ollama that `make ollama` started
	@$(PYTHON) $(LAUNCHER) stop

# ---- check

.PHONY: test
test: setup-develop ## run all tests, with a real Ollama
	@$(WITH_OLLAMA) $(BIN)/pytest $(ARGS)

.PHONY: test-fast
test-fast: setup-develop ## run the fast tests, without Ollama (under a minute)
	@$(BIN)/pytest tests/test_*.py tests/codec tests/behaviour -q -m "not slow and not real" $(ARGS)

SECURITY_TESTS := $(addprefix tests/behaviour/test_,$(addsuffix .py,access broken_backend \
	call_limits credential_rotation every_await floods hostile_frames hostile_values \
	ollama_connection privacy registries tls uploads)) tests/fuzz \
	$(addprefix tests/codec/test_,$(addsuffix .py,config jwts telemetry tokens workload_names))

.PHONY: security
security: setup-develop ## run the tests of docs/security.md, without Ollama (two minutes)
	@$(BIN)/pytest $(SECURITY_TESTS) -q $(ARGS)

FUZZ := $(VENV)/fuzz
$(FUZZ)/installed.stamp: requirements/fuzz.txt $(VENV)/develop.stamp
	@rm -rf $(FUZZ)/packages
	@$(PIP) --require-hashes --target $(FUZZ)/packages -r $<
	@touch $@

# Each target of tests/fuzz has a corpus. They share the time.
FUZZ_TARGETS := $(notdir $(wildcard tests/fuzz/corpus/*))
.PHONY: fuzz
fuzz: MINUTES = 5
fuzz: $(FUZZ)/installed.stamp ## fuzz parsers, requests and frames for MINUTES=n (5), and print what was run
	@for target in $(FUZZ_TARGETS); do \
		echo "eudai: fuzzing $$target …" >&2; \
		PYTHONPATH=tests:tests/support:$(FUZZ)/packages $(BIN)/python -m fuzz.run $$target \
			$$(($(MINUTES) * 60 / $(words $(FUZZ_TARGETS)))) $(FUZZ)/corpus/$$target \
			2> $(FUZZ)/$$target.log || { tail -n 30 $(FUZZ)/$$target.log >&2; exit 1; }; \
		grep -E 'number_of_executed_units|slowest_unit|new_units_added' $(FUZZ)/$$target.log; done
	@echo 'eudai: no crash, and no input that took more than a second' >&2

.PHONY: client-versions
client-versions: $(VENV)-client-oldest/client.stamp $(VENV)-client-newest/client.stamp
client-versions: ## test the Python client with the oldest and the newest grpcio and protobuf
	@for name in oldest newest; do \
		$(VENV)-client-$$name/bin/python -m pytest -q --confcutdir=tests/clients \
			--ignore=tests/clients/python/test_real.py tests/clients/python $(ARGS); done

$(VENV)-client-%/client.stamp: requirements/client_%.txt clients/python/pyproject.toml
	@echo 'eudai: creating $(@D) …' >&2
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--require-hashes -r $<
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation -e clients/python
	@touch $@

.PHONY: test-image-python
test-image-python: ## run the tests that need no Ollama, on the image's Python
	@scripts/image_python.sh

$(BIN)/docker-compose: tests/compose/go.sum | $(BIN)/python
	@$(PYTHON) $(LAUNCHER) build tests/compose github.com/docker/compose/v2/cmd $@

.PHONY: compose
compose: $(BIN)/docker-compose ## build Docker Compose, with which `make test` checks docker-compose.yml

.PHONY: docker-test
docker-test: setup-develop compose ## test `docker compose up` with a Docker daemon (root, Debian; two minutes)
	@$(PYTHON) $(LAUNCHER) start
	@$(PYTHON) $(LAUNCHER) stop
	@tests/compose/docker.sh

.PHONY: security-containers
security-containers: docker-test ## measure S10 and S11 of docs/security.md (root, Debian)

SUPPLY := $(VENV)-supply
$(SUPPLY)/supply.stamp: requirements/supply.txt | $(BIN)/python
	@echo 'eudai: creating $(SUPPLY) …' >&2
	@$(PYTHON) -m venv --clear $(SUPPLY)
	@$(SUPPLY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--require-hashes -r $<
	@touch $@

LOCKS := $(wildcard requirements/*.txt $(LAUNCHER)/*.txt)
.PHONY: audit
audit: $(SUPPLY)/supply.stamp ## audit the locks: hashes, known flaws, no source packages
	@$(PYTHON) scripts/audit_locks.py $(LOCKS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --dry-run --no-deps \
		--ignore-installed --require-hashes --only-binary=:all: -r requirements/server.txt
	@echo 'eudai: no package of server.txt needs a compiler'
	@scripts/advisories.sh $(SUPPLY)

.PHONY: sbom
sbom: $(SUPPLY)/supply.stamp ## write the CycloneDX SBOM of the server's packages
	@$(SUPPLY)/bin/cyclonedx-py requirements --output-reproducible \
		--output-file $(SUPPLY)/server.cdx.json requirements/server.txt
	@echo 'eudai: $(SUPPLY)/server.cdx.json'

.PHONY: registry-test
registry-test: setup-develop ## test pushes and pulls with a real registry (Debian's docker-registry)
	@command -v docker-registry > /dev/null || { \
		echo 'eudai: docker-registry is missing: apt-get install docker-registry' >&2; exit 1; }
	@$(PIP) --require-hashes -r requirements/system.txt
	@$(WITH_OLLAMA) $(BIN)/pytest tests/system/test_registry.py -rP

.PHONY: reasons
reasons: setup-develop ## cause every ErrorReason, and show the output of grpcurl
	@$(WITH_OLLAMA) $(BIN)/pytest tests/system/test_reasons.py -rP

.PHONY: ignored
ignored: setup-develop ## check that each test of the contract walk can fail (minutes)
	@$(WITH_OLLAMA) $(BIN)/pytest --ignoring --timeout 20 -q --tb=no $(ARGS)

ROUNDS ?= 100
.PHONY: formats
formats: setup-develop ## count answers that match their format (needs a server; ROUNDS=n)
	@PYTHONPATH=tests/support $(BIN)/python tests/reliability/formats.py --rounds $(ROUNDS) \
		--address $${EUDAI_LISTEN:-127.0.0.1:50051}

.PHONY: parsers
parsers: setup-develop ## list the results of each of Ollama's parsers, as in docs/parsers.md
	@$(WITH_OLLAMA) $(BIN)/pytest tests/system/test_parsers.py -q -rP

.PHONY: record
record: setup-develop ## record the answers of a real Ollama for the test double
	@$(WITH_OLLAMA) $(BIN)/pytest tests/system/test_parsers.py \
		tests/system/test_scripted_model.py -q -rP --record

SEEDS ?= 1000
.PHONY: simulate
simulate: setup-develop ## simulate the server on a virtual clock: SEEDS=n seeds, or one SEED=n
	@PYTHONPATH=tests:tests/support $(BIN)/python -m simulation.simulate \
		$(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

# A folder for PYTHONPATH, because an environment can have only one grpcio.
NEWER_GRPCIO := $(VENV)/newer-grpcio
$(NEWER_GRPCIO)/installed.stamp: requirements/newer_grpcio.txt $(VENV)/develop.stamp
	@rm -rf $(NEWER_GRPCIO)
	@$(PIP) --require-hashes --target $(NEWER_GRPCIO) -r requirements/newer_grpcio.txt
	@touch $@

.PHONY: reliability
reliability: ## measure every row of docs/reliability.md (25 minutes)
reliability: setup-develop $(NEWER_GRPCIO)/installed.stamp
	@$(PIP) --require-hashes -r requirements/system.txt
	@$(WITH_OLLAMA) $(BIN)/pytest -m row --full -q $(ARGS)

MINUTES ?= 30
MIX ?= faults
.PHONY: soak
soak: setup-develop ## measure R17 for MINUTES=n, with MIX=faults or MIX=leavers
	@$(BIN)/pytest tests/reliability/test_soak.py --full --minutes $(MINUTES) -k $(MIX) -q

.PHONY: coverage
coverage: setup-develop ## run all tests, and report the covered branches
	@$(WITH_OLLAMA) $(BIN)/pytest --cov --cov-report=term-missing:skip-covered $(ARGS)

.PHONY: lint
lint: setup-develop ## check formatting, ruff, mypy, import rules and buf
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports --no-cache
	@buf lint
	@buf format -d --exit-code

.PHONY: breaking
breaking: setup-develop ## check that the contract is compatible with earlier versions
	@scripts/breaking.sh

# Checks and tests the Go module in the folder $(1).
define check_go
	@unformatted=$$($(PYTHON) $(LAUNCHER) go $(1) run cmd/gofmt -l .); \
		[ -z "$$unformatted" ] || { echo "eudai: gofmt would change $$unformatted" >&2; exit 1; }
	@$(PYTHON) $(LAUNCHER) go $(1) vet ./...
	@$(PYTHON) $(LAUNCHER) go $(1) tool -modfile=$(CURDIR)/$(GO_TOOLS)/go.mod staticcheck ./...
	@$(PYTHON) $(LAUNCHER) go $(1) test ./...
endef

.PHONY: clients-go
clients-go: ## check and test the Go client
	$(call check_go,$(GO_CLIENT))

.PHONY: bench-go
bench-go: ## check and test the Go programs of bench/
	$(call check_go,bench)

.PHONY: clients
clients: setup-develop clients-go ## run every client through all scenarios of tests/interop, and print the table
	@$(PIP) --require-hashes -r requirements/system.txt
	@$(WITH_OLLAMA) $(BIN)/pytest tests/interop --all-scenarios -q $(ARGS)

.PHONY: check
check: test generate-check lint breaking test-image-python check-compose ## run everything that CI runs

.PHONY: check-compose
check-compose: setup-develop compose ## check docker-compose.yml with Docker Compose
	@$(BIN)/pytest tests/system/test_compose.py

.PHONY: fix
fix: setup-develop ## fix what ruff and buf can fix
	@ruff check --fix .
	@ruff format .
	@buf format -w

# ---- measure

BENCH := $(VENV)-bench
BENCH_PROGRAMS := $(addprefix $(BENCH)/bin/,fakeollama gateway load olla)

$(BENCH)/python.stamp: requirements/bench.txt
	@echo 'eudai: creating $(BENCH) …' >&2
	@$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--require-hashes -r $<
	@touch $@

$(BENCH)/bin/olla: bench/contestants/olla/go.sum $(BENCH)/python.stamp
	@$(PYTHON) $(LAUNCHER) build $(<D) github.com/thushan/olla $@

$(BENCH)/bin/%: $(wildcard bench/*/*.go bench/go.*) $(BENCH)/python.stamp
	@$(PYTHON) $(LAUNCHER) build bench ./$* $@

.PHONY: bench-setup
bench-setup: setup-develop $(BENCH_PROGRAMS)

.PHONY: bench
bench: bench-setup ## measure eudai beside its peers, and write docs/performance.md (20 minutes)
	@PYTHONPATH=tests/support $(BIN)/python -m bench.run --write $(ARGS)

.PHONY: bench-quick
bench-quick: bench-setup ## measure eudai beside few of its peers, in few cells (3 minutes)
	@PYTHONPATH=tests/support $(BIN)/python -m bench.run --quick $(ARGS)

.PHONY: bench-real
bench-real: setup-develop ## compare eudai with a real Ollama
	@PYTHONPATH=tests/support $(WITH_OLLAMA) $(BIN)/python -m bench.real

.PHONY: bench-access
bench-access: bench-setup ## measure what authentication adds to a call (three minutes)
	@PYTHONPATH=tests/support $(BIN)/python -m bench.access

# ---- generate committed files

STUBS := clients/python/src
GO_MODULE := github.com/eudai/eudai/clients/go
.PHONY: generate
generate: setup-develop $(BIN)/protoc-gen-go $(BIN)/protoc-gen-go-grpc
generate: ## generate the Python and Go stubs from proto/
	@buf build -o $(VENV)/image.binpb
	@rm -f $(STUBS)/eudai/v1/*_pb2* $(GO_CLIENT)/eudai/v1/*.pb.go
	@python -m grpc_tools.protoc --descriptor_set_in=$(VENV)/image.binpb \
		--python_out=$(STUBS) --mypy_out=quiet:$(STUBS) \
		$(patsubst proto/%,%,$(wildcard proto/eudai/v1/*.proto))
	@python -m grpc_tools.protoc --descriptor_set_in=$(VENV)/image.binpb \
		--grpc_python_out=$(STUBS) --mypy_grpc_out=quiet:$(STUBS) \
		$(patsubst proto/%,%,$(wildcard proto/eudai/v1/*_service.proto))
	@python -m grpc_tools.protoc --descriptor_set_in=$(VENV)/image.binpb \
		--go_out=$(GO_CLIENT) --go_opt=module=$(GO_MODULE) \
		--go-grpc_out=$(GO_CLIENT) --go-grpc_opt=module=$(GO_MODULE) \
		$(patsubst proto/%,%,$(wildcard proto/eudai/v1/*.proto))

.PHONY: generate-check
generate-check: generate ## check that the committed stubs are up to date
	@git diff --exit-code --stat -- $(STUBS) $(GO_CLIENT)/eudai

COMPILE := uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header
.PHONY: lock
lock: setup-develop ## resolve requirements/*.in, with hashes and without index URLs
	@cd requirements && for name in server cli develop system bench supply client_oldest \
		client_newest; do \
		$(COMPILE) --universal $$name.in -o $$name.txt; done
	@cd requirements && $(COMPILE) --universal --no-deps newer_grpcio.in -o newer_grpcio.txt
	@cd requirements && $(COMPILE) --no-deps fuzz.in -o fuzz.txt
	@cd $(LAUNCHER) && for name in python go; do \
		$(COMPILE) --no-deps $$name.in -o $$name.txt; done
