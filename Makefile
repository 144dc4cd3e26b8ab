# `make` alone lists the targets. Every target may be run again at any time.

CARGO_DEB = 3.8.0
CARGO_DENY = 0.20.2
CARGO_FUZZ = 0.13.2
TARGET = $(abspath $(or $(CARGO_TARGET_DIR),target))
DEB = $(TARGET)/debian/deploy-agent.deb
RPM = $(TARGET)/rpm/deploy-agent.rpm
NEXT_RPM = $(RPM:.rpm=-next.rpm)
DEV_DEB = $(DEB:.deb=-dev.deb)
FAILPOINTS_DEB = $(DEB:.deb=-failpoints.deb)
SHIP = $(TARGET)/ship/ship
SHIP_DEB = $(TARGET)/debian/ship.deb
SHIP_DEV_DEB = $(SHIP_DEB:.deb=-dev.deb)

# cargo selects a dependency's features for each requested set of packages and targets, and
# compiles it again if they differ. All calls in the dev profile request the whole workspace
# and a test, so that their features agree.
BUILD = cargo build --locked --workspace
TEST = cargo test --locked --workspace
XTASK = $(TARGET)/debug/xtask

# How long each target of `make fuzz` runs.
SECONDS = 60
FUZZ = $(addprefix fuzz-,procfile env url settings archive)

.PHONY: help check packer deny deb rpm next-rpm dev-deb failpoints-deb ship-binary ship-deb ship-dev-deb test test-debian-13 stores ship rollout rollout-ssm simulation upgrade crash-matrix apps image kernel soak bench bench-handover demo instance fuzz $(FUZZ) requirements

help:
	@echo 'make check         format, lints, unit tests, licences and bans; needs no root'
	@echo 'make packer        the scripts and templates of images; PROVISION=1 runs them twice on a fresh'
	@echo '                   Debian 12, which needs root and a network'
	@echo 'make deny          licences, banned and doubled crates, and advisories where they can be fetched'
	@echo 'make deb           the package: $(DEB)'
	@echo 'make rpm           the package for distributions with rpm: $(RPM)'
	@echo 'make ship-binary   ship as one static program: $(SHIP)'
	@echo 'make ship-deb      its package: $(SHIP_DEB)'
	@echo 'make test          all tests, on instances that it boots; needs root'
	@echo 'make test-debian-13  the core of them on instances of Debian 13, all of e2e with CORE=;'
	@echo '                   needs root'
	@echo 'make stores        the servers and uploaders that others keep releases with; needs root'
	@echo 'make ship          the program ship against a fake of S3, and what it releases on an instance; needs'
	@echo '                   root and, the first time, a network'
	@echo 'make rollout       ship deploys to three instances by ssh and by Systems Manager, under load;'
	@echo '                   needs root; make rollout-ssm plays the second alone'
	@echo 'make simulation SEED=1  ship deploys to 10,000 instances of an AWS in memory; calls, rates, memory'
	@echo 'make upgrade FROM=COMMIT  installs the package over that of a commit, 0.1.0 without one,'
	@echo '                   while its apps serve; needs root'
	@echo 'make crash-matrix  a deploy dies at each of its points, in every way; needs root'
	@echo 'make apps          applications on Node, Python, Ruby, Go, Java and PHP, each handed over'
	@echo '                   HANDOVERS=10 times under load, with what APPS names alone; needs root'
	@echo 'make image         an image made by Packer on an instance, and instances of it, born by'
	@echo '                   cloud-init; IMAGE=kept keeps the image if nothing changed; needs root'
	@echo 'make kernel        an instance on Debian 12'\''s own kernel, which QEMU emulates: deployed by'
	@echo '                   cloud-init, confined, rebooted, its power lost; half an hour; needs root'
	@echo 'make demo          a release deployed, rolled back and refused, to watch; needs root'
	@echo 'make instance      boots an instance with an S3 beside it, to try things by hand; needs root'
	@echo 'make fuzz          parsers and unpacker on input made up for SECONDS=$(SECONDS) each; needs root'
	@echo 'make soak STEPS=1000 SEED=1  a random walk of deploys, kills, reboots and faults; needs root'
	@echo 'make bench-handover  requests that fail while releases are handed over, and beside it'
	@echo '                     while systemctl restarts; ends with a line of JSON; needs root'
	@echo 'make bench ROWS=node ROUNDS=5  how fast releases are staged and deployed, beside what else'
	@echo '                     does that; all rows without ROWS; ends with a line of JSON; needs root'
	@echo 'make requirements  installs what these need on Debian 12; needs root if something is missing'

# Tests that `cargo test` leaves out.
LONG = $(addprefix --test ,apps bench-handover bench-stage demo image instance kernel rollout store stores upgrade)

check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --workspace --features failpoints --lib --bins $(LONG) -- -D warnings
	$(TEST) --lib --bins --test purity
	cargo xtask check
	@$(MAKE) --no-print-directory deny

packer:
	DEPLOY_DEB=$(DEB) tests/packer.sh $(if $(PROVISION),--provision)

# Compiled without optimisation, it is there after a minute, and needs two seconds.
deny:
	@cargo deny --version >/dev/null 2>&1 || CARGO_PROFILE_DEV_DEBUG=0 \
	    cargo install --debug --locked --version $(CARGO_DENY) cargo-deny
	cargo deny --locked check licenses bans sources
	@if cargo deny fetch db >/dev/null 2>&1; \
	then cargo deny --locked check --disable-fetch advisories; \
	else echo 'advisories are not checked: their database cannot be fetched'; fi

deb: cargo-deb
	cargo build --locked --release
	cargo xtask packaging target/packaging
	cargo deb --locked --no-build --output $(DEB)

rpm:
	cargo build --locked --release
	cargo xtask packaging target/packaging
	cargo xtask rpm $(TARGET)/release $(RPM)

# The same programs under a later version, to test an upgrade; never publish it.
next-rpm: rpm
	cargo xtask rpm $(TARGET)/release $(NEXT_RPM) 99.0

.PHONY: cargo-deb
cargo-deb:
	@cargo deb --version >/dev/null 2>&1 || cargo install --locked --version $(CARGO_DEB) cargo-deb

# A package without optimisation, for the demo; never install it.
dev-deb:
	$(BUILD) --bins --test demo
	$(XTASK) packaging target/packaging
	$(XTASK) deb $(TARGET)/debug $(DEV_DEB)

# A package with failpoints, for the crash matrix and the soak; never install it.
failpoints-deb:
	$(BUILD) --features failpoints --bins --test demo
	$(XTASK) packaging target/packaging
	$(XTASK) deb $(TARGET)/debug $(FAILPOINTS_DEB)

# With musl, so that it runs whatever the C library of a laptop or a CI image is.
MUSL = $(shell uname -m)-unknown-linux-musl

ship-binary: musl
	cargo build --locked --release --package deploy-ship --target $(MUSL)
	install -D $(TARGET)/$(MUSL)/release/ship $(SHIP)

.PHONY: musl
musl:
	@command -v musl-gcc >/dev/null || \
	    { echo 'missing: musl-gcc; as root: apt-get install musl-tools' >&2; exit 1; }
	@rustup target list --installed | grep -qx $(MUSL) || rustup target add $(MUSL)

ship-deb: ship-binary
	cargo xtask packaging target/packaging
	cargo xtask ship-deb $(dir $(SHIP)) $(SHIP_DEB)

# The same without optimisation, for tests; never install it.
ship-dev-deb:
	$(BUILD) --bins --test demo
	$(XTASK) packaging target/packaging
	$(XTASK) ship-deb $(TARGET)/debug $(SHIP_DEV_DEB)

test: requirements root deb failpoints-deb ship-dev-deb rpm next-rpm
	DEPLOY_DEB=$(DEB) DEPLOY_DEB_FAILPOINTS=$(FAILPOINTS_DEB) \
	    DEPLOY_RPM=$(RPM) DEPLOY_RPM_NEXT=$(NEXT_RPM) $(TEST) --no-fail-fast
	DEPLOY_DEB=$(DEB) $(TEST) --test apps -- \
	    express django worker examples::python examples::static_files
	DEPLOY_DEB=$(DEB) $(TEST) --test demo
	DEPLOY_DEB=$(DEB) DEPLOY_SHIP_DEB=$(SHIP_DEV_DEB) $(TEST) --test store
	DEPLOY_DEB=$(DEB) $(TEST) --test rollout -- $(FIVE_MINUTES)
	$(DEBIAN_13) $(FEW)

# The tests on the other release of Debian, whose systemd is 257; `make test` plays a few.
DEBIAN_13 = DEPLOY_TEST_SUITE=trixie DEPLOY_DEB=$(DEB) DEPLOY_DEB_FAILPOINTS=$(FAILPOINTS_DEB) \
    $(TEST) --test e2e --
CORE = boot:: collectd:: daemon:: deploying:: doctor:: exec:: handover:: logs:: metrics:: \
    nftables:: operating:: package:: phase:: rollback:: sandbox:: stop:: stopping:: units:: walls::
FEW = the_app_is_up_after_a_reboot_without_deployd its_units_are_accepted_and_safe \
    a_reload_of_systemd_ends_neither_build_nor_release_phase no_line_of_a_burst_is_lost \
    package::installs_on_a_clean_machine rolls_back_and_forth_without_the_network

test-debian-13: requirements root deb failpoints-deb
	$(DEBIAN_13) --test-threads=2 $(CORE)

# The commit of 0.1.0.
FROM = b950430
OLD = target/upgrade/$(FROM)

upgrade: requirements root deb
	[ -d $(OLD) ] || git worktree add --detach $(OLD) $(FROM)
	CARGO_TARGET_DIR=$(CURDIR)/$(OLD)/target $(MAKE) --directory=$(OLD) failpoints-deb
	DEPLOY_DEB=$(DEB) DEPLOY_DEB_OLD=$(CURDIR)/$(OLD)/target/debian/deploy-agent-failpoints.deb \
	    $(TEST) --test upgrade -- --nocapture

stores: requirements root deb
	DEPLOY_DEB=$(DEB) $(TEST) --test stores
	DEPLOY_DEB=$(DEB) $(TEST) --test e2e -- stores::

# The README's story of ship, which is a part of `make demo` and of `make test`.
FIVE_MINUTES = from_a_commit_to_a_group_and_back

rollout: requirements root deb
	DEPLOY_DEB=$(DEB) $(TEST) --test rollout

rollout-ssm: requirements root deb
	DEPLOY_DEB=$(DEB) $(TEST) --test rollout -- ssm::

ship: requirements root deb ship-dev-deb
	DEPLOY_DEB=$(DEB) DEPLOY_SHIP_DEB=$(or $(SHIP_PACKAGE),$(SHIP_DEV_DEB)) $(TEST) --test store

simulation:
	INSTANCES=$(or $(INSTANCES),10000) SEED=$(SEED) $(TEST) --lib -- --exact --nocapture \
	    rollout::stories::simulation::a_large_group_ends_on_one_release

crash-matrix: requirements root failpoints-deb
	CRASH_MATRIX=full DEPLOY_DEB_FAILPOINTS=$(FAILPOINTS_DEB) $(TEST) --test crash

# `make test` plays three of them, with two handovers each, and two of examples/.
apps: requirements root deb
	HANDOVERS=$(or $(HANDOVERS),10) DEPLOY_DEB=$(DEB) $(TEST) --no-fail-fast --test apps -- \
	    --nocapture $(APPS)

# A quarter of an hour from nothing; docs/image.md.
image: requirements root deb
	IMAGE=$(IMAGE) DEPLOY_DEB=$(DEB) $(TEST) --test image -- --nocapture --test-threads=1

# All other tests share this machine's kernel.
kernel: PACKAGES = qemu-system-x86
kernel: requirements root deb
	DEPLOY_DEB=$(DEB) $(TEST) --test kernel -- --nocapture --test-threads=1

demo: requirements root
	@echo 'Builds the agent without optimisation, which takes some three minutes the first time.'
	@$(MAKE) --no-print-directory dev-deb
	@echo 'Boots an instance, whose image of Debian 12 takes half a minute the first time.'
	@echo 'The times that it shows are those of a build without optimisation.'
	@DEPLOY_DEB=$(DEV_DEB) $(TEST) --quiet --test demo
	@echo
	@echo 'The same from a Git repository to three instances.'
	@DEPLOY_DEB=$(DEV_DEB) $(TEST) --quiet --test rollout -- --nocapture $(FIVE_MINUTES)

instance: requirements root dev-deb
	@DEPLOY_DEB=$(DEV_DEB) $(TEST) --quiet --test instance

fuzz: root $(FUZZ)

# No sanitizer: the code is safe Rust, and the sanitizer's own memory would hide its usage.
$(FUZZ): fuzz-%: fuzz-tools
	TMPDIR=/dev/shm cargo +nightly fuzz run --sanitizer none $* -- -max_total_time=$(SECONDS) \
	    -dict=fuzz/dictionaries/$*.dict -max_len=$(MAX_LEN) -timeout=10 -rss_limit_mb=512

MAX_LEN = 4096
fuzz-archive: MAX_LEN = 16384

.PHONY: fuzz-tools
fuzz-tools:
	@command -v c++ >/dev/null || { echo 'missing: g++, for libFuzzer' >&2; exit 1; }
	@cargo +nightly --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked --version $(CARGO_FUZZ) cargo-fuzz

soak: requirements root deb
	DEPLOY_DEB=$(DEB) STEPS=$(STEPS) SEED=$(SEED) $(TEST) --test soak

# benches/requirements.sh installs the competing programs in the image that it boots.
bench: requirements root deb
	DEPLOY_DEB=$(DEB) ROWS=$(ROWS) ROUNDS=$(ROUNDS) $(TEST) --profile bench --test bench-stage

bench-handover: requirements root deb
	DEPLOY_DEB=$(DEB) $(TEST) --test bench-handover

requirements:
	@tests/requirements.sh $(PACKAGES)

.PHONY: root
root:
	@[ "$$(id -u)" -eq 0 ] || { echo 'this boots instances and needs root: run it with sudo' >&2; exit 1; }
