# The commands of this repository; each does all of its own set-up. The build itself is CMake's (CMakePresets.json).
.PHONY: help demo demo-heat test bench bench-check bench-baseline bench-peers format tidy clean

help:
	@echo "make demo    build and run the main example: a hyper-parameter search on two ranks (demo-heat: in situ, in C++)"
	@echo "make test    build and run every test, with and without sanitizers, and on a local Slurm"
	@echo "make bench   build and run the benchmarks; figures go to build/bench/results.json (FULL=1: all of them; ONLY=regex)"
	@echo "make bench-peers     install Ray and other Python peers into build/peers; bench measures what is there"
	@echo "make bench-check     bench, then a comparison with benchmarks/baseline.json (make bench-baseline replaces that)"
	@echo "make format  clang-format over all C++ files"
	@echo "make tidy    clang-tidy over all C++ files of the dev build"
	@echo "make clean   remove build/ and .venv/"

demo:
	@scripts/setup.sh
	@scripts/demo.sh

demo-heat:
	@scripts/setup.sh
	@scripts/demo.sh heat

test:
	@scripts/setup.sh
	@scripts/test.sh

bench:
	@scripts/setup.sh bench
	@FULL=$(FULL) ONLY='$(ONLY)' scripts/bench.sh

bench-check bench-baseline:
	@scripts/setup.sh bench
	@FULL=$(FULL) ONLY='$(ONLY)' scripts/bench.sh $(@:bench-%=%)

bench-peers:
	@scripts/bench_peers.sh

format:
	@scripts/check_format.sh --fix

tidy:
	@scripts/setup.sh
	@scripts/tidy.sh

clean:
	rm -rf build .venv
