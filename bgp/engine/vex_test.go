package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// vex has the fields that are used here of an OpenVEX document (v0.2.0).
type vex struct {
	Statements []struct {
		Vulnerability struct{ Name string }
		Products      []struct {
			Subcomponents []struct {
				ID string `json:"@id"`
			}
		}
		Status, Justification string
		ImpactStatement       string `json:"impact_statement"`
	}
}

// advisories are the public ones against the engine's version or against code
// that it has. A new one needs a statement, and a test that proves it.
var advisories = []string{
	"CVE-2023-46565",
	"CVE-2025-43970", "CVE-2025-43971", "CVE-2025-43972", "CVE-2025-43973",
	"CVE-2026-30405", "CVE-2026-37461", "CVE-2026-37462", "CVE-2026-41642", "CVE-2026-41643", "CVE-2026-42285",
	"CVE-2026-49837", "CVE-2026-49838", "CVE-2026-7734", "CVE-2026-7735", "CVE-2026-7736", "CVE-2026-7737",
}

var testOfStatement = regexp.MustCompile(` Test: (Test\w+)(?:/(\S+))? in bgp\.$`)

// TestVEX: deploy/security has a statement on each advisory, about the version
// that is built; what does not apply has a justification that OpenVEX knows, and
// names a test that exists.
func TestVEX(t *testing.T) {
	var doc vex
	text := read(t, "../../deploy/security/gobgp.openvex.json")
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	var tests strings.Builder
	for _, f := range files {
		tests.WriteString(read(t, f))
	}
	s := ourSeries(t)
	var names []string
	for _, st := range doc.Statements {
		name := st.Vulnerability.Name
		names = append(names, name)
		if len(st.Products) != 1 || len(st.Products[0].Subcomponents) != 1 || st.Products[0].Subcomponents[0].ID != "pkg:golang/"+s.module+"@"+s.version {
			t.Errorf("%s: not about %s %s: %+v", name, s.module, s.version, st.Products)
		}
		if st.Status == "under_investigation" || st.Status == "fixed" {
			continue // upstream's fix is in the version that is built
		}
		justified := []string{"inline_mitigations_already_exist", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path"}
		if st.Status != "not_affected" || !slices.Contains(justified, st.Justification) {
			t.Errorf("%s: status %s, justification %s", name, st.Status, st.Justification)
		}
		m := testOfStatement.FindStringSubmatch(st.ImpactStatement)
		switch {
		case m == nil:
			t.Errorf("%s names no test: %s", name, st.ImpactStatement)
		case !strings.Contains(tests.String(), "func "+m[1]+"(") || m[2] != "" && !strings.Contains(tests.String(), `"`+m[2]+`"`):
			t.Errorf("%s names %s %s, which is not in bgp", name, m[1], m[2])
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, advisories) {
		t.Errorf("statements on %v, want %v", names, advisories)
	}
	if _, err := os.Stat("../../deploy/security/README.md"); err != nil {
		t.Error(err)
	}
}
