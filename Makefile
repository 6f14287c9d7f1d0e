# make            build everything into build/ (needs neither root nor network once the packages are there)
# make setup      install the Debian or Ubuntu packages that are missing
# make demo       set up, build, and run the demonstration
# make test       set up, build, and run every test
# make fuzz       libFuzzer on every parser of foreign bytes, FUZZ_SECONDS each (make test: two seconds)
# make soak       ten thousand short runs (SOAK_RUNS), and what they leave of memory and disk
# make bench      the benchmarks
# make install    PREFIX=/usr/local
# make uninstall  remove what the last install has put in place; state folders stay
# make clean      remove build/
PREFIX = /usr/local
JOBS = $(shell nproc)
FUZZ_SECONDS = 60
SANITIZE = -Dfaults=true -Db_sanitize=address,undefined -Db_lundef=false

all: build/build.ninja
	@ninja -C build -j$(JOBS)

build/build.ninja:
	@command -v meson >/dev/null && command -v ninja >/dev/null || \
	    { echo "meson or ninja is missing; 'make setup' installs what the build needs" >&2; exit 1; }
	meson setup build -Dtests=false

build/san/build.ninja: | build/build.ninja
	meson setup build/san $(SANITIZE)

# Warnings of this build are those of the others, but one: fences are not understood, and order no data here.
build/tsan/build.ninja: | build/build.ninja
	meson setup build/tsan -Db_sanitize=thread -Db_lundef=false -Dc_args=-Wno-tsan

setup:
	@tools/setup

setup-test:
	@tools/setup --test

test: setup-test
	@$(MAKE) --no-print-directory build/build.ninja build/san/build.ninja
	@meson configure build -Dtests=true
	@ninja -C build -j$(JOBS)
	@ninja -C build/san -j$(JOBS)
	@$(MAKE) --no-print-directory build/tsan/build.ninja
	@ninja -C build/tsan -j$(JOBS) $(addprefix tests/unit/coll/test_coll_,world ops order)
	@$(MAKE) --no-print-directory build/fuzz/build.ninja
	@ninja -C build/fuzz -j$(JOBS) fuzzers
	@tests/run

build/fuzz/build.ninja: | build/build.ninja
	CC=clang meson setup build/fuzz -Dfuzz=true -Dtests=true -Db_sanitize=address,undefined -Db_lundef=false

fuzz: setup-test build/fuzz/build.ninja
	@ninja -C build/fuzz -j$(JOBS) fuzzers
	@tests/fuzz/run $(FUZZ_SECONDS)

demo: setup
	@$(MAKE) --no-print-directory all
	@examples/demo

soak: all
	@tests/soak

bench: all
	@meson configure build -Dtests=true
	@ninja -C build bench/sim/sim bench/link/nodes bench/link/agent bench/data/mover bench/data/s3d bench/env/get
	@bench/run

install: all
	meson configure build -Dprefix=$(abspath $(PREFIX))
	meson install -C build

uninstall:
	@tools/uninstall build

clean:
	rm -rf build

.PHONY: all setup setup-test test fuzz soak demo bench install uninstall clean
