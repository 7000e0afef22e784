# strata: make help lists the targets.
SHELL := /bin/sh
CC ?= cc

ifneq ($(shell uname -s),Linux)
$(error strata runs on Linux only, and this is $(shell uname -s): use a Linux machine or a virtual one)
endif

# Builds depend on nothing of the caller's settings for go but where its caches are. Without HOME go needs a place said.
unexport GOFLAGS
ifeq ($(HOME),)
export HOME := $(shell getent passwd "$$(id -u)" 2>/dev/null | cut -d: -f6)
endif
ifeq ($(HOME),)
export HOME := $(CURDIR)/bin/.home
endif

GO := go
PURE := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w'
# Of runc without its manual's generator and checkpoints: neither is used, and both take time whenever a container starts.
RUNC_TAGS := seccomp netgo osusergo urfave_cli_no_docs runc_nocriu
STATIC := CGO_ENABLED=1 $(GO) build -trimpath -buildvcs=false -tags '$(RUNC_TAGS)' -ldflags '-s -w -extldflags "-static"'
TOOLBOX := $(shell find tools/toolbox -name '*.go' ! -name '*_test.go' -o -name 'go.mod' -o -name 'go.sum')

# What can be built here: the runtime needs a C compiler and a static libseccomp, strata-zstd one and a static libzstd,
# strata-enter a C compiler. Where these are not, an installed runc or crun, Go's library and util-linux's nsenter take their
# places.
HELPERS := bin/strata-toolbox bin/strata-init bin/strata-chroot bin/strata-net
ifneq ($(shell command -v $(CC) 2>/dev/null),)
HELPERS += bin/strata-enter
endif
ifeq ($(shell scripts/check-deps.sh --runtime && echo yes),yes)
HELPERS += bin/strata-runc bin/strata-step
endif
ifeq ($(shell scripts/check-deps.sh --zstd && echo yes),yes)
HELPERS += bin/strata-zstd
endif

.PHONY: all build demo check-deps test test-real fault lint bench conformance clean help program helpers

all: build ## build everything into bin/ (the default)

build: check-deps
	@$(MAKE) --no-print-directory -j2 program helpers

program: # go build knows best what has changed
	@mkdir -p bin
	$(PURE) -o bin/strata ./cmd/strata

helpers: $(HELPERS)

# Runc's sources are unchanged. Linked in is what lets it take a compiled system call filter: cmd/strata-step/filter.c.
FILTER := cmd/strata-step/filter.c cmd/strata-step/filter.h
WRAP := $(shell sed -n 's/^\#cgo LDFLAGS: //p' cmd/strata-step/filter.go)

bin/strata-runc: $(FILTER) cmd/strata-step/filter.go go.mod go.sum
	@mkdir -p bin
	$(CC) -O2 -Wall -Wextra $$(pkg-config --cflags libseccomp) -c -o bin/.filter.o $<
	@rm -f $@ # go would not see that the object has changed
	$(STATIC:"-static"'="-static bin/.filter.o $(WRAP) -lseccomp"') -o $@ github.com/opencontainers/runc
	@touch $@

bin/strata-step: $(wildcard cmd/strata-step/* internal/stepwire/* internal/mount/*) go.mod go.sum
	@mkdir -p bin
	$(STATIC) -o $@ ./cmd/strata-step
	@touch $@

bin/strata-init: $(wildcard cmd/strata-init/*) go.mod
	@mkdir -p bin
	$(PURE) -o $@ ./cmd/strata-init
	@touch $@

bin/strata-chroot: $(wildcard cmd/strata-chroot/* internal/rootfs/* internal/mount/*) go.mod
	@mkdir -p bin
	$(PURE) -o $@ ./cmd/strata-chroot
	@touch $@

bin/strata-net: $(wildcard cmd/strata-net/* internal/network/* internal/atomicfile/*) go.mod go.sum
	@mkdir -p bin
	$(PURE) -o $@ ./cmd/strata-net
	@touch $@

# Linked statically where the machine has a static libc.
bin/strata-enter: cmd/strata-enter/strata-enter.c
	@mkdir -p bin
	$(CC) -static -Os -Wall -Wextra -s -o $@ $< 2>/dev/null || $(CC) -Os -Wall -Wextra -s -o $@ $<

bin/strata-zstd: cmd/strata-zstd/strata-zstd.c
	@mkdir -p bin
	$(CC) -static -O2 -Wall -Wextra -s -o $@ $< -lzstd

# Only when its sources or the Go version change: rewriting u-root's commands takes a while.
bin/strata-toolbox: $(TOOLBOX) bin/.go-version
	@mkdir -p bin
	cd tools/toolbox && $(GO) run ./build -o $(CURDIR)/$@
	@touch $@

bin/.go-version: FORCE
	@mkdir -p bin
	@$(GO) env GOVERSION | cmp -s - $@ || $(GO) env GOVERSION > $@

.PHONY: FORCE
FORCE:

check-deps:
	@scripts/check-deps.sh

demo: build ## build, then build and run a first image
	@scripts/demo.sh

# Test binaries are static, so that they can serve as a container's program. Many tests wait more than they work: more of
# them run at once than there are processors. make test vets all by itself. testsum ends with the tests' verdict.
TEST := PATH="$(CURDIR)/bin:$$PATH" CGO_ENABLED=0 $(GO) test -json -vet=off -timeout 60m -parallel 6
SUM := $(GO) run ./scripts/testsum

test: build ## vet and all tests that need nothing but this machine
	@scripts/test-deps.sh
	CGO_ENABLED=0 $(GO) vet ./...
	$(TEST) -skip '^TestScriptsReal$$' ./... | $(SUM)
	$(if $(filter bin/strata-step,$(HELPERS)),CGO_ENABLED=1 $(GO) test -tags '$(RUNC_TAGS)' ./cmd/strata-step)
	cd tools/toolbox && CGO_ENABLED=0 $(GO) vet ./... && CGO_ENABLED=0 $(GO) test ./...

test-real: build ## real base images, package registries, other engines, all of conformance and of a plain user's scripts; as root
	@scripts/test-deps.sh --real
	STRATA_TEST_REAL=1 $(TEST) -count=1 -run '^(TestScriptsReal|TestTallImage|TestCorpus)$$' ./cmd/strata ./scripts/conformance | $(SUM)
	STRATA_TEST_OTHERS=1 $(TEST) -count=1 -run '^TestScriptsAsPlainUser$$' ./cmd/strata | $(SUM)

# Each suite says at its end how many faults it injected and how many were survived.
fault: build ## the fault suites in full: kills, power cuts, lying and full disks, rot, a mix; as root, takes hours
	STRATA_FAULTS=full $(TEST) -count=1 -timeout 0 -run '^TestFault' ./cmd/strata | $(SUM)

lint: ## golangci-lint, where it is installed
	golangci-lint run ./...

bench: build ## compare with docker, podman, buildah and BuildKit; ONLY=… BESIDE=… ROUNDS=N PODMAN5=1 LONG=1
	@scripts/test-deps.sh --bench
	$(GO) run ./scripts/bench $(if $(ONLY),-only '$(ONLY)') $(if $(ROUNDS),-rounds $(ROUNDS)) $(if $(BESIDE),-beside '$(BESIDE)') $(if $(PODMAN5),-podman5) $(if $(LONG),-long)

conformance: build ## compare with BuildKit's results; DIR=… other Dockerfiles, UPDATE=1 renew what is expected; as root
	PATH="$(CURDIR)/bin:$$PATH" CGO_ENABLED=0 $(GO) run ./scripts/conformance $(if $(UPDATE),-update) $(DIR)

clean: ## remove what was built
	rm -rf bin

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12
