# onlink: build, test and show. `make` prints the targets.
# Needs Go, make and git; the targets that need more install it (see deps).

SHELL := /bin/bash
.DEFAULT_GOAL := help

ifeq ($(origin VERSION),undefined)
VERSION := $(shell tools/version.sh)
endif
LDFLAGS := -s -w -X onlink/internal/version.Version=$(VERSION) -X onlink/cni/shim.Version=$(VERSION) -X onlink/internal/version.Commit=$(shell tools/version.sh --commit)
# The go command records the commit of the repository around, which is not that of a
# tarball's tree.
BUILD   := build -trimpath -buildvcs=$(if $(wildcard .git),auto,false)
GOBUILD := CGO_ENABLED=0 go $(BUILD) -ldflags '$(LDFLAGS)'
BED     := go run ./integration/cmd/bed
KUBE    := go run ./integration/kube/cmd/cluster
# make has a LINT of its own, of lint(1), which ?= would keep.
ifeq ($(origin LINT),default)
LINT := go tool -modfile=tools/tools.mod golangci-lint
endif
ARCHES ?= amd64 arm64
FUZZTIME ?= 30s
TESTS ?= .
POLICY ?= 0
BENCHTIME ?= 1s
BENCHCOUNT ?= 6
CHAOSTIME ?= 5m
SEED ?= 0
NODES ?= 1000

# The BGP engine is built with the patches of bgp/engine: a generated go.mod
# replaces the module. GOFLAGS carries it to every go command below, also those
# that the tests and the beds start; make started by make gets the same.
ENGINE := $(CURDIR)/build/engine/go.mod
ENGINETOOL = GOFLAGS="$$ONLINK_GOFLAGS" go run ./bgp/engine
ifeq ($(origin ONLINK_GOFLAGS),undefined)
export ONLINK_GOFLAGS := $(shell go env GOFLAGS)
endif
# grpcnotrace leaves out gRPC's page of traces, and with it html/template, which keeps
# every exported method of every type in the programs: a sixth of onlinkd.
export GOFLAGS := $(strip $(ONLINK_GOFLAGS) '-modfile=$(ENGINE)' -tags=grpcnotrace)

.PHONY: help engine engine-edit engine-save engine-check engine-rebase build image dist dist-check demo lab drill deps test test-unit test-integration test-docs test-interop test-glass test-kernel test-kube test-kube-tunnel test-policy demo-kube kube-binaries kube-network-policies kube-up kube-down test-long chaos chaos-ipip chaos-mutants test-upgrade bench scale bench-go bench-compare fuzz lint fmt house vet generate reference manifests check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

engine: ## make the patched BGP engine in build/engine
	@$(ENGINETOOL)

engine-edit: ## make build/engine-edit, a git work tree of the engine with one commit a patch, to work in
	@$(ENGINETOOL) edit

engine-check: ## vet and lint build/engine-edit, and run the engine's own tests and ours with it
	@$(ENGINETOOL) -lint '$(LINT)' check

engine-save: ## write the commits of build/engine-edit back to bgp/engine
	@$(ENGINETOOL) save

engine-rebase: ## put the patches on another version of GoBGP, in build/engine-edit (TO=version)
	@$(ENGINETOOL) rebase '$(TO)'

build: engine ## build onlinkd, onlinkctl and onlink-cni into bin/ (static)
	$(GOBUILD) -o bin/ ./cmd/...

kube-network-policies: ## build the program that enforces NetworkPolicies into bin/ (a few minutes, once)
	GOFLAGS="$$ONLINK_GOFLAGS" CGO_ENABLED=0 go build -modfile=tools/policy.mod -trimpath -ldflags '-s -w' -o bin/kube-network-policies sigs.k8s.io/kube-network-policies/cmd/kube-network-policies/standard

image: build $(if $(filter 1,$(POLICY)),kube-network-policies) ## make bin/onlink-image.tar, an OCI image of all programs (ctr -n k8s.io images import FILE; POLICY=1: also kube-network-policies)
	@go run ./tools/image -version '$(VERSION)' -o bin/onlink-image.tar bin/onlinkd $(addprefix bin/,$(filter-out onlinkd,$(notdir $(wildcard cmd/*)))) $(if $(filter 1,$(POLICY)),bin/kube-network-policies)

# What go env -w or the environment could add to the programs is set here.
DISTENV := GOOS=linux CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT=
dist: engine ## make the packages (tar.gz, deb, rpm, SPDX) in build/dist, the same bytes on every machine (ARCHES="amd64 arm64")
	@rm -rf build/dist && mkdir -p build/dist build/tools
	@GOFLAGS="$$ONLINK_GOFLAGS" go build -modfile=tools/tools.mod -o build/tools/ github.com/goreleaser/nfpm/v2/cmd/nfpm
	@host=$$(GOARCH= go env GOHOSTARCH); for arch in $$host $(filter-out $(shell go env GOHOSTARCH),$(ARCHES)); do \
		echo "building for $$arch"; \
		$(DISTENV) GOARCH=$$arch go $(BUILD) -ldflags '$(LDFLAGS)' -o build/dist/programs/$$arch/ ./cmd/... || exit; done
	@epoch=$${SOURCE_DATE_EPOCH:-$$(tools/version.sh --epoch)}; \
	go test -count=1 -run '^TestManual' $(dir $(wildcard ./cmd/*/manual_test.go)) ./agent/config -args -manual.out='$(CURDIR)/build/dist/man' -manual.version='$(VERSION)' -manual.epoch=$$epoch || exit; for arch in $(ARCHES); do \
		go run ./tools/dist -version '$(VERSION)' -epoch $$epoch -nfpm build/tools/nfpm \
			-bin build/dist/programs/$$arch -host build/dist/programs/$$(go env GOHOSTARCH) -man build/dist/man -o build/dist || exit; done
	@cd build/dist && sha256sum onlink* | tee SHA256SUMS

dist-check: ## prove that the packages and the image of the last commit are the same bytes from two clones, and try the deb (ten minutes)
	@ARCHES='$(ARCHES)' tools/dist/check.sh

demo: engine ## show the main job, narrated: two racks, real ToRs, pods that reach each other
	@$(BED) deps lab
	@CGO_ENABLED=0 go run ./integration/cmd/lab demo

lab: engine ## bring the demo's topology up and leave it up, with a shell
	@$(BED) deps lab
	@CGO_ENABLED=0 go run ./integration/cmd/lab up

drill: engine ## break a rack, and open a shell to find out why and to mend it: docs/drill.md (N=1 to 5)
	@$(BED) deps lab
	@CGO_ENABLED=0 go run ./integration/cmd/lab drill $(N)

deps: engine ## install the Debian packages that demo, lab and test need (root)
	@$(BED) deps lab frr etcd runtime race prometheus collector

test: engine ## run everything: unit, race, kernel, whole-system; end with a list of what ran where
	@$(BED) test

test-unit: engine ## run the tests of all rooms natively, without the whole-system ones
	go test -race $$(go list ./... | grep -v '^onlink/integration')

test-integration: engine ## run the whole-system tests
	@$(BED) test ./integration/...

test-docs: build ## run every command of README.md and docs/*.md, and have programs read the files in them
	@$(BED) deps lab frr etcd prometheus
	@ONLINK_BIN=$(CURDIR)/bin go test -count=1 -parallel 4 ./integration/docs

test-interop: build ## run onlinkd against BIRD, FRR, ExaBGP and gobgpd, and write docs/interop.md
	@$(BED) deps interop
	ONLINK_INTEROP=1 go test -count=1 -run '^TestInterop$$' ./bgp/bfd
	ONLINK_BIN=$(CURDIR)/bin go test -count=1 -v -timeout 60m -run '^TestInterop' ./integration -args -interop.full -interop.write

test-glass: build ## open the looking glass of a running agent in headless Chromium (PICTURE=file writes the screenshot of docs/glass.md)
	@$(BED) deps lab browser
	ONLINK_BIN=$(CURDIR)/bin ONLINK_CHROMIUM=$${ONLINK_CHROMIUM:-chromium-headless-shell} go test -count=1 -v -timeout 10m ./integration/glass -args -glass.picture='$(if $(PICTURE),$(abspath $(PICTURE)))'

test-kernel: build ## run the kernel's tests on Debian's stock kernel in QEMU, which has ipip and nftables at once (TESTS=pattern)
	@$(BED) deps lab qemu
	@$(BED) kernel -run '$(value TESTS)'

kube-binaries: engine ## build Kubernetes from Go modules into build/kube (eight minutes, once)
	@$(KUBE) build build/kube

test-kube: image ## run the tests in a real Kubernetes cluster on this machine (TESTS=pattern)
	@$(BED) deps kube
	@ONLINK_BIN=$(CURDIR)/bin $(KUBE) test --run '$(value TESTS)'

test-kube-tunnel: image ## run a cluster of two racks through the ipip tunnel, in user-mode Linux where this kernel has none
	@$(BED) deps kube
	@ONLINK_BIN=$(CURDIR)/bin $(KUBE) tunnel

test-policy: build kube-network-policies ## try NetworkPolicy with real packets, on Debian's stock kernel in QEMU (TESTS=pattern of its parts)
	@$(BED) deps lab kube qemu
	@$(KUBE) policy --run '$(value TESTS)'

demo-kube: image ## show onlink in Kubernetes, narrated: a bare cluster, one apply, pods, a service behind a ToR, drain
	@$(KUBE) demo

kube-up: engine ## start a Kubernetes cluster on this machine and leave it up (FLAGS=..., see go run ./integration/kube/cmd/cluster up -h)
	@$(KUBE) up $(FLAGS)

kube-down: engine ## end it
	@$(KUBE) down

test-long: build ## run the tests with many repetitions (an hour, every CPU busy for forty minutes)
	@$(BED) deps lab frr etcd
	ONLINK_BIN=$(CURDIR)/bin go test -count=1 -v -timeout 90m -run '^(TestRestarts|TestRestartWithDeadPeer|TestPowerCut|TestGhosts|TestCrash|TestHostile|TestApplies)$$' ./integration -args -long -crash.ops=10000 -applies.changes=1000
	ONLINK_BIN=$(CURDIR)/bin go test -count=1 -v -timeout 60m -run '^TestFaults$$' ./integration -args -faults.time=10m
	ONLINK_LONG=10m go test -count=1 -timeout 30m -run '^TestLoad$$' ./bgp/bfd

chaos: build ## do harm to two racks for CHAOSTIME, and require what docs/objectives.md promises (SEED=7 repeats a run)
	@$(BED) deps lab
	ONLINK_BIN=$(CURDIR)/bin go test -count=1 -v -timeout 90m -run '^TestChaos$$' ./integration -args -chaos.time=$(CHAOSTIME) -chaos.seed=$(SEED)

chaos-ipip: build ## the same through ipip, in user-mode Linux (does not pass yet: docs/objectives.md)
	@$(BED) deps lab uml
	@$(BED) uml-test -timeout 90m -run '^TestChaos$$' ./integration -chaos.time=$(CHAOSTIME) -chaos.seed=$(SEED)

chaos-mutants: build ## plant faults into the programs, one at a time: make chaos must find each (an hour)
	@$(BED) deps lab
	@go run ./integration/cmd/mutants $(if $(filter-out 0,$(SEED)),-seed $(SEED)) -time $(CHAOSTIME)

test-upgrade: build ## take a lab from the programs of another version to these and back, under traffic (FROM=commit; default the last version)
	@$(BED) deps lab frr
	@former=$$($(BED) former -ref '$(FROM)') && \
		ONLINK_BIN=$(CURDIR)/bin ONLINK_FORMER=$$former go test -count=1 -v -timeout 60m ./integration/upgrade

bench: engine ## compare with BIRD and the reference plugins: build/bench.json (FIGURES=fib.,cni.)
	@$(BED) deps bench
	@go run ./integration/cmd/bench -figures '$(FIGURES)' -o build/bench.json

scale: engine ## play NODES nodes against two reflectors and a registry: build/scale.json (docs/scaling.md)
	@$(BED) deps bench etcd
	@go run ./integration/cmd/scale -nodes $(NODES) -o build/scale.json

bench-go: engine ## run all Go benchmarks (BENCHTIME=1s BENCHCOUNT=6)
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -count $(BENCHCOUNT) ./...

bench-compare: engine ## compare the benchmarks of this tree with those of REF=commit
	@$(BED) bench-compare -ref '$(REF)' -benchtime $(BENCHTIME) -count $(BENCHCOUNT)

fuzz: engine ## run every fuzz target for FUZZTIME=30s
	@$(BED) fuzz -time $(FUZZTIME)

lint: ## run golangci-lint with .golangci.yml (the first run builds it: two minutes)
	GOFLAGS="$$ONLINK_GOFLAGS" $(LINT) run ./...

fmt: ## format the Go files
	GOFLAGS="$$ONLINK_GOFLAGS" $(LINT) fmt ./...

house: engine ## print figures of the tree's structure beside their goals and bounds
	@go run ./tools/house

vet: engine ## run go vet
	go vet ./...

generate: ## generate Go from proto/, deep copies, CRDs and their reference from kube/api (needs protoc: apt-get install protobuf-compiler)
	@command -v protoc >/dev/null || { echo 'make generate: protoc is missing; apt-get install --no-install-recommends protobuf-compiler' >&2; exit 1; }
	@mkdir -p build/tools
	GOFLAGS="$$ONLINK_GOFLAGS" go build -modfile=tools/tools.mod -o build/tools/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc sigs.k8s.io/controller-tools/cmd/controller-gen
	PATH="$(CURDIR)/build/tools:$$PATH" protoc --go_out=. --go_opt=module=onlink \
		--go-grpc_out=. --go-grpc_opt=module=onlink -I proto/v1 $$(cd proto/v1 && ls *.proto)
	GOFLAGS="$$ONLINK_GOFLAGS" go test -count=1 -run 'TestBreaking$$' ./proto -args -update
	GOFLAGS="$$ONLINK_GOFLAGS" build/tools/controller-gen object paths=./kube/api/...
	GOFLAGS="$$ONLINK_GOFLAGS" build/tools/controller-gen crd paths=./kube/api/... output:crd:dir=deploy/kubernetes/crds
	GOFLAGS="$$ONLINK_GOFLAGS" go run ./tools/objects
	GOFLAGS="$$ONLINK_GOFLAGS" go run ./tools/generated -write
	@$(MAKE) --no-print-directory reference

reference: engine ## write docs/reference of the programs, their configuration and the API, from the code, and docs/pictures from their texts
	@go test -count=1 -run '^TestManual' $(dir $(wildcard ./cmd/*/manual_test.go)) ./agent/config -args -manual.write
	@go run ./tools/api
	@go run ./tools/pictures

manifests: ## render the chart with its defaults: deploy/kubernetes/onlink.yaml
	GOFLAGS="$$ONLINK_GOFLAGS" go run ./tools/manifests

.PHONY: generate-metrics
generate-metrics: engine ## write docs/reference/metrics.md from the metrics of the programs
	go test -count=1 -run 'TestReference$$' ./deploy/monitoring -args -update

check: lint vet test ## run everything that a change must pass

clean: ## remove the files of the other targets, except the work in build/engine-edit
	rm -rf bin
	@[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name engine-edit -exec rm -rf {} +
