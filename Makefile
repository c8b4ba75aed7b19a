# Two commands a newcomer needs: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
PROTO_BIN := .venv-proto/bin
INTEGRATIONS_BIN := .venv-integrations/bin
PROTOC := $(PROTO_BIN)/python -m grpc_tools.protoc -Iproto
PROTOS := $(wildcard proto/agentlightning/v1/*.proto)
# The contract as each release froze it: what every later change is held against.
RELEASED := $(wildcard proto/released/*.binpb)
# What a dependency group of pyproject.toml names, one line an entry: pip learnt to read groups in 25.1.
GROUP := $(PYTHON) -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")'

GO_RUNNER := examples/go_runner
TS_RUNNER := examples/ts_runner
JAVA_AGENT := examples/any_command/java
# What the tests of other languages need, a line a toolchain; make skips those of toolchains that are not here, and says so.
GO_PARTS := .tools/bin/grpcurl $(addprefix $(GO_RUNNER)/bin/,conformance rooms)
NODE_PARTS := $(TS_RUNNER)/dist/runner.js
JAVA_PARTS := $(JAVA_AGENT)/target/agent-1.jar

.DEFAULT_GOAL := help
.PHONY: help demo demo-go demo-ts install test others test-python test-conformance test-rest test-integrations faults bench bench-peer bench-apo lint types imports proto proto-go proto-ts proto-check proto-release format clean

help:  ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

demo: .venv/installed  ## Watch an agent's prompt get better, in about a minute
	$(BIN)/python examples/room_selector/room_selector_apo.py

demo-go: .venv/installed $(GO_RUNNER)/bin/rooms  ## The same with an agent in Go
	$(BIN)/python examples/room_selector/train_runner.py $(GO_RUNNER)/bin/rooms

demo-ts: .venv/installed $(TS_RUNNER)/dist/runner.js  ## The same with an agent in TypeScript
	$(BIN)/python examples/room_selector/train_runner.py node $(TS_RUNNER)/dist/rooms.js

install: .venv/installed  ## Make .venv with the project in it

test: proto-check  ## Everything CI checks
	@$(MAKE) --no-print-directory --jobs=2 --output-sync lint types imports others
	@$(MAKE) --no-print-directory test-python

others:  ## Build what is in other languages, and say which of their toolchains are not here
	@$(call build_with,go,$(GO_PARTS))
	@$(call build_with,npm,$(NODE_PARTS))
	@$(call build_with,mvn,$(JAVA_PARTS))
	@command -v jq >/dev/null || echo "SKIPPED, as there is no jq here: the commands of docs/grpcurl.md, and the agents in shell"

# Side by side: the conformance suite mostly waits.
test-python: .venv/dev  ## The tests alone
	@$(MAKE) --no-print-directory --jobs=2 test-conformance test-rest

test-conformance: .venv/dev  ## What every runner must do, played to ours
	$(BIN)/python -m pytest tests/conformance

test-rest: .venv/dev
	$(BIN)/python -m pytest --ignore=tests/conformance

test-integrations: .venv-integrations/installed  ## The tests with other people's agent packages, which it installs
	$(INTEGRATIONS_BIN)/python -m pytest -W default --disable-warnings tests/sdk/integrations  # what they warn of is theirs

faults: .venv/dev  ## The fault tests at length, with their counts
	AGL_TEST_LENGTH=long $(BIN)/python -m pytest tests/faults tests/conformance/test_suite.py

bench: .venv/installed  ## Measure this machine's store, in under five minutes
	$(BIN)/python tests/benchmarks

bench-peer: .venv/installed  ## The same beside agentlightning 0.3.0, which it installs for itself
	$(BIN)/python tests/benchmarks --peer

bench-apo: .venv/installed  ## Prompt optimizers beside each other in simulated worlds, in about ten minutes
	$(BIN)/python tests/benchmarks/bench_apo.py

lint: .venv/dev  ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev  ## mypy --strict
	$(BIN)/mypy

imports: .venv/dev  ## The one direction of imports
	$(BIN)/lint-imports

proto: .venv-proto/installed  ## Generate the stubs from proto/
	$(PROTOC) --plugin=protoc-gen-mypy=$(PROTO_BIN)/protoc-gen-mypy --python_out=sdk --mypy_out=quiet:sdk $(PROTOS)
	$(PROTOC) --plugin=protoc-gen-mypy_grpc=$(PROTO_BIN)/protoc-gen-mypy_grpc \
	  --grpc_python_out=sdk --mypy_grpc_out=quiet:sdk proto/agentlightning/v1/store_service.proto
	@$(call build_with,go,proto-go)
	@$(call build_with,npm,proto-ts)

proto-go: .tools/bin/protoc-gen-go .tools/bin/protoc-gen-go-grpc
	$(PROTO_BIN)/buf generate --clean

proto-ts: $(TS_RUNNER)/node_modules/.package-lock.json
	$(PROTO_BIN)/buf generate --template $(TS_RUNNER)/buf.gen.yaml --clean

proto-check: .venv-proto/installed  ## buf lint, and fail when a change breaks a released contract or the stubs are stale
	$(PROTO_BIN)/buf lint
	$(PROTO_BIN)/buf format --diff --exit-code
	for image in $(RELEASED); do $(PROTO_BIN)/buf breaking --against $$image || exit 1; done
	$(MAKE) --no-print-directory proto
	git diff --exit-code -- sdk/agentlightning/v1 $(GO_RUNNER)/agentlightningv1 $(TS_RUNNER)/src/gen || (echo 'stubs are stale: commit what make proto wrote'; exit 1)

format: .venv/dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what the targets above made
	rm -rf .venv .venv-proto .venv-integrations .tools .agentlightning
	rm -rf $(GO_RUNNER)/bin $(TS_RUNNER)/node_modules $(TS_RUNNER)/dist $(JAVA_AGENT)/target

proto-release: proto-check  ## Freeze the contract under the version of pyproject.toml
	$(PROTO_BIN)/buf build --exclude-source-info --output \
	  proto/released/v$$($(PYTHON) -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])').binpb

define build_with
if ! command -v $(1) >/dev/null; then echo "SKIPPED, as there is no $(1) here, with all tests of it: $(2)"; \
elif [ -n "$(2)" ]; then $(MAKE) --no-print-directory $(2); fi
endef

.tools/bin/grpcurl: Makefile
	GOBIN=$(CURDIR)/.tools/bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
	touch $@

.tools/bin/protoc-gen-go: Makefile
	GOBIN=$(CURDIR)/.tools/bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
	touch $@

.tools/bin/protoc-gen-go-grpc: Makefile
	GOBIN=$(CURDIR)/.tools/bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
	touch $@

$(GO_RUNNER)/bin/%: $(GO_RUNNER)/go.sum $(shell find $(GO_RUNNER) -name '*.go') $(GO_RUNNER)/runner/service_config.json
	cd $(GO_RUNNER) && go build -buildvcs=false -o bin/$* ./cmd/$*
	touch $@

$(TS_RUNNER)/node_modules/.package-lock.json: $(addprefix $(TS_RUNNER)/,package.json package-lock.json .npmrc)
	cd $(TS_RUNNER) && npm ci --no-audit --no-fund
	touch $@

$(TS_RUNNER)/dist/runner.js: $(TS_RUNNER)/node_modules/.package-lock.json $(TS_RUNNER)/tsconfig.json $(shell find $(TS_RUNNER)/src -name '*.ts')
	rm -rf $(TS_RUNNER)/dist
	cd $(TS_RUNNER) && npm run --silent build
	touch $@

$(JAVA_AGENT)/target/agent-1.jar: $(addprefix $(JAVA_AGENT)/,pom.xml Agent.java)
	mvn --quiet --batch-mode --file $< package
	touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/dev: .venv/installed
	$(GROUP) dev | $(BIN)/python -m pip install --quiet --requirement /dev/stdin
	touch $@

# A venv of its own: stubs that import on protobuf 5.26 to 7 come from a generator that wants an older protobuf.
.venv-proto/installed: Makefile
	$(PYTHON) -m venv .venv-proto
	$(PROTO_BIN)/python -m pip install --quiet 'grpcio-tools==1.63.2' 'mypy-protobuf==3.6.0' 'setuptools<81' 'buf-bin==1.75.0'
	touch $@

# A venv of its own: nobody who works on the rest should install what these packages bring.
.venv-integrations/installed: pyproject.toml
	$(PYTHON) -m venv .venv-integrations
	($(GROUP) integrations; echo --editable .) | $(INTEGRATIONS_BIN)/python -m pip install --quiet --requirement /dev/stdin
	touch $@
