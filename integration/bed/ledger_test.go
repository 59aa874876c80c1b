package bed

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const nativeEvents = `{"Action":"start","Package":"onlink/a"}
{"Action":"run","Package":"onlink/a","Test":"TestPlain"}
{"Action":"pass","Package":"onlink/a","Test":"TestPlain","Elapsed":0.5}
{"Action":"run","Package":"onlink/a","Test":"TestTunnel"}
{"Action":"output","Package":"onlink/a","Test":"TestTunnel","Output":"    needs kernel feature: ipip\n"}
{"Action":"skip","Package":"onlink/a","Test":"TestTunnel"}
{"Action":"run","Package":"onlink/a","Test":"TestKinds"}
{"Action":"run","Package":"onlink/a","Test":"TestKinds/vxlan"}
{"Action":"pass","Package":"onlink/a","Test":"TestKinds/vxlan"}
{"Action":"run","Package":"onlink/a","Test":"TestKinds/ipip"}
{"Action":"skip","Package":"onlink/a","Test":"TestKinds/ipip"}
{"Action":"pass","Package":"onlink/a","Test":"TestKinds"}
{"Action":"pass","Package":"onlink/a","Elapsed":1.5}
{"Action":"skip","Package":"onlink/proto/v1"}
`

func ledgerOf(t *testing.T, events map[Place]string) *Ledger {
	t.Helper()
	l := NewLedger()
	for bed, text := range events {
		if err := ReadEvents(strings.NewReader(text), func(ev Event) { l.Add(bed, ev) }); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestCounts(t *testing.T) {
	const ranInUML = `{"Action":"pass","Package":"onlink/a","Test":"TestTunnel"}
{"Action":"skip","Package":"onlink/a","Test":"TestKinds/vxlan"}
{"Action":"pass","Package":"onlink/a","Test":"TestKinds/ipip"}
{"Action":"pass","Package":"onlink/a","Test":"TestKinds"}
{"Action":"pass","Package":"onlink/a"}
`
	tests := []struct {
		name string
		uml  string
		want string
		// trouble is what the report must name; empty: nothing is wrong.
		trouble string
	}{
		{"both beds", ranInUML, "5 passed, 0 failed, 0 skipped", ""},
		{"no second bed", "", "3 passed, 0 failed, 2 skipped", "skipped in every bed: onlink/a.TestTunnel"},
		{"skipped there too", strings.Replace(ranInUML, `"pass","Package":"onlink/a","Test":"TestTunnel"`, `"skip","Package":"onlink/a","Test":"TestTunnel"`, 1), "4 passed, 0 failed, 1 skipped", "skipped in every bed: onlink/a.TestTunnel"},
		{"failed there", strings.Replace(ranInUML, `"pass","Package":"onlink/a","Test":"TestTunnel"`, `"fail","Package":"onlink/a","Test":"TestTunnel"`, 1), "4 passed, 1 failed, 0 skipped", "FAIL onlink/a.TestTunnel (uml)"},
		{"passed natively, failed there", strings.Replace(ranInUML, `"skip"`, `"fail"`, 1), "4 passed, 1 failed, 0 skipped", "FAIL onlink/a.TestKinds/vxlan (uml)"},
		{"died there", ranInUML + `{"Action":"run","Package":"onlink/b","Test":"TestX"}`, "5 passed, 1 failed, 0 skipped", "DIED onlink/b.TestX (uml)"},
		{"one of two processes failed", ranInUML + `{"Action":"fail","Package":"onlink/b"}
{"Action":"pass","Package":"onlink/b"}`, "5 passed, 1 failed, 0 skipped", "FAIL onlink/b (uml)"},
		{"process failed after its tests", ranInUML + `{"Action":"fail","Package":"onlink/a"}`, "5 passed, 1 failed, 0 skipped", "FAIL onlink/a (uml)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := ledgerOf(t, map[Place]string{Native: nativeEvents, UML: tt.uml})
			if got := l.Counts().String(); got != tt.want {
				t.Errorf("counts = %q, want %q", got, tt.want)
			}
			var report strings.Builder
			l.WriteTroubles(&report)
			if tt.trouble == "" && report.Len() > 0 {
				t.Errorf("report of a good run:\n%s", report.String())
			}
			if !strings.Contains(report.String(), tt.trouble) {
				t.Errorf("report does not name %q:\n%s", tt.trouble, report.String())
			}
		})
	}
}

func TestBuildFailure(t *testing.T) {
	l := ledgerOf(t, map[Place]string{Native: `{"ImportPath":"onlink/a [onlink/a.test]","Action":"build-output","Output":"a.go:1: syntax error\n"}
{"ImportPath":"onlink/a [onlink/a.test]","Action":"build-fail"}
{"Action":"start","Package":"onlink/a"}
{"Action":"output","Package":"onlink/a","Output":"FAIL\tonlink/a [build failed]\n"}
{"Action":"fail","Package":"onlink/a","FailedBuild":"onlink/a [onlink/a.test]"}
`})
	if got := l.Counts(); got != (Counts{Failed: 1}) {
		t.Errorf("counts = %v", got)
	}
	var report strings.Builder
	l.WriteTroubles(&report)
	if !strings.Contains(report.String(), "a.go:1: syntax error") {
		t.Errorf("report lacks the compiler's words:\n%s", report.String())
	}
}

func TestSkippedIn(t *testing.T) {
	l := ledgerOf(t, map[Place]string{Native: nativeEvents})
	want := []TestID{{"onlink/a", "TestKinds/ipip"}, {"onlink/a", "TestTunnel"}}
	if diff := cmp.Diff(want, l.SkippedIn(Native)); diff != "" {
		t.Errorf("skipped natively (-want +got):\n%s", diff)
	}
	if got, want := topPattern(l.SkippedIn(Native)), "^(TestKinds|TestTunnel)$"; got != want {
		t.Errorf("pattern = %q, want %q", got, want)
	}
}

func TestPlainLinesAreKept(t *testing.T) {
	l := ledgerOf(t, map[Place]string{Native: "go: cannot find main module\n"})
	var report strings.Builder
	l.WriteTroubles(&report)
	if !strings.Contains(report.String(), "cannot find main module") {
		t.Errorf("report = %q", report.String())
	}
}

func TestWriteTable(t *testing.T) {
	l := ledgerOf(t, map[Place]string{
		Native: nativeEvents,
		UML:    `{"Action":"pass","Package":"onlink/a","Test":"TestTunnel"}`,
	})
	var table strings.Builder
	if err := l.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	want := `WHAT RAN WHERE      native  uml   nowhere
onlink/a            3       1     1
    TestKinds/ipip  skip    -     
    TestTunnel      skip    pass  
`
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}
