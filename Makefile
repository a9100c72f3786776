# All that one does with this repository. `make` lists it.
#
# Tools and build results lie outside the clone, under FIRN_CACHE, so that fresh clones share them.

export FIRN_CACHE ?= $(HOME)/.cache/firn
export CARGO_TARGET_DIR ?= $(FIRN_CACHE)/target

CARGO_BUILD := cargo build --locked --workspace --all-targets
SYSTEM := cargo test --locked --workspace --test system --

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Load a real history, follow it, replay a key, query it, open its table elsewhere
	$(CARGO_BUILD)
	$(CARGO_TARGET_DIR)/debug/firn demo --python "$$(tests/tools/install venv)/bin/python"

.PHONY: test
test: ## Everything that must hold: format, lints, laws of the house, all tests, other engines, the notebook
	tests/tools/check

.PHONY: lint
lint: ## Format and lints only
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings

.PHONY: test-stores
test-stores: ## Which S3 servers the probe takes and which it refuses (builds MinIO, rclone, s3s-fs; a few minutes once)
	tests/tools/install versitygw minio rclone s3s-fs s3mock
	$(CARGO_BUILD)
	$(SYSTEM) --include-ignored stores::

.PHONY: test-rck
test-rck: ## The Iceberg project's own compatibility kit against the REST catalog (220 MB once; minutes)
	tests/tools/install rck
	$(CARGO_BUILD)
	$(SYSTEM) --include-ignored --nocapture rest::the_compatibility_kit

.PHONY: test-crash
test-crash: ## kill -9 sixty times under load, on a local folder and on S3; prints where each struck
	tests/tools/install versitygw
	$(CARGO_BUILD)
	FIRN_KILLS=60 $(SYSTEM) --nocapture --test-threads=1 crash::

.PHONY: simulate
simulate: ## Nodes, clients and store in one thread: SEEDS=200 many seeds, then the planted bugs; SEED=17 one again, with its trace
	SEEDS=$(or $(SEEDS),200) OPERATIONS=$(or $(OPERATIONS),300) PLANTED=$(or $(PLANTED),1) cargo test --locked --workspace --test simulate

.PHONY: model
model: ## The protocol's model, explored further than the tests do (minutes); prints states, depths, and how each rule's absence shows
	cargo run --locked --package model

.PHONY: fuzz
fuzz: ## One fuzz target for a while, from the inputs that were kept: make fuzz TARGET=decoder SECONDS=600
	fuzz/run "$(TARGET)" "$(SECONDS)"

.PHONY: torture
torture: ## 1,000 SIGKILL and 200 SIGSTOP on three processes over one store, a local folder and S3 (an hour; FIRN_KILLS, FIRN_STOPS, FIRN_SEED)
	tests/tools/install venv versitygw
	$(CARGO_BUILD)
	FIRN_KILLS=$(or $(FIRN_KILLS),1000) FIRN_STOPS=$(or $(FIRN_STOPS),200) FIRN_RECOVERY_MB=$(or $(FIRN_RECOVERY_MB),100) \
		nice $(SYSTEM) --nocapture --test-threads=1 torture::

.PHONY: bench
bench: ## A table of figures, each beside its baseline (release build: a long one, once)
	cargo build --locked --release --workspace --bins
	$(CARGO_TARGET_DIR)/release/firn-bench

.PHONY: notebook
notebook: ## Runs the notebook against a server and keeps its outputs in the file
	tests/tools/install venv
	$(CARGO_BUILD)
	FIRN_STORE_OUTPUTS=1 $(SYSTEM) notebook::

.PHONY: clean-cache
clean-cache: ## Removes tools and build results
	rm -rf "$(FIRN_CACHE)/tools" "$(FIRN_CACHE)/target"
