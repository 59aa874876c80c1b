package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestNoKubernetes: the process with privileges links nothing of Kubernetes: its
// libraries would double the memory of an idle agent, and bring credentials' code.
func TestNoKubernetes(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 100 {
		t.Fatalf("%d packages: go list does not list all", len(packages))
	}
	for _, p := range packages {
		if strings.HasPrefix(p, "k8s.io/") || strings.HasPrefix(p, "sigs.k8s.io/") || strings.HasPrefix(p, "onlink/kube") {
			t.Errorf("onlinkd links %s: go mod why -m has the way", p)
		}
	}
}
