# The commands of a contributor's day. Each installs and builds what it needs first.
JOBS ?= $(shell nproc)
BUILD := cmake --build build -j$(JOBS)
.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-all bench bench-check bench-data bench-gpu bench-peers bench-portable docs format check install clean new-op

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## install what is missing (asks the network only then)
	@tools/setup.sh

build: setup  ## build the release preset; the command is build/evenflow
	@[ -f build/build.ninja ] || cmake --preset release
	@$(BUILD)

demo: build  ## train on real digits with and without batch normalisation; writes demo/report.html
	build/evenflow demo

test: build  ## run the fast tests
	ctest --preset release -L fast -j$(JOBS)

test-all: test  ## run every test, the slow ones and the other presets too
	ctest --preset release -L slow
	@for preset in debug asan tsan portable own static; do tools/test_preset.sh $$preset || exit 1; done
	tools/test_preset.sh neon --only '^((core|graph|ops|cpu)_test|isa_neon_.*)$$'

bench: build  ## measure batch norm, training, inference and start-up
	tools/bench.sh

bench-check: build  ## fail where this tree runs 10 % more instructions than recorded (needs valgrind)
	@python3 bench/check.py

format:  ## let clang-format lay out the sources
	@tools/sources.sh | xargs clang-format -i

bench-peers: build  ## measure Evenflow and its peers by turns, in an hour; writes docs/benchmarks*.md
	tools/bench_peers.sh
	tools/bench_peers.sh --growth

bench-data: build  ## measure data pipelines and tf.data by turns; writes docs/benchmarks-data.md
	tools/bench_peers.sh --data --markdown docs/benchmarks-data.md

bench-portable: build  ## measure what lesser instruction sets cost, and the build without oneDNN
	python3 bench/portable.py

bench-gpu: build  ## measure batch norm and training on a CUDA device beside the PyTorch of python3
	python3 bench/gpu_peers.py --evenflow build/evenflow --json build/gpu.json

docs: build  ## write the pages of operations, docs/ops, from their declarations
	build/bin/manual_test --write

check: build  ## check layout, includes, words and generated pages
	@tools/check.sh

install: build  ## install under PREFIX (default /usr/local)
	cmake --install build --prefix $(or $(PREFIX),/usr/local)

clean:  ## remove what was built, and keep what was installed
	@[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name env -exec rm -rf {} +

new-op: setup  ## write the two files of a new operation: make new-op NAME=softplus2
	@python3 tools/new_op.py $(NAME)
