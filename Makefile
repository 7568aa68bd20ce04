# Everything here works in a fresh clone: scripts/bootstrap makes .venv on first use.

SHELL := /bin/sh
.DEFAULT_GOAL := help

BIN := .venv/bin
DEMO := build/demo

# The type checker comes whole from .venv: no look for newer versions, nothing downloaded.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: up
up: runtime ## run all three engines with a small example project (options: UP_FLAGS=...)
	@test -f $(DEMO)/mahavishnu.toml || $(BIN)/mahavishnu init $(DEMO) --sample-repos
	@cd $(DEMO) && exec ../../$(BIN)/mahavishnu up $(UP_FLAGS)

.PHONY: test
test: check ## run the checks, then all tests (options: PYTEST_FLAGS=...)
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

.PHONY: check
check: dev ## check format, style, layers and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/pyright
	@# Here it takes the interpreter from PATH, whatever --pythonpath says.
	@echo '$(BIN)/pyright --verifytypes mahavishnu --ignoreexternal'
	@# It fails for the one class that derives from APScheduler's, which has no types; the score is what counts.
	@said=$$(PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes mahavishnu --ignoreexternal) || true; \
		printf '%s\n' "$$said" | grep -v '^   mahavishnu'; \
		printf '%s\n' "$$said" | grep -q '^Type completeness score: 100%'

.PHONY: format
format: dev ## format the code and correct what can be corrected
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: bench
bench: dev ## run every benchmark in turn
	@for file in benchmarks/[a-z]*.py; do \
		test -f "$$file" || continue; \
		printf '\n== %s\n' "$$file"; \
		$(BIN)/python "$$file" || exit 1; \
	done

.PHONY: reference
reference: dev ## write docs/reference/ anew from the code
	$(BIN)/python scripts/reference.py

.PHONY: constraints
constraints: ## compile constraints/ from pyproject.toml (newest versions: UPGRADE=1); needs uv
	@scripts/constraints $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## remove everything that was made here, .venv and the example project too
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

.PHONY: runtime dev
runtime dev:
	@scripts/bootstrap $@
