# `make` alone lists what there is. Everything runs in .venv, which is made on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
EMBEDDED := $(BIN)/python -m loyalty_site.embedded --
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/.installed ## install what the lock files name into .venv

$(VENV)/.installed: requirements.txt tests/requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt -r tests/requirements.txt
	@touch $@

.PHONY: demo
demo: venv ## 18 months of a real shop's purchases, warned about and expired; a card in two wallets
	@$(EMBEDDED) $(BIN)/python manage.py demo

.PHONY: run
run: venv ## web, worker and beat on the demo's data; Ctrl-C stops everything
	@$(EMBEDDED) $(BIN)/python manage.py run

.PHONY: shell
shell: venv ## a shell with the engines running: manage.py and celery work in it
	@$(EMBEDDED) env PATH="$(CURDIR)/$(BIN):$$PATH" $${SHELL:-/bin/sh}

.PHONY: test
test: venv ## the whole suite on real PostgreSQL and Valkey
	@$(BIN)/pytest

.PHONY: test-slow
test-slow: venv ## what takes minutes: the whole purchase log, faults at full size
	@$(BIN)/pytest -m slow --no-cov

.PHONY: test-alerts
test-alerts: venv ## a real Prometheus sees alerts fire and end while worker, beat, mail and others are broken
	@$(BIN)/pytest -m slow -n0 --no-cov tests/house/test_alerts_fire.py

.PHONY: check
check: venv ## lint, format, types, import contract, migrations, the APIs' description
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports --no-cache
	@$(EMBEDDED) $(BIN)/python manage.py makemigrations --check --dry-run
	@$(EMBEDDED) $(BIN)/python manage.py lint_migrations
	@$(EMBEDDED) $(BIN)/python manage.py check
	@mkdir -p .cache
	@$(EMBEDDED) $(BIN)/python manage.py spectacular --validate --fail-on-warn --file .cache/openapi.yaml
	@cmp .cache/openapi.yaml docs/openapi.yaml || (echo "docs/openapi.yaml is behind the code: run make openapi"; exit 1)

.PHONY: check-slow
check-slow: venv ## thousands of requests made from the OpenAPI document, by every role, and mutants of the alerts
	@$(BIN)/pytest -m slow -n0 --no-cov -s tests/fuzz tests/house/test_alerts_mutated.py

.PHONY: format
format: venv ## put the code into its format
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: openapi
openapi: venv ## write docs/openapi.yaml from the code
	@$(EMBEDDED) $(BIN)/python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

.PHONY: lock
lock: venv ## write the lock files from requirements.in and tests/requirements.in
	@$(BIN)/uv pip compile --quiet requirements.in --python-version 3.11 --universal --generate-hashes --no-strip-extras -o requirements.txt
	@$(BIN)/uv pip compile --quiet tests/requirements.in --python-version 3.11 --universal --generate-hashes --no-strip-extras -o tests/requirements.txt

.PHONY: bench-expiry
bench-expiry: venv ## set-based expiry against a per-card ORM loop, side by side
	@$(BIN)/python -m tests.bench.expiry

.PHONY: bench-wallet
bench-wallet: venv ## passes built, served and told of, beside bare loops that do the dear part alone
	@$(BIN)/python -m tests.bench.wallet

.PHONY: clean
clean: ## remove .venv, the demo's data and caches
	@rm -rf $(VENV) .local .cache .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis staticfiles
