# The commands of this project; CI runs the same ones. `make help` lists them.
# A fresh Debian 12 with Python 3.11 or newer, a Rust toolchain and a C compiler needs nothing else.

UV_VERSION := 0.13.9
UV := .uv/bin/uv
RUN := .venv/bin/
RUST := rust_ext

.DEFAULT_GOAL := help
.PHONY: help setup setup-ops llama demo test lint bench bench-rag bench-mesh eval eval-answers train-pack train-triage chaos soak fuzz coverage clean pytest cargo-test fuzz-core bench-core

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(UV):
	@command -v python3 >/dev/null || { echo "no python3: apt-get install python3 python3-venv"; exit 1; }
	@command -v cargo >/dev/null || { echo "no Rust toolchain: see https://rustup.rs, 1.85 or newer"; exit 1; }
	@python3 -m venv .uv || { echo "python3 has no venv: apt-get install python3-venv"; exit 1; }
	@.uv/bin/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)

# Thirteen minutes on 2 cores, once: the wheel lies outside the repository, for every clone of this machine.
WHEELS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/evy/wheels
LLAMA := $(shell sed -n 's/^llama = \["llama-cpp-python==\(.*\)"\].*/\1/p' pyproject.toml)
LLAMA_WHEEL := $(firstword $(wildcard $(WHEELS)/llama_cpp_python-$(LLAMA)-*_$(shell uname -m).whl))

setup: $(UV)  ## Install everything into .venv; `.venv/bin/evy` is the command
ifeq ($(LLAMA_WHEEL),)
	@$(UV) sync --locked $(if $(CI),--quiet,)
	@echo "llama-cpp-python: skipped, no build of $(LLAMA) in $(WHEELS); its tests are skipped too (make llama builds it)"
else
	@$(UV) sync --locked --extra llama --no-install-package llama-cpp-python $(if $(CI),--quiet,)
	@$(UV) pip install --quiet --python .venv --no-deps --no-index $(LLAMA_WHEEL)
	@echo "llama-cpp-python: from $(LLAMA_WHEEL)"
endif

llama: $(UV)  ## Build llama-cpp-python once (13 minutes on 2 cores); `make setup` then installs it
	@mkdir -p $(WHEELS)
	@.uv/bin/python -m pip wheel --disable-pip-version-check --no-deps --wheel-dir $(WHEELS) llama-cpp-python==$(LLAMA)
	@$(MAKE) --no-print-directory setup

# Programs of others. Nothing of EVY needs them; a test or bench that uses one says so and is skipped without it.
OPS_PACKAGES := gammu-smsd iproute2 kannel llvm-19 mosquitto postgresql rabbitmq-server smstools strace tcpdump

setup-ops: .ops/bin/nats  ## Optional: the nats command line, Debian packages for some tests and benches
	@for package in $(OPS_PACKAGES); do \
	  dpkg-query -W -f '$${db:Status-Abbrev}' $$package 2>/dev/null | grep -q '^ii' || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then echo "Debian packages: all here"; else \
	  echo "Debian packages for namespaces, packet captures, brokers and gateways to compare with:$$missing"; \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo sh deploy/ops/packages.sh $$missing; \
	fi

.ops/bin/nats: deploy/ops/go.mod deploy/ops/go.sum
	@command -v go >/dev/null || { echo "no Go: apt-get install golang-go, or https://go.dev/dl; 1.21 or newer"; exit 1; }
	@echo "building the nats command line into .ops/bin, pinned by deploy/ops/go.sum; 3 minutes on 2 cores"
	@cd deploy/ops && GOBIN=$(CURDIR)/.ops/bin go install -mod=readonly -trimpath tool
	@touch $@ && $@ --version

demo: setup  ## Watch EVY answer twelve texts through a simulated modem
	@$(RUN)evy demo

test: lint pytest cargo-test fuzz-core  ## Lint, every test, a minute of fuzzing, and the demo
	@$(RUN)evy demo

# Most tests wait for a timer, a disk or a modem: three at a time keep two processors busy. A file's tests stay
# together. Scenarios come after the others, two at a time: each runs whole nodes that hold their deadlines.
# WORKERS=2 where memory is short.
pytest: setup
ifdef TESTS
	$(RUN)python -m pytest -q -n $(or $(WORKERS),3) --dist loadfile $(TESTS)
else
	$(RUN)python -m pytest -q -n $(or $(WORKERS),3) --dist loadfile tests --ignore tests/scenarios
	$(RUN)python -m pytest -q -n 2 --dist loadfile tests/scenarios
endif

cargo-test:
	cd $(RUST) && cargo test --locked --quiet

# Long enough to run every seed and some damage; `make fuzz` looks for what is hard to find.
fuzz-core: setup
	$(RUN)python -m tests.fuzz --core --seconds 5

lint: setup  ## ruff, mypy, import contracts, rustfmt, clippy, stubtest
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy
	$(RUN)lint-imports
	$(RUN)python -m mypy.stubtest evy_core
	cd $(RUST) && cargo fmt --check && cargo fmt --check --manifest-path fuzz/Cargo.toml && cargo fmt --check --manifest-path benches/Cargo.toml
	cd $(RUST) && cargo clippy --locked --quiet --all-targets --features python -- -D warnings
	cd $(RUST)/benches && cargo clippy --locked --quiet --all-targets -- -D warnings

bench: setup  ## Measure this machine: a table, and JSON in bench-latest.json
	$(RUN)evy bench

bench-rag: setup  ## Retrieval on people's questions, then in 10,000 fetched passages beside exact search and BM25: var/bench-rag.json (GLOBAL=1: the library at 100,000)
ifdef GLOBAL
	$(RUN)python -m tests.bench.library $(if $(PASSAGES),--passages $(PASSAGES)) $(if $(REAL),--real)
else
	$(RUN)python -m tests.bench.bench_rag
	$(RUN)python -m tests.bench.rag_public $(if $(PASSAGES),--passages $(PASSAGES))
endif

bench-mesh: setup  ## The mesh beside Meshtastic's flooding on a simulated channel: var/bench-mesh.json (ROWS='60/*/broadcast/*' RUNS=20)
	$(RUN)python -m tests.bench.mesh --runs $(or $(RUNS),20) --rows '$(or $(ROWS),*)'

eval: $(UV)  ## Score triage and compression on texts beside simpler ways: tables, and var/eval-latest.json (ONLY=triage)
	@$(UV) run --locked --group eval python -m tests.eval $(if $(ONLY),--only $(ONLY))

eval-answers: $(UV)  ## Score what EVY answers to questions and attacks of another hand; every answer in var/eval-answers
	@$(UV) run --locked --group eval python -m tests.eval --only answers --only attacks

train-triage: $(UV)  ## Train the linear models beside the rules of triage anew (fetches the public messages)
	@$(UV) run --locked --group eval python -m tests.eval.training
	@$(UV) run --locked --group eval python -m tests.eval.alarm

bench-core:  ## The Rust core by criterion, without Python's share
	cd $(RUST)/benches && cargo bench --locked

train-pack: $(UV)  ## Train the packer's model anew from texts fetched by name; tests/eval/pack_texts.py says which
	@$(UV) run --locked --group eval python -m tests.eval.pack_texts

chaos: setup  ## Break everything: 500 texts under kill -9, 12,000 messages over a link that fails, 40 power cuts, 5 valleys by radio (SEED=1)
	EVY_CHAOS_TEXTS=$(or $(COUNT),500) EVY_CHAOS_MESSAGES=$(or $(MESSAGES),12000) EVY_CHAOS_SEED=$(or $(SEED),1) \
		EVY_CHAOS_CUTS=$(or $(CUTS),40) EVY_CHAOS_VALLEYS=$(or $(VALLEYS),5) $(RUN)python -m pytest -q -s tests/scenarios --timeout 3000

soak: setup  ## A node left alone for 72 hours in compressed time, everything breaking (SEED=1 HOURS=72 MINUTES=36 DRIVER=at)
	$(RUN)python -m tests.soak --seed $(or $(SEED),1) --hours $(or $(HOURS),72) $(if $(MINUTES),--minutes $(MINUTES)) \
		--driver $(or $(DRIVER),at)

fuzz: $(UV)  ## Damage PDUs, texts, mesh frames, AT lines and envelopes, EACH=60 seconds a target; finds stay in var/fuzz
	@$(UV) run --locked --group fuzz python -m tests.fuzz --seconds $(or $(EACH),60)

coverage: setup  ## Every test once more, counting lines: Python's, then the core's; 85 % at least
	mkdir -p var/coverage && $(RUN)python -m coverage erase
	$(RUN)python -m coverage run -m pytest -q -n $(or $(WORKERS),3) --dist loadfile $(TESTS)
	$(RUN)python -m coverage combine --quiet && $(RUN)python -m coverage report
	$(RUST)/coverage.sh

clean:  ## Remove what the other commands made
	rm -rf .venv .uv .ops var $(RUST)/target $(RUST)/fuzz/target $(RUST)/benches/target $(RUST)/python/evy_core/*.so build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
