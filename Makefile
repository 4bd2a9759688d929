# The doors of the house; each opens on a script.
.PHONY: help demo test bench compare build install
PREFIX ?= /usr/local

help:
	@echo "make demo     train a small model on letters, take it apart, draw: out/demo/report.html (about 12 minutes)"
	@echo "make test     everything that must hold, as CI runs it"
	@echo "make build    the command, build/kindit"
	@echo "make bench    a training step against this machine's own peak; methods of fine-tuning beside PyTorch and peft (PyPI)"
	@echo "make compare  beside PyTorch, which it fetches from PyPI: bench/results/compare.md (an hour)"
	@echo "make install  command, library, header and man page under PREFIX (default /usr/local)"

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

build:
	@scripts/bootstrap.sh build
	@cmake --preset release --log-level=WARNING
	@cmake --build --preset release

bench: build
	@scripts/bench.sh
	@bench/adapt.sh small --eager --results out/bench
	@cat out/bench/adapt.md

compare:
	@bench/compare.sh

install: build
	@cmake --install build --prefix $(PREFIX)
