# Everything a person or a CI run does with this tree. One profile (release), so that nothing is compiled twice.

SHELL := /bin/bash
CARGO ?= cargo
PROGRAM = $(or $(CARGO_TARGET_DIR),target)/release/gha-runner-controller
# Of the whole workspace, whichever test it is: with one set of features nothing is compiled twice.
TEST = $(CARGO) test --release --locked --workspace
# The tests of a counterpart itself.
tests_of = $(patsubst testing/$(1)/tests/%.rs,--test %,$(patsubst %/main.rs,%.rs,$(wildcard testing/$(1)/tests/*.rs testing/$(1)/tests/*/main.rs)))
# Of a suite one test at a time: many share a lab, or measure.
ONE_BY_ONE := -- --test-threads=1
# What sets, uses up or measures what all labs of a machine have in common runs alone, and what builds a server. The
# rest waits more than it computes, so that LANES suites run at the same time.
LANES ?= 3
END_TO_END = $(filter-out $(addprefix end-to-end/,host limits nixos_host soak),$(patsubst tests/root/%.rs,end-to-end/%,$(wildcard tests/root/*.rs)))

.PHONY: help build test style nix test-nix nix-options nixos-host unit command-line simulation years planted soak fuzz simulator conformance lab containers breakout leaks limits end-to-end newer-host alone lanes demo screenshots bench bench-peers setup quick

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## install what tests and the demonstration need from Debian (root)
	@tests/setup.sh

build: ## the program, its guest (static, small), the simulator, the demonstration
	$(CARGO) build --release --locked --workspace --exclude gha-runner-guest --bins
	$(CARGO) rustc --profile guest --locked --package gha-runner-guest --bin gha-runner-guest -- -C target-feature=+crt-static
	@install -C $(or $(CARGO_TARGET_DIR),target)/guest/gha-runner-guest $(dir $(PROGRAM))

test: setup style build nix unit command-line simulation simulator conformance lab alone lanes ## everything that is checked
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

test-nix: ## the Nix code with a nixpkgs, and with a stable one: make test-nix NIXPKGS=PATH NIXPKGS_STABLE=PATH
	$(CARGO) build --release --locked --workspace --bin gha-runner-controller
	@tests/nix/peak.py tests/nix/with-nixpkgs.sh "$(NIXPKGS)" "$(PROGRAM)" "$(NIXPKGS_STABLE)"

nix-options: ## write docs/options.md anew: make nix-options NIXPKGS=PATH
	@tests/nix/options.sh "$(NIXPKGS)" >docs/options.md.new && mv docs/options.md.new docs/options.md

# Of Debian's programs, without a download of Nix'.
ifdef NIXPKGS
nixos-host: build ## a NixOS host with the module, booted in the lab: make nixos-host NIXPKGS=PATH (root)
	built=$$(tests/nix/host/build.sh "$(NIXPKGS)" "$(dir $(PROGRAM))") && \
		env $$built $(TEST) --test nixos_host $(ONE_BY_ONE) --nocapture
else
nixos-host:
	@echo "skipped: no NixOS host: no nixpkgs is given (make nixos-host NIXPKGS=PATH)"
endif

unit: ## unit and property tests
	$(TEST) --lib --bins

command-line: build ## the program's commands without a host: completions, schemas, check, the guest's hook, the reference of keys (UPDATE_REFERENCE=1 writes docs/configuration.md), citations, walls
	$(TEST) --test command_line --test check --test admit --test citations --test walls --test upgrade --test hostile --test planted

simulation: ## the whole controller on a simulated clock (SIMULATION_SEEDS=n, SIMULATION_SEED=k)
	$(TEST) --test simulation

years: ## 10,000 simulated days of small hosts (SIMULATION_DAYS=n)
	SIMULATION_DAYS=$${SIMULATION_DAYS:-10000} $(TEST) --test simulation -- years_of_histories --nocapture

planted: ## plant faults into a copy of the tree, and see that the simulation catches each: some ten minutes
	$(TEST) --test planted -- --ignored --nocapture

fuzz: ## hostile bytes for each parser, from a kept corpus: 10 minutes each (FUZZ_SECONDS=n)
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} $(TEST) --test hostile -- --nocapture

simulator: ## the simulated GitHub and the stand-in runner
	$(TEST) $(call tests_of,github-sim)

conformance: ## client and simulated GitHub against GitHub's own client (with Go) and its own descriptions (with npm)
	$(TEST) --test scale_set --test conformance --test openapi -- --nocapture

lab: build ## the lab itself (root)
	$(TEST) $(call tests_of,lab) $(ONE_BY_ONE)

containers: build containers/alone containers/rest ## container units on a real systemd host, without a controller (root)

containers/alone:
	$(TEST) --test containers $(ONE_BY_ONE) boots:: everything::

containers/rest:
	$(TEST) --test containers $(ONE_BY_ONE) --skip boots:: --skip everything::

# One after the other: both count the loop devices of jobs, which are the machine's.
containers/both:
	@$(MAKE) --no-print-directory --keep-going --jobs=1 containers/rest newer-host/containers

breakout: build ## what jobs could try against the host and each other (BREAKOUT_UPDATE=1 writes docs/security.md) (root)
	$(TEST) --test breakout $(ONE_BY_ONE) --nocapture

leaks: build ## 500 container lives in a row, 20 at once, and nothing is left; `end-to-end` has 60 (LIVES=n) (root)
	LIVES=$${LIVES:-500} $(TEST) --test leaks $(ONE_BY_ONE) --nocapture

soak: build ## 2,000 real jobs, six at a time, while something fails every few seconds (SOAK_JOBS=n, SOAK_SEED=k) (root)
	SOAK_JOBS=$${SOAK_JOBS:-2000} $(TEST) --test soak $(ONE_BY_ONE) --nocapture

limits: build ## limits in a virtual machine, where the kernel enforces them (root)
	$(TEST) --test limits $(ONE_BY_ONE) --nocapture

end-to-end: build end-to-end/host end-to-end/gitea $(END_TO_END) ## the product in the lab against the simulated GitHub (root)

end-to-end/%:
	$(TEST) --test $* $(ONE_BY_ONE)

newer-host: build newer-host/alone newer-host/trust newer-host/jobs newer-host/containers ## the same where the host's systemd is newer (257, Debian 13): rights, containers, breakout, one end-to-end; GHA_LAB_SUITE does so for any suite (root)

newer-host/alone:
	GHA_LAB_SUITE=trixie $(TEST) --test breakout $(ONE_BY_ONE)
	GHA_LAB_SUITE=trixie $(TEST) --test containers $(ONE_BY_ONE) everything::

# The rest of it names its hosts' releases itself.
newer-host/containers:
	GHA_LAB_SUITE=trixie $(TEST) --test containers $(ONE_BY_ONE) --skip recipes:: --skip boots:: --skip oci:: --skip everything::

newer-host/%:
	GHA_LAB_SUITE=trixie $(TEST) --test $* $(ONE_BY_ONE)

alone: build containers/alone breakout limits end-to-end/host end-to-end/gitea newer-host/alone ## of the suites that need root, those that want the machine for themselves

lanes: build ## the other suites that need root, LANES=3 at a time; what one prints comes when it ends
	$(TEST) --no-run
	@$(MAKE) --no-print-directory --keep-going --jobs=$(LANES) --output-sync=target \
		containers/both newer-host/trust newer-host/jobs $(END_TO_END)

demo: setup build ## watch queued jobs become containers and leave nothing (root)
	@$(dir $(PROGRAM))demo

screenshots: setup build ## draw the dashboard's pictures in docs/dashboard anew (root)
	GHA_SCREENSHOTS="$(CURDIR)/docs/dashboard" $(TEST) --test dashboard $(ONE_BY_ONE)

bench: setup build ## measure; prints tables, never fails on a time (root)
	@$(dir $(PROGRAM))bench

bench-peers: setup build ## the same job through what people use instead, side by side (root)
	@$(dir $(PROGRAM))bench --peers
