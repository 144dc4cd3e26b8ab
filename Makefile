# `make` alone says what can be made. Every target may be made again at any time.

CARGO_DEB = 3.8.0
DEB = $(abspath $(or $(CARGO_TARGET_DIR),target))/debian/deploy-agent.deb

.PHONY: help check deb test demo requirements

help:
	@echo 'make check         format, lints and unit tests; needs no root'
	@echo 'make deb           the package: $(DEB)'
	@echo 'make test          all tests, on instances that it boots; needs root'
	@echo 'make demo          a release deployed, rolled back and refused, to watch; needs root'
	@echo 'make requirements  installs what these need on Debian 12; needs root if something is missing'

check:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --lib --bins

deb:
	cargo build --locked --release
	cargo run --locked --quiet --example packaging -- target/packaging
	@cargo deb --version >/dev/null 2>&1 || cargo install --locked --version $(CARGO_DEB) cargo-deb
	cargo deb --locked --no-build --output $(DEB)

test: requirements root deb
	DEPLOY_DEB=$(DEB) cargo test --locked --no-fail-fast

demo: requirements root deb
	DEPLOY_DEB=$(DEB) cargo test --locked --test demo

requirements:
	@tests/requirements.sh

.PHONY: root
root:
	@[ "$$(id -u)" -eq 0 ] || { echo 'this boots instances and needs root: run it with sudo' >&2; exit 1; }
