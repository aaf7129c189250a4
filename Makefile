# dconnect: `make demo` shows it, `make test` proves it. Both install what they need.

PYTHON ?= python3
BIN := .venv/bin
ROOMS := agent cli core dns proxy tunnel
# Strict editable installs link file by file, so a new file (a changed folder) means a new install.
FOLDERS := $(shell find $(ROOMS) -type d -not -name __pycache__)
# The load generator is compiled where it is used.
COMPILER := gcc libc6-dev
# Other people's clients, which the tests run for real.
CLIENTS := chromium dnsmasq-base firefox-esr git golang-go iperf3 iputils-ping musl-tools ncat netcat-openbsd \
	nmap nodejs openssh-client openssh-server redis-tools unbound wget
# What measures, and the tunnels whose clients run on the host.
MEASURED := dnsperf iputils-ping openvpn wireguard-go wireguard-tools
PACKAGES := $(foreach room,$(ROOMS),-p dconnect.$(room))

# Our dns/ must never shadow dnspython: the working directory stays off sys.path.
export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check unit e2e bench soak mutants install prerequisites clean

help: ## this text
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: install ## reach real containers by proxy, by name and by address, then clean up
	$(BIN)/python tests/bed/demo.py

test: check unit e2e ## everything, in about twenty-five minutes

check: install ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/mypy tests
	$(BIN)/lint-imports

unit: install ## everything that needs no engine
	$(BIN)/pytest --numprocesses auto tests/unit tests/conformance tests/fuzz

e2e: install ## the real engine, real clients, a host that cannot route
	sh tests/bed/prerequisites.sh $(COMPILER) $(CLIENTS)
	$(BIN)/pytest tests/e2e

bench: install ## side by side with its peers, half an hour (PART=dns: five minutes); writes bench/results.json
	sh tests/bed/prerequisites.sh $(COMPILER) $(MEASURED)
	$(BIN)/python tests/bench/run.py $(PART)

soak: install ## a million connections, crowds, aborts, fuzz, tunnel: 45 minutes; writes soak/results.json
	sh tests/bed/prerequisites.sh $(COMPILER)
	$(BIN)/python tests/soak/run.py

mutants: install ## plant faults, one at a time, and show which test turns red
	$(BIN)/python tests/mutate.py

install: prerequisites .venv/installed ## the virtual environment

prerequisites: ## Debian packages, when something is missing and we are root
	sh tests/bed/prerequisites.sh

.venv/installed: pyproject.toml $(FOLDERS) | prerequisites
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	rm -rf build/__editable__.*
	$(BIN)/pip install --quiet --group dev --editable . --config-settings editable_mode=strict
	touch $@

clean: ## forget the virtual environment and caches
	rm -rf .venv .cache build dist *.egg-info
