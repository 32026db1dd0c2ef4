# Everything a person or a CI run does with this tree. One profile (release), so that nothing is compiled twice.

SHELL := /bin/bash
CARGO ?= cargo
PROGRAM = $(or $(CARGO_TARGET_DIR),target)/release/gha-runner-controller
# Of the whole workspace, whichever test it is: with one set of features nothing is compiled twice.
TEST = $(CARGO) test --release --locked --workspace
# The tests of a counterpart itself.
tests_of = $(patsubst testing/$(1)/tests/%.rs,--test %,$(patsubst %/main.rs,%.rs,$(wildcard testing/$(1)/tests/*.rs testing/$(1)/tests/*/main.rs)))
END_TO_END = $(patsubst tests/root/%.rs,--test %,$(filter-out tests/root/limits.rs,$(wildcard tests/root/*.rs)))
# Labs and benchmarks want the machine for themselves.
ALONE := -- --test-threads=1

.PHONY: help build test style nix test-nix nix-options nixos-host unit command-line simulation simulator conformance lab containers breakout leaks limits end-to-end newer-host demo screenshots bench setup quick

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## install what tests and the demonstration need from Debian (root)
	@tests/setup.sh

build: ## the program, its guest (static, small), the simulator, the demonstration
	$(CARGO) build --release --locked --workspace --exclude gha-runner-guest --bins
	$(CARGO) rustc --profile guest --locked --package gha-runner-guest --bin gha-runner-guest -- -C target-feature=+crt-static
	@install -C $(or $(CARGO_TARGET_DIR),target)/guest/gha-runner-guest $(dir $(PROGRAM))

test: setup style build nix unit command-line simulation simulator conformance lab containers breakout limits end-to-end newer-host ## everything that is checked
	@echo "all checks passed"

style: ## formatting, lints, spelling, and what is linked: licences, duplicates, sources, advisories
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	@tests/style.sh

quick: style unit command-line ## what needs no root, with a shorter simulation
	SIMULATION_SEEDS=4 $(TEST) --test simulation

nix: build ## the Nix code as far as it goes without nixpkgs
	@tests/nix/everywhere.sh
	@tests/nix/docker.sh
	@tests/nix/units.sh "$(PROGRAM)"

test-nix: ## the Nix code with a nixpkgs: make test-nix NIXPKGS=PATH
	$(CARGO) build --release --locked --workspace --bin gha-runner-controller
	@tests/nix/with-nixpkgs.sh "$(NIXPKGS)" "$(PROGRAM)"

nix-options: ## write docs/options.md anew: make nix-options NIXPKGS=PATH
	@tests/nix/options.sh "$(NIXPKGS)" >docs/options.md.new && mv docs/options.md.new docs/options.md

# Of Debian's programs, without a download of Nix'.
ifdef NIXPKGS
nixos-host: build ## a NixOS host with the module, booted in the lab: make nixos-host NIXPKGS=PATH (root)
	built=$$(tests/nix/host/build.sh "$(NIXPKGS)" "$(dir $(PROGRAM))") && \
		env $$built $(TEST) --test nixos_host $(ALONE) --nocapture
else
nixos-host:
	@echo "skipped: no NixOS host: no nixpkgs is given (make nixos-host NIXPKGS=PATH)"
endif

unit: ## unit and property tests
	$(TEST) --lib --bins

command-line: build ## the program's commands without a host: completions, schemas, check, the guest's hook, the reference of keys (UPDATE_REFERENCE=1 writes docs/configuration.md), citations, walls
	$(TEST) --test command_line --test check --test admit --test citations --test walls

simulation: ## the whole controller on a simulated clock (SIMULATION_SEEDS=n, SIMULATION_SEED=k)
	$(TEST) --test simulation

simulator: ## the simulated GitHub and the stand-in runner
	$(TEST) $(call tests_of,github-sim)

conformance: ## client and simulated GitHub against GitHub's own client (with Go) and its own descriptions (with npm)
	$(TEST) --test scale_set --test conformance --test openapi -- --nocapture

lab: build ## the lab itself (root)
	$(TEST) $(call tests_of,lab) $(ALONE)

containers: build ## container units on a real systemd host, without a controller (root)
	$(TEST) --test containers $(ALONE)

breakout: build ## what jobs could try against the host and each other (BREAKOUT_UPDATE=1 writes docs/security.md) (root)
	$(TEST) --test breakout $(ALONE) --nocapture

leaks: build ## 500 container lives in a row, 20 at once, and nothing is left; `end-to-end` has 60 (LIVES=n) (root)
	LIVES=$${LIVES:-500} $(TEST) --test leaks $(ALONE) --nocapture

limits: build ## limits in a virtual machine, where the kernel enforces them (root)
	$(TEST) --test limits $(ALONE) --nocapture

end-to-end: build ## the product in the lab against the simulated GitHub (root)
	$(TEST) $(END_TO_END) --no-fail-fast $(ALONE)

newer-host: build ## the same where the host's systemd is newer (257, Debian 13): rights, containers, breakout, one end-to-end; GHA_LAB_SUITE does so for any suite (root)
	GHA_LAB_SUITE=trixie $(TEST) --test trust --test breakout --test jobs $(ALONE)
	@# The rest of it names its hosts' releases itself.
	GHA_LAB_SUITE=trixie $(TEST) --test containers $(ALONE) --skip recipes:: --skip boots:: --skip oci::

demo: setup build ## watch queued jobs become containers and leave nothing (root)
	@$(dir $(PROGRAM))demo

screenshots: setup build ## draw the dashboard's pictures in docs/dashboard anew (root)
	GHA_SCREENSHOTS="$(CURDIR)/docs/dashboard" $(TEST) --test dashboard $(ALONE)

bench: setup build ## measure; prints tables, never fails on a time (root)
	@$(dir $(PROGRAM))bench
