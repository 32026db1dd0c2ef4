# Everything a person or a CI run does with this tree. One profile (release), so that nothing is compiled twice.

SHELL := /bin/bash
CARGO ?= cargo
PROGRAM = $(or $(CARGO_TARGET_DIR),target)/release/gha-runner-controller
# Labs and benchmarks want the machine for themselves.
ALONE := -- --test-threads=1

.PHONY: help build test style nix test-nix nix-options unit command-line simulation simulator conformance lab containers breakout leaks limits end-to-end demo screenshots bench setup

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## install what tests and the demonstration need from Debian (root)
	@tests/setup.sh

build: ## the program, the simulator, the demonstration
	$(CARGO) build --release --locked --workspace --bins

test: setup style build nix unit command-line simulation simulator conformance lab containers breakout limits end-to-end ## everything that is checked
	@echo "all checks passed"

style: ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

nix: build ## the Nix code as far as it goes without nixpkgs
	@tests/nix/everywhere.sh
	@tests/nix/units.sh "$(PROGRAM)"

test-nix: build ## the Nix code with a nixpkgs: make test-nix NIXPKGS=PATH
	@tests/nix/with-nixpkgs.sh "$(NIXPKGS)" "$(PROGRAM)"

nix-options: ## write docs/options.md anew: make nix-options NIXPKGS=PATH
	@tests/nix/options.sh "$(NIXPKGS)" >docs/options.md.new && mv docs/options.md.new docs/options.md

unit: ## unit and property tests
	$(CARGO) test --release --locked --workspace --lib --bins

command-line: ## the program's commands without a host: completions, schemas, exit statuses, check, the guest's hook
	$(CARGO) test --release --locked --test command_line --test check --test guest_admit

simulation: ## the whole controller on a simulated clock (SIMULATION_SEEDS=n, SIMULATION_SEED=k)
	$(CARGO) test --release --locked --test simulation

simulator: ## the simulated GitHub and the stand-in runner
	$(CARGO) test --release --locked -p github-sim --tests

conformance: ## the scale set client against the simulated GitHub, and beside GitHub's own client if Go is here
	$(CARGO) test --release --locked --test scale_set --test conformance -- --nocapture

lab: build ## the lab itself (root)
	$(CARGO) test --release --locked -p lab --tests $(ALONE)

containers: build ## container units on a real systemd host, without a controller (root)
	$(CARGO) test --release --locked --test containers $(ALONE)

breakout: build ## what jobs could try against the host and each other (BREAKOUT_UPDATE=1 writes docs/security.md) (root)
	$(CARGO) test --release --locked -p breakout --tests $(ALONE) --nocapture

leaks: build ## 500 container lives in a row, 20 at once, and nothing is left; `end-to-end` has 60 (LIVES=n) (root)
	LIVES=$${LIVES:-500} $(CARGO) test --release --locked -p end-to-end --test leaks $(ALONE) --nocapture

limits: build ## limits in a virtual machine, where the kernel enforces them (root)
	$(CARGO) test --release --locked --test limits $(ALONE) --nocapture

end-to-end: build ## the product in the lab against the simulated GitHub (root)
	$(CARGO) test --release --locked -p end-to-end --tests --no-fail-fast $(ALONE)

demo: setup build ## watch queued jobs become containers and leave nothing (root)
	@$(CARGO) run --release --locked --quiet -p end-to-end --bin demo

screenshots: setup build ## draw the dashboard's pictures in docs/dashboard anew (root)
	GHA_SCREENSHOTS="$(CURDIR)/docs/dashboard" $(CARGO) test --release --locked -p end-to-end --test dashboard $(ALONE)

bench: setup build ## measure; prints tables, never fails on a time (root)
	@$(CARGO) run --release --locked --quiet -p end-to-end --bin bench
