package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestFewKinds: the process of every node links none of the packages of client-go
// that know all kinds of Kubernetes or its OpenAPI models: registering those at the
// start touches megabytes of memory on every node.
func TestFewKinds(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 100 {
		t.Fatalf("%d packages: go list does not list all", len(packages))
	}
	for _, p := range packages {
		for _, not := range []string{
			"k8s.io/client-go/kubernetes", "k8s.io/client-go/applyconfigurations", "k8s.io/client-go/discovery", "k8s.io/client-go/informers",
			"github.com/google/gnostic-models", "k8s.io/kube-openapi/pkg/util/proto",
		} {
			if p == not || strings.HasPrefix(p, not+"/") {
				t.Errorf("onlink-kube links %s: use kube/client, whose kinds are few; go mod why has the way", p)
			}
		}
	}
}
