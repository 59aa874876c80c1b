package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCurrent: the generated files of the tree are made of its sources.
func TestCurrent(t *testing.T) {
	if err := run([]string{"-root", "../.."}); err != nil {
		t.Error(err)
	}
}

// TestCheck edits each side of a copy alone.
func TestCheck(t *testing.T) {
	for _, tt := range []struct{ name, edit, want string }{
		{"nothing", "", ""},
		{"a type", "kube/api/v1alpha1/bgp.go", "run make generate"},
		{"a CRD", "deploy/kubernetes/crds/onlink.io_blocks.yaml", "edited by hand"},
		{"a deep copy", "kube/api/v1alpha1/zz_generated.deepcopy.go", "edited by hand"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for _, p := range slices.Concat(sources, made, []string{sumsFile}) {
				copyFiles(t, root, p)
			}
			if tt.edit != "" {
				f, err := os.OpenFile(filepath.Join(root, tt.edit), os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteString("\n"); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			err := run([]string{"-root", root})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func copyFiles(t *testing.T, root, pattern string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, strings.TrimPrefix(f, "../../"))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
