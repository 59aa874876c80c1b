# onlink: build, test and show. `make` prints the targets.
# Needs Go, make and git; the targets that need more install it (see deps).

SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X onlink/agent.Version=$(VERSION) -X main.Version=$(VERSION)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
BED     := go run ./integration/cmd/bed
LINT    ?= go tool -modfile=tools/go.mod golangci-lint
FUZZTIME ?= 30s
BENCHTIME ?= 1s
BENCHCOUNT ?= 6

.PHONY: help build demo lab deps test test-unit test-integration bench bench-go bench-compare fuzz lint fmt vet generate check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build onlinkd, onlinkctl and onlink-cni into bin/ (static)
	$(GOBUILD) -o bin/ ./cmd/...

demo: ## show the main job, narrated: two racks, real ToRs, pods that reach each other
	@$(BED) deps lab
	@CGO_ENABLED=0 go run ./integration/cmd/lab demo

lab: ## bring the demo's topology up and leave it up, with a shell
	@$(BED) deps lab
	@CGO_ENABLED=0 go run ./integration/cmd/lab up

deps: ## install the Debian packages that demo, lab and test need (root)
	@$(BED) deps lab frr etcd runtime race

test: ## run everything: unit, race, kernel, whole-system; what ran where is listed
	@$(BED) test

test-unit: ## run the tests of all rooms natively, without the whole-system ones
	go test -race $$(go list ./... | grep -v '^onlink/integration')

test-integration: ## run the whole-system tests
	@$(BED) test ./integration/...

bench: ## measure next to BIRD and the reference plugins: build/bench.json (FIGURES=fib.,cni.)
	@$(BED) deps bench
	@go run ./integration/cmd/bench -figures '$(FIGURES)' -o build/bench.json

bench-go: ## run all Go benchmarks (BENCHTIME=1s BENCHCOUNT=6)
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -count $(BENCHCOUNT) ./...

bench-compare: ## compare the benchmarks of this tree with those of REF=commit
	@$(BED) bench-compare -ref '$(REF)' -benchtime $(BENCHTIME) -count $(BENCHCOUNT)

fuzz: ## run every fuzz target for FUZZTIME=30s
	@$(BED) fuzz -time $(FUZZTIME)

lint: ## run golangci-lint as .golangci.yml says (the first run builds it: two minutes)
	$(LINT) run ./...

fmt: ## format as lint wants it
	$(LINT) fmt ./...

vet: ## run go vet
	go vet ./...

generate: ## generate Go from proto/ (needs protoc: apt-get install protobuf-compiler)
	@command -v protoc >/dev/null || { echo 'make generate: protoc is missing; apt-get install --no-install-recommends protobuf-compiler' >&2; exit 1; }
	@mkdir -p build/tools
	go build -modfile=tools/go.mod -o build/tools/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	PATH="$(CURDIR)/build/tools:$$PATH" protoc --go_out=. --go_opt=module=onlink \
		--go-grpc_out=. --go-grpc_opt=module=onlink $$(find proto -name '*.proto' | sort)

check: lint vet test ## what must pass before a change goes in

clean: ## remove what the other targets built
	rm -rf bin build
