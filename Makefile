# `make` alone says what each command does. Every command does the set-up it needs; state lives under .local/.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .local/venvs/airflow/bin/python
LOCAL := $(PY) -m include.local
export PYTHONPATH := $(CURDIR):$(CURDIR)/plugins
export AIRFLOW_HOME ?= $(CURDIR)/.local/airflow
# dbt's and Cosmos' anonymous usage statistics stay off everywhere.
export DO_NOT_TRACK := 1
# Hundreds of processes import the project; each would compile it anew.
unexport PYTHONDONTWRITEBYTECODE
export AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV ?= $(CURDIR)/.local/venvs/warehouse
# Narrow a command: make demo ONLY=finance, make bench ONLY=parse, make test ONLY=tests/plugins
ONLY ?=
# A part of the platform, as `make status` names it
PART ?=

.PHONY: help setup demo test up down restart status lint check-contracts check-sources bench package-mwaa manifest docs lock clean

help: ## say what each command does
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## build the environments (skipped when nothing changed)
	@include/local/setup.sh

demo: setup ## run the main job on the local platform and show its results (ONLY=finance)
	@$(LOCAL) demo $(if $(ONLY),--only $(ONLY))

test: setup ## run all tests (ONLY=tests/plugins runs a part)
	@$(PY) -m pytest -n $${TEST_WORKERS:-2} --dist loadfile --no-loadscope-reorder -q $(ONLY)

up: setup ## start the local platform: Airflow and the stand-ins (NO_LOGIN=1 for a UI without login)
	@$(LOCAL) up

down: setup ## stop what `make up` started, and nothing else
	@$(LOCAL) down

restart: setup ## start a part again that died (PART=scheduler)
	@$(LOCAL) restart $(PART)

status: setup ## say what runs, where, and what died
	@$(LOCAL) status

lint: setup ## ruff and mypy; checks, never fixes
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

check-contracts: setup ## validate every data contract, compile its checks and compare them with the dbt models (ONLY=product)
	@$(PY) -m include.contracts $(if $(ONLY),--only $(ONLY))

check-sources: setup ## lint the sources of security logs: paths that match no sample, attributes that the class lacks, missing ones (ONLY=source, WRITE=1 renews classes.json)
	@$(PY) -m include.ingestion.ocsf.check $(if $(ONLY),--only $(ONLY)) $(if $(WRITE),--write)

bench: setup ## measure against named baselines; writes build/bench/*.json (ONLY=parse runs one)
	@$(PY) -m bench $(ONLY)

package-mwaa: setup ## write dist/mwaa: dags folder, plugins.zip, requirements.txt, startup script
	@$(LOCAL) package-mwaa

manifest: setup ## refresh dbt_project/manifest.json and column_lineage.json, which DAGs and their tasks read
	@$(PY) -m include.warehouse.manifest && $(PY) -m include.local.lineage

docs: setup ## refresh the generated parts of the documentation
	@$(LOCAL) docs

lock: setup ## compile the lock files from requirements*.txt (MWAA_CONSTRAINTS=file or URL)
	@include/local/lock.sh

clean: ## stop the local platform and delete .local/, build/ and dist/
	@if [ -x $(PY) ]; then $(LOCAL) down; fi
	@rm -rf .local build dist
