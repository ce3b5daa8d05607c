# Thin: every rule is a line or two around CMake, CTest and pytest. See `make help`.
.DEFAULT_GOAL := help
JOBS := $(shell nproc 2>/dev/null || echo 2)
# Debian's, which has the psycopg2 and pytest that scripts/install-deps.sh installs.
PYTHON := /usr/bin/python3
PYTEST := $(PYTHON) -m pytest -q -p no:cacheprovider
RELEASE := $(CURDIR)/build/release/pgstrata
ASAN := $(CURDIR)/build/asan/pgstrata
# ThreadSanitizer needs the usual memory layout; where layouts are very random, setarch calms them.
SETARCH := $(shell setarch -R true 2>/dev/null && echo setarch -R)
# The layers whose tests start threads.
TSAN_LABELS := core store archiver restore control
empty :=
space := $(empty) $(empty)
SANITIZERS := ASAN_OPTIONS=halt_on_error=1:detect_leaks=1:exitcode=99 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:exitcode=99

configure = cmake --preset $(1) --log-level=WARNING

.PHONY: help
help:
	@echo 'make demo              an accident in one of 50 tenants, and the way back, in two minutes;'
	@echo '                       STORE=s3 archives into a MinIO of its own'
	@echo 'make test              all tests: style, unit, property, fuzz replay, sanitizers, integration'
	@echo 'make test-full         the integration tests with their long campaigns; goes on where it was stopped'
	@echo 'make bench             measure against the peers; BENCH=name for one of them'
	@echo 'make build             build/release/pgstrata'
	@echo 'make install           install it (PREFIX=/usr/local, DESTDIR=)'
	@echo 'make lint              clang-format, clang-tidy, shellcheck, style'
	@echo 'make fuzz FUZZ=name    fuzz one parser with libFuzzer (FUZZ_SECONDS=60)'
	@echo 'make clean             remove build/'

.PHONY: deps-%
deps-%:
	@scripts/install-deps.sh $*

.PHONY: build
build: deps-build program
.PHONY: program
program:
	@$(call configure,release)
	@cmake --build --preset release -j $(JOBS) --target pgstrata

.PHONY: test
test: deps-test minio test-style test-unit test-tsan test-integration
	@echo 'make test: everything passed'

# The object store of the tests: one on PATH, or built once with Go (minutes) and kept.
.PHONY: minio
minio:
	@$(PYTHON) scripts/minio.py path

.PHONY: test-style
test-style:
	@$(PYTHON) tests/style/check.py
	@$(PYTEST) tests/style

# Unit, property and fuzz replay, with AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer.
.PHONY: test-unit
test-unit:
	@$(call configure,asan)
	@cmake --build --preset asan -j $(JOBS)
	@ctest --preset asan -j $(JOBS)

.PHONY: test-tsan
test-tsan:
	@$(call configure,tsan)
	@cmake --build --preset tsan -j $(JOBS) --target $(TSAN_LABELS:%=tests_%)
	@$(SETARCH) ctest --preset tsan -j $(JOBS) -L '^($(subst $(space),|,$(TSAN_LABELS)))$$'

# Against a real PostgreSQL: what ships, then what is marked asan_oracle or checked with the checked build.
.PHONY: test-integration
test-integration: program
	@cmake --build --preset asan -j $(JOBS) --target pgstrata
	@PGSTRATA_BIN=$(RELEASE) $(PYTEST) tests/integration
	@PGSTRATA_BIN=$(ASAN) $(SANITIZERS) $(PYTEST) tests/integration -m "asan_oracle or checked"

.PHONY: test-full
test-full: deps-test minio program
	@PGSTRATA_BIN=$(RELEASE) $(PYTEST) tests/integration -m 'full or not full' --resume $(CURDIR)/build/test-full.passed

.PHONY: demo
demo: deps-demo program
	@STORE=$(STORE) PGSTRATA=$(RELEASE) demo/run.sh

.PHONY: bench
bench: deps-bench program
	@PGSTRATA=$(RELEASE) $(PYTHON) tests/bench/run.py $(BENCH)

.PHONY: lint
lint: deps-ci
	@scripts/lint.sh

FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: deps-ci
	@test -n '$(FUZZ)' || { echo 'make fuzz FUZZ=name, one of:'; ls tests/fuzz/*_fuzz.c; exit 2; }
	@cmake -S . -B build/fuzz -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=Debug \
		-DCMAKE_C_COMPILER=clang -DPGS_FUZZ=ON -DPGS_SANITIZE=address,undefined
	@cmake --build build/fuzz -j $(JOBS) --target $(FUZZ)_fuzz
	@mkdir -p build/fuzz/corpus/$(FUZZ) tests/fuzz/corpus/$(FUZZ)
	build/fuzz/tests/$(FUZZ)_fuzz -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/fuzz/ \
		build/fuzz/corpus/$(FUZZ) tests/fuzz/corpus/$(FUZZ)

PREFIX ?= /usr/local
.PHONY: install
install: build
	@cmake --install build/release --prefix $(PREFIX)

.PHONY: clean
clean:
	rm -rf build
