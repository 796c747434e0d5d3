# One command for each thing one does here. `make help` shows them.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check
ACTIONLINT_VERSION := v1.7.12
ACTIONLINT := build/tools/actionlint-$(ACTIONLINT_VERSION)/actionlint
# For packages of the system, and for tests with networks or containers of their own; they read our environment.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E)
export FOLDER VERSION TAG ONLY ELSEWHERE
export MINIO_BINARY = $(MINIO)

.DEFAULT_GOAL := help
# Every target that help shows is a command, not a file.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*## .*/\1/p' $(firstword $(MAKEFILE_LIST)))

##@ Begin here

help: ## Show this
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv

# Only the dependencies are a reason to install again: the package itself is installed editable.
$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: name a newer one, for example: make PYTHON=python3.12 $(or $(MAKECMDGOALS),setup)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing: install it (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@echo "Installing the dependencies into $(VENV); the first time this takes a few minutes."
	@$(PIP) install --no-deps --require-hashes -r requirements.lock >$(VENV)/pip.log 2>&1 && \
	 $(PIP) install --no-deps --no-build-isolation -e . >>$(VENV)/pip.log 2>&1 || \
	  { echo "The dependencies could not be installed: does pip reach a package registry (pip config list)? Its words: $(VENV)/pip.log" >&2; exit 1; }
	@touch $@

demo: setup ## Archive a data set and bring it back, here (FOLDER=a folder of your own)
	@$(BIN)/archiver demo $${FOLDER:+"$$FOLDER"}

##@ The whole service

# STACK=docker takes the containers of docker-compose.yml, for development; STACK=production those of .env alone.
ENV_FILES = --env-file .env $(if $(filter production,$(STACK)),,--env-file .development.env)
# That of the package itself: the command it installs in bin/ ends well whatever Compose said.
OWN_COMPOSE = $(firstword $(wildcard $(VENV)/lib/python*/site-packages/compose/docker-compose))
DOCKER   ?= $(or $(OWN_COMPOSE),docker compose)
COMPOSE   = $(if $(STACK),$(DOCKER) $(ENV_FILES),$(error Say which stack: STACK=docker or STACK=production))

up: $(if $(STACK),,setup) ## Start the whole service on this machine (STACK=docker: in containers)
	@$(if $(STACK),$(COMPOSE) up --detach,$(BIN)/archiver up)

down: $(if $(STACK),,setup) ## End it; its data stays (STACK=docker: the containers)
	@$(if $(STACK),$(COMPOSE) down,$(BIN)/archiver down)

# Of the embedded stack each part has a file.
logs: ## Show the logs, of one part with SERVICE=... (STACK=docker: of the containers)
	@$(if $(STACK),$(COMPOSE) logs --follow --tail 200 $(SERVICE),tail -n 200 -F "$${ARCHIVER_LOCAL_FOLDER:-.archiver}/logs/"$(or $(SERVICE),*).log)

##@ Check

# Two processes: much of a test's time is waiting for a server.
test: setup ## Run the tests (those of faults apart: make faults)
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --ignore tests/faults --ignore tests/monitoring --ignore tests/browser --ignore tests/scaling $(OPTIONS)

# Three: one of them mostly waits, for leases of the whole stack to end.
faults: setup ## Strike runs where it tells most (ARCHIVER_ALL_FAULT_POINTS=1: at every call)
	@$(BIN)/python -m pytest -n 3 --dist loadgroup -p no:randomly tests/faults $(OPTIONS)

bench: setup ## Measure beside rclone and tar (BENCH=--small, --help shows more; MINIO=its program)
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(BENCH)

# Debian's packages, where they are missing and we may install them.
monitoring: setup ## Check alert rules and remote write with a real Prometheus (installs Debian's, as root)
	@command -v promtool >/dev/null || { $(AS_ROOT) apt-get update -q; $(AS_ROOT) apt-get install -y -q --no-install-recommends prometheus; }
	@$(BIN)/python -m pytest tests/monitoring $(OPTIONS)

browser: setup ## Try the status page and Prefect's in a real browser (installs Debian's chromium, as root)
	@{ command -v chromium && command -v chromedriver; } >/dev/null || { $(AS_ROOT) apt-get update -q; $(AS_ROOT) apt-get install -y -q --no-install-recommends chromium chromium-driver; }
	@$(BIN)/python -m pytest tests/browser $(OPTIONS)

scaling: setup ## Try several Prefect servers and a second host of workers (as root; installs Debian's redis-server)
	@command -v redis-server >/dev/null || { $(AS_ROOT) apt-get update -q; $(AS_ROOT) apt-get install -y -q --no-install-recommends redis-server; }
	@$(AS_ROOT) $(BIN)/python -m pytest -p no:randomly tests/scaling $(OPTIONS)

lint: setup ## Check style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup ## Put style right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: setup ## Check types
	@$(BIN)/mypy

imports: setup ## Check that imports point one way
	@$(BIN)/lint-imports

docs: setup ## Build the documentation into build/docs; a warning is an error
	@NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --quiet --strict --clean

bandit: setup ## Look for insecure code
	@$(BIN)/bandit -c pyproject.toml -q -r src tools

audit: setup ## Look up known vulnerabilities of what the lock file names; fails where nobody knows
	@$(BIN)/python -m tools.status.audit

# Built from its module; GitHub's workflows run nowhere else, so this is all that can be known of them here.
$(ACTIONLINT):
	@command -v go >/dev/null || { echo "Go is missing: actionlint is built with it." >&2; exit 1; }
	@GOBIN=$(abspath $(@D)) go install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT_VERSION)

actionlint: $(ACTIONLINT) ## Check the workflows in .github
	@$(ACTIONLINT)

check: lint types imports docs bandit actionlint test faults ## All checks, but the audit

status: setup ## Run all checks and write STATUS.md, also when one fails (ONLY=a check)
	@$(BIN)/python -m tools.status write $${ONLY:+--only "$$ONLY"} $${ELSEWHERE:+--elsewhere "$$ELSEWHERE"}

##@ Write what is generated

reference: setup ## Write the pages of docs/ that come from the code
	@$(BIN)/python -m tools.docs

numbers: setup ## Keep the newest full-size figures of `make bench` in docs/, for STATUS.md
	@$(BIN)/python -m tools.status numbers

lock: setup ## Write requirements.lock anew from pyproject.toml, keeping the versions that still fit
	@$(PIP) install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --all-extras \
	  -o requirements.lock $(OPTIONS) pyproject.toml

##@ Release (docs/how-to/release.md)

release-prepare: setup ## Write the version and the changelog of a release (VERSION=1.2.3)
	@$(BIN)/python -m tools.release prepare "$$VERSION"

release-check: setup ## See that tag, version and changelog agree (TAG=v1.2.3)
	@$(BIN)/python -m tools.release check "$$TAG"

release-notes: setup ## Print the text of the release (TAG=v1.2.3)
	@$(BIN)/python -m tools.release notes "$$TAG"

release-archive: setup ## Write what a deployment is made from (TAG=v1.2.3)
	@$(BIN)/python -m tools.release archive "$$TAG"

release-images: setup ## Build and push the images of the release; CI does
	@$(BIN)/python -m tools.release images

release-publish: setup ## Make the GitHub Release (TAG=v1.2.3); CI does
	@$(BIN)/python -m tools.release publish "$$TAG"

images-push: setup ## Build and push the images with other tags (TAGS=latest); CI does
	@$(BIN)/python -m tools.release images $(TAGS)

status-commit: setup ## Commit STATUS.md to main; CI does
	@$(BIN)/python -m tools.status commit

##@ Tidy up

clean: ## Remove what was built and cached (the data of the service stays: .archiver)
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find src tests -type d -name __pycache__ -prune -exec rm -rf {} +

##@ The stack in containers (docs/how-to/deploy-on-a-vm.md)

build: ## Build the images (STACK=docker)
	@$(COMPOSE) --profile minio build

ps: ## Show the containers (STACK=docker)
	@$(COMPOSE) ps --all

secrets: ## Make the secrets that are missing (STACK=docker: those of development too)
	@deployment/make-secrets.sh $(if $(filter production,$(STACK)),prod,$(if $(STACK),development,prod))

certs: ## Make a certificate for development (HOST=localhost)
	@deployment/make-certs.sh $(or $(HOST),localhost)

stack-test: setup ## Bring the stack up on a Docker engine and try it (as root)
	@$(AS_ROOT) $(BIN)/python -m pytest tests/stack/live -p no:randomly -x --durations=0 --durations-min=1 $(OPTIONS)
