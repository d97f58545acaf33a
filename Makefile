# Hallmark. `make help` lists the targets.

SHELL := /bin/bash
export CGO_ENABLED := 0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 30s
TESTFLAGS ?=

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help demo build test race check bench pgo fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## a tour on a fresh server: enrol, decide, refuse, prove (DEMO_ONCE=1 ends after it)
	@scripts/demo

build: ## bin/hallmark and bin/hallmark-device, static
	go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

test: ## every test; installs what the tests need
	@scripts/test-deps
	go test -timeout 20m $(TESTFLAGS) ./...

race: ## every test under the race detector (needs a C compiler)
	@scripts/test-deps
	CGO_ENABLED=1 go test -race -timeout 30m ./...

check: ## formatting, vet, static analysis, known vulnerabilities, the import plan
	@scripts/check-format
	go vet ./...
	go run $(STATICCHECK) ./...
	go mod verify
	go mod tidy -diff
	go test ./internal/archtest
	@scripts/check-vulnerabilities

bench: build ## cost of an enrolment beside a bare EST server, memory, disk (BENCHFLAGS=-help)
	go run ./internal/bench -hallmark bin/hallmark $(BENCHFLAGS)

pgo: build ## profile the enrolment path anew, for the compiler (cmd/hallmark/default.pgo)
	for s in fresh kept renew; do go run ./internal/bench -hallmark bin/hallmark -rounds 1 -n 10000 -only $$s -cpuprofile bin/$$s.pprof; done
	go tool pprof -proto bin/fresh.pprof bin/kept.pprof bin/renew.pprof >cmd/hallmark/default.pgo

fuzz: ## every fuzz target for FUZZTIME (30s)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz

clean: ## remove what the build made
	rm -rf bin
