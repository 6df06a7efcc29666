# mdemix: one header, its examples, tests and benchmarks. "make help" lists the targets.

CC ?= cc
CFLAGS ?= -O2 -std=c99 -Wall -Wextra -Wpedantic -Wshadow -Wconversion
# Most test programs compile for longer than they compute.
TEST_CFLAGS ?= $(CFLAGS:-O2=-O1)
LDLIBS = -lm
PREFIX ?= /usr/local
DATA ?= data
FUZZ_INPUTS ?= 3000000
SECONDS ?= 60
SCALE ?= 1
# A study of another scale has a folder of its own, beside the repository's rows.
STUDY ?= $(if $(filter 1,$(SCALE)),bench/study,out/study-$(SCALE))
# Of study-dagan: Omniglot's background set as IDX; without it drawn characters, whose rows stay out of the repository's.
IMAGES ?=
SPLIT ?= 1
HOW ?= wide
SEED ?= 1
MADE_STUDY = $(if $(IMAGES),$(STUDY),out/study-drawn-$(SCALE))
JOBS ?= $(shell nproc 2> /dev/null || getconf _NPROCESSORS_ONLN 2> /dev/null || echo 1)

# Tests on real data look for it in this folder and are skipped when it is not there.
export MDEMIX_SHARED ?= $(wildcard ../shared)

# -fopenmp if this compiler can build and link with it; nothing otherwise. "make OPENMP=" builds without threads.
OPENMP_PROBE = printf '\043include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n' > build/probe.c \
               && $(CC) -fopenmp build/probe.c -o build/probe 2> build/probe.log && echo -fopenmp
ifneq ($(filter-out clean help format lint data docs install,$(or $(MAKECMDGOALS),all)),)
OPENMP := $(shell mkdir -p build; $(OPENMP_PROBE))
endif

HEADERS = $(wildcard *.h)
CXX_EXAMPLES = $(if $(shell command -v $(CXX) 2> /dev/null),$(patsubst examples/%.cpp,build/%,$(wildcard examples/*.cpp)))
EXAMPLES = $(patsubst examples/%.c,build/%,$(wildcard examples/*.c)) $(CXX_EXAMPLES)
LESSONS = $(patsubst examples/%.c,build/%,$(wildcard examples/course/*.c))
TESTS = $(patsubst tests/%.c,build/%,$(wildcard tests/test_*.c)) build/test_kernels_wide
BENCHES = $(patsubst bench/%.c,build/%,$(wildcard bench/bench_*.c))
CHECKS = $(wildcard tests/check_*.sh)
INTEGRATION = $(patsubst %,tests/check_%.sh,readme course embedding python slurm cluster study study_dagan web)
LONG_CHECKS = tests/check_warnings.sh $(INTEGRATION)
SOURCES = $(HEADERS) $(wildcard examples/*.[ch] examples/*.cpp examples/course/*.[ch] examples/web/*.c tests/*.[ch] bench/*.c)

SANITIZE = -std=c99 -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
COVERAGE = -std=c99 -O1 -fno-inline --coverage -fprofile-update=single
COVERED = $(patsubst tests/%.c,build/coverage/%,$(wildcard tests/test_*.c))
SANITIZED = $(patsubst tests/%.c,build/sanitize/%,$(wildcard tests/test_*.c))
VALGRIND_TESTS = $(addprefix build/valgrind/,test_platform test_files test_ops test_training test_text)

# The test programs take a while to compile: as many at a time as there are processors, unless -j says otherwise. One that
# does not compile keeps no other from running; it is missing then, which counts as failed.
build_all = $(MAKE) --no-print-directory -k $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(JOBS)) \
            OPENMP="$(OPENMP)" $(1) || true

.PHONY: all course pictures web test bench run run-dagan study-mde study-tables study-dagan data shared docs install \
        format lint warnings integration sanitize valgrind threads portability coverage mutate fuzz faults clean help

all: $(EXAMPLES) ## build every example into build/ (the default)

course: $(LESSONS) ## build the lessons of examples/course into build/course/

test: ## run the tests (minutes); the last line is "N passed, N failed"
	+@$(call build_all,$(TESTS))
	@CC="$(CC)" JOBS=$(JOBS) sh tests/run.sh $(TESTS) $(filter-out $(LONG_CHECKS),$(CHECKS))

bench: $(if $(PEERS),,$(BENCHES)) ## run the benchmarks beside the peers that are installed (minutes); PEERS=1: how to install
	@PEERS=$(PEERS) CC="$(CC)" sh bench/run.sh $(BENCHES) bench/bench_compile.sh

run: build/mde_lab ## run a whole small experiment on built-in text; writes out/demo/report.html
	./build/mde_lab run out/demo

run-dagan: build/dagan_lab ## what a trained DAGAN gives on characters it never saw (out/dagan/report.html); trains a small one
	./build/dagan_lab run --preset quick --weights examples/weights/omniglot.safetensors \
	    --data examples/data/characters.pbm --cells 42 --samples 1,5 --classifier-steps 200 --kept 1 --made-share 0.25 \
	    --out out/dagan
	./build/dagan_lab train --preset quick --out out/dagan/trained

pictures: build/three_experts build/dagan_lab ## draw the pictures of the README again
	cd examples/pictures && ../../build/three_experts --quiet
	./build/dagan_lab sample --weights examples/weights/omniglot.safetensors --data examples/data/characters.pbm \
	    --cells 42 --quiet --out out/pictures
	cp out/pictures/samples.png examples/pictures/characters.png

web: ## a page for any browser, without a server: build/web/index.html (needs emscripten, in Debian `emscripten`)
	@if command -v emcc > /dev/null 2>&1; then $(MAKE) --no-print-directory build/web/index.html; \
	else echo "web: emcc is not installed, no page is made"; fi

study-mde: build/study_mde ## make the runs of the MDE study on `make data` (hours; goes on where stopped); SCALE=0.02
	./build/study_mde --data $(DATA) --out $(STUDY) --work out/study-mde-$(SCALE) --scale $(SCALE)

study-tables: build/study_tables ## what its rows say so far: bench/STUDY-MDE.md and pictures (a minute)
	./build/study_tables $(STUDY) $(if $(filter 1,$(SCALE)),bench,$(STUDY))

study-dagan: build/dagan_lab ## train and measure a split of the study of made images (hours; goes on where stopped); SCALE=0.02
	STUDY=$(MADE_STUDY) SCALE=$(SCALE) python3 bench/study_dagan.py run "$(or $(IMAGES),drawn)" \
	  out/study-dagan-$(SCALE)-$(if $(IMAGES),$(SPLIT),drawn)-$(HOW)-$(SEED) $(SPLIT) $(SEED) $(HOW)
	STUDY=$(MADE_STUDY) python3 bench/study_dagan.py tables \
	  $(if $(filter bench/study,$(MADE_STUDY)),,$(MADE_STUDY)/STUDY-DAGAN.md)

data: ## fetch text of a dozen domains from Debian packages into data/ (nothing is installed)
	sh examples/get_data.sh $(DATA)

shared: build/libmdemix.so ## libmdemix.so with all functions of both headers, as examples/python/mdemix.py calls them

docs: ## the headers' public parts as pages: build/docs/mdemix.html, build/docs/dagan.html
	python3 tests/docs.py build/docs $(HEADERS)

install: ## copy the headers, with files for pkg-config and CMake, to PREFIX (default /usr/local), below DESTDIR if given
	mkdir -p "$(DESTDIR)$(PREFIX)/include" "$(DESTDIR)$(PREFIX)/share/pkgconfig"
	for h in $(HEADERS); do install -m 644 $$h "$(DESTDIR)$(PREFIX)/include/" || exit 1; done
	version=$$(sed -n 's/^#define MDE_VERSION "\(.*\)"/\1/p' mdemix.h); \
	printf 'prefix=%s\nincludedir=$${prefix}/include\n\nName: mdemix\n%s\nVersion: %s\n%s\n%s\n' "$(PREFIX)" \
	  "Description: mixtures of data experts and small language models in one C header" "$$version" \
	  'Cflags: -I$${includedir}' 'Libs: -lm' > "$(DESTDIR)$(PREFIX)/share/pkgconfig/mdemix.pc"
	mkdir -p "$(DESTDIR)$(PREFIX)/share/cmake/mdemix"
	install -m 644 examples/cmake/mdemix-config*.cmake "$(DESTDIR)$(PREFIX)/share/cmake/mdemix/"

format: ## format all sources with clang-format
	clang-format -i $(SOURCES)

lint: ## clang-format's verdict, clang-tidy and cppcheck, each if installed
	@sh tests/lint.sh $(SOURCES)

warnings: ## compile everything with every compiler, standard and option at hand: no warning allowed (minutes)
	@sh tests/run.sh tests/check_warnings.sh

integration: ## the README as pasted, the course, other builds and languages, Slurm, the study, a browser; what is not installed is skipped (minutes)
	@CC="$(CC)" JOBS=$(JOBS) sh tests/run.sh $(INTEGRATION)

sanitize: ## run the tests under the address and undefined-behaviour sanitizers (minutes)
	+@$(call build_all,$(SANITIZED))
	@ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1 JOBS=$(JOBS) sh tests/run.sh $(SANITIZED)

valgrind: ## run some of the tests under valgrind (minutes)
	+@$(call build_all,$(VALGRIND_TESTS))
	@WRAPPER="valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect" \
	  JOBS=$(JOBS) sh tests/run.sh $(VALGRIND_TESTS)

threads: ## contexts side by side under ThreadSanitizer, without and with OpenMP
	@sh tests/threads.sh

portability: ## same bits from every compiler, option, machine and thread count at hand; ROWS="tcc wine": some (half an hour)
	@JOBS=$(JOBS) BUDGET=$(BUDGET) sh tests/portability.sh $(ROWS)

coverage: ## lines and branches of headers and programs that the tests reach, by gcc and gcovr (many minutes)
	+@$(call build_all,$(COVERED))
	@JOBS=$(JOBS) sh tests/coverage.sh $(COVERED)

mutate: ## which tests find COUNT small faults in the headers; goes on where it was stopped (hours)
	python3 tests/mutate.py --count $(or $(COUNT),100)

fuzz: build/sanitize/fuzz_files ## damaged files for every reader: FUZZ_INPUTS, then SECONDS each under FUZZER (libfuzzer, afl)
	./build/sanitize/fuzz_files $(FUZZ_INPUTS)
	@FUZZER=$(FUZZER) sh tests/fuzz.sh $(SECONDS)

faults: $(addprefix build/,train_lm mde_lab mix_optimize dagan_lab) ## programs are killed (KILLS=200) and their calls fail (CALLS=60)
	@CC="$(CC)" KILLS=$(KILLS) CALLS=$(CALLS) sh tests/faults.sh build

clean: ## remove build/
	rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1: /p' Makefile | awk -F': ' '{ printf "  make %-11s %s\n", $$1, substr($$0, length($$1) + 3) }'

# emcc's own tools are written for Debian's node, which looks for packages there.
build/web/page.js: examples/web/page.c examples/mix_optimize.c $(wildcard examples/*.h) $(HEADERS)
	@mkdir -p build/web
	NODE_PATH=$${NODE_PATH:-/usr/share/nodejs} emcc -std=gnu99 -O2 -Wno-ignored-pragmas $< -o $@ -sMODULARIZE=1 \
	  -sEXPORT_NAME=Mdemix -sENVIRONMENT=worker -sALLOW_MEMORY_GROWTH=1 -sFORCE_FILESYSTEM=1 \
	  -sEXPORTED_RUNTIME_METHODS=FS,ccall -lm

# name=file: what stands in the page
WEB_FILES = program.wasm=build/web/page.wasm generator.safetensors=examples/weights/omniglot.compact.safetensors \
            characters.pbm=examples/data/characters.pbm ratios.csv=examples/data/ratios.csv \
            losses.csv=examples/data/losses.csv domains.csv=examples/data/domains.csv \
            prose.txt=examples/data/opticks.txt program.txt=examples/plot.h

build/web/index.html: build/web/page.js examples/web/pack.js examples/web/page.html \
                      $(filter examples/%,$(subst =, ,$(WEB_FILES)))
	node examples/web/pack.js examples/web/page.html build/web/page.js $@ $(WEB_FILES)

build/libmdemix.so: $(HEADERS)
	@mkdir -p build
	$(CC) $(CFLAGS) $(OPENMP) -fPIC -shared -DMDEMIX_IMPLEMENTATION -DDAGAN_IMPLEMENTATION -x c dagan.h -o $@ $(LDFLAGS) $(LDLIBS)

build/%: examples/%.cpp $(HEADERS)
	@mkdir -p build
	$(CXX) -std=c++17 $(filter-out -std=%,$(CFLAGS)) $(OPENMP) -I. $< -o $@ $(LDFLAGS) $(LDLIBS)

build/%: examples/%.c $(wildcard examples/*.h) $(HEADERS)
	@mkdir -p build
	$(CC) $(CFLAGS) $(OPENMP) -I. $< -o $@ $(LDFLAGS) $(LDLIBS)

build/course/%: examples/course/%.c $(wildcard examples/course/*.h) examples/plot.h $(HEADERS)
	@mkdir -p build/course
	$(CC) $(CFLAGS) $(OPENMP) $< -o $@ $(LDFLAGS) $(LDLIBS)

# Loops as one writes them first, with all that the compiler can do for them: what a benchmark compares with.
build/plain_%: bench/plain_%.c
	@mkdir -p build
	$(CC) -O3 -march=native $(OPENMP) $< -o $@ $(LDLIBS)

build/bench_lm: build/plain_lm
build/spend: examples/mix_optimize.c $(wildcard examples/*.h)

build/%: bench/%.c $(HEADERS)
	@mkdir -p build
	$(CC) $(CFLAGS) $(OPENMP) -I. $< -o $@ $(LDFLAGS) $(LDLIBS)

build/study_mde build/study_tables: $(wildcard bench/study_*.h examples/*.h)

# Tests of the public functions link compiled headers, as a program of two source files does; the others look into the
# headers and include them whole, all private, so that no more is compiled than they call.
LINKED = mde pictures search training dagan_images dagan_ops dagan_png dagan_studies dagan_training
LINKED_DAGAN = dagan_images dagan_ops
define link
$(LINKED:%=build/$(1)test_%): build/$(1)mdemix.o
$(LINKED_DAGAN:%=build/$(1)test_%): build/$(1)dagan.o
endef
$(foreach folder,/ sanitize/ valgrind/ coverage/,$(eval $(call link,$(filter-out /,$(folder)))))

# This computes nothing to speak of, and its program is large.
build/test_experiment: TEST_CFLAGS := $(CFLAGS:-O2=-O0)

# These compute for longer than they take to optimise.
$(addprefix build/test_,lm ops optimize regression): TEST_CFLAGS := $(CFLAGS)

IMPLEMENTATION = -D$(if $(findstring dagan,$<),DAGAN,MDEMIX)_IMPLEMENTATION -x c -c

build/%.o: %.h $(HEADERS)
	@mkdir -p build
	$(CC) $(CFLAGS) $(OPENMP) $(IMPLEMENTATION) $< -o $@

build/%: tests/%.c tests/test.h $(HEADERS)
	@mkdir -p build && rm -f $@
	$(CC) $(TEST_CFLAGS) $(OPENMP) $< $(filter %.o,$^) -o $@ $(LDFLAGS) $(LDLIBS)

# These include a program or what it draws with.
$(foreach folder,build build/sanitize build/coverage,$(addprefix $(folder)/test_,optimize experiment pictures dagan_studies)): $(wildcard examples/*.[ch])

# The kernels at the width of AVX-512, on a machine that may not have it.
build/test_kernels_wide: tests/test_kernels.c tests/test.h $(HEADERS)
	@mkdir -p build && rm -f $@
	$(CC) $(TEST_CFLAGS) -Wno-psabi -DMDE__WITH_WIDE $(OPENMP) $< -o $@ $(LDFLAGS) $(LDLIBS)

build/sanitize/%.o: %.h $(HEADERS)
	@mkdir -p build/sanitize
	$(CC) $(SANITIZE) $(OPENMP) $(IMPLEMENTATION) $< -o $@

build/sanitize/%: tests/%.c tests/test.h $(HEADERS)
	@mkdir -p build/sanitize && rm -f $@
	$(CC) $(SANITIZE) $(OPENMP) $< $(filter %.o,$^) -o $@ $(LDLIBS)

build/valgrind/%.o: %.h $(HEADERS)
	@mkdir -p build/valgrind
	$(CC) -std=c99 -O1 -g $(IMPLEMENTATION) $< -o $@

build/valgrind/%: tests/%.c tests/test.h $(HEADERS)
	@mkdir -p build/valgrind && rm -f $@
	$(CC) -std=c99 -O1 -g $< $(filter %.o,$^) -o $@ $(LDLIBS)

build/coverage/%.o: %.h $(HEADERS)
	@mkdir -p build/coverage
	gcc $(COVERAGE) $(OPENMP) $(IMPLEMENTATION) $< -o $@

build/coverage/%: tests/%.c tests/test.h $(HEADERS)
	@mkdir -p build/coverage && rm -f $@
	gcc $(COVERAGE) $(OPENMP) $< $(filter %.o,$^) -o $@ $(LDLIBS)
