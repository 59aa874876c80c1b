package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPage: the page in docs is that of the CRDs, and every field has a text.
func TestPage(t *testing.T) {
	want, err := page("../../deploy/kubernetes/crds")
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../docs/reference/kubernetes-objects.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(have)); diff != "" {
		t.Errorf("run make generate (-want +have):\n%s", diff)
	}
}

// TestFields reads a small CRD with everything that a row can have.
func TestFields(t *testing.T) {
	const text = `
spec:
  group: example.org
  names: {kind: Thing, plural: things, shortNames: [th]}
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          description: A thing.
          properties:
            spec:
              required: [size]
              x-kubernetes-validations: [{rule: x, message: size fits}]
              properties:
                size: {type: integer, description: "Bytes | bits.", minimum: 1, maximum: 9, default: 3}
                mode: {type: string, description: How., enum: [a, "off"]}
                parts:
                  type: array
                  description: Its parts.
                  items: {type: object, properties: {name: {type: string%s}}}
`
	write := func(description string) (string, error) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "t.yaml"), []byte(strings.Replace(text, "%s", description, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		return page(dir)
	}
	got, err := write(", description: Its name.")
	if err != nil {
		t.Fatal(err)
	}
	const want = `
## Thing

A thing.

` + "`example.org/v1`, resource `things` (short `th`)." + `

` + "| `spec` | type | meaning |" + `
|---|---|---|
` + "| `mode` | `a`, `off` | How. |" + `
` + "| `parts` | list of object | Its parts. |" + `
` + "| `parts[].name` | string | Its name. |" + `
` + "| `size` | integer | Bytes \\| bits. (required; default `3`; 1 to 9) |" + `

Rule: size fits.
`
	if diff := cmp.Diff(head+want, got); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if _, err := write(""); err == nil || !strings.Contains(err.Error(), "field Thing.spec.parts[].name has no description") {
		t.Errorf("a field without a description: %v", err)
	}
}
