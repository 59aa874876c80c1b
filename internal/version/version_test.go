package version

import (
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFrom: what make links in goes before what the go command recorded, which is all
// that a build without make has.
func TestFrom(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef01234567"
	recorded := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.4-0.20261130064500-0123456789ab"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: hash}}}
	for _, tt := range []struct {
		name            string
		version, commit string
		build           *debug.BuildInfo
		want            Info
		text            string
	}{
		{"make in a clone", "v1.2.3", hash, recorded, Info{Version: "v1.2.3", Commit: hash}, "v1.2.3 (commit 0123456789ab, go, here)"},
		{"make in a tarball", "v1.2.3", hash, &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, Info{Version: "v1.2.3", Commit: hash}, "v1.2.3 (commit 0123456789ab, go, here)"},
		{"make in a copy", "v0.0.0-unknown", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, Info{Version: "v0.0.0-unknown"}, "v0.0.0-unknown (go, here)"},
		{"go build in a clone", "", "", recorded, Info{Version: recorded.Main.Version, Commit: hash}, recorded.Main.Version + " (commit 0123456789ab, go, here)"},
		{"go build elsewhere", "", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, Info{Version: "(devel)"}, "(devel) (go, here)"},
		{"nothing recorded", "", "", nil, Info{Version: "(devel)"}, "(devel) (go, here)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := from(tt.version, tt.commit, tt.build)
			tt.want.Go, tt.want.Platform = runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			got.Go, got.Platform = "go", "here"
			if text := got.String(); text != tt.text {
				t.Errorf("%q, want %q", text, tt.text)
			}
		})
	}
}

// TestLinked: the linker says nothing when a variable that make sets does not exist.
func TestLinked(t *testing.T) {
	text, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`-X (\S+)=`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"onlink/cni/shim.Version", "onlink/internal/version.Commit", "onlink/internal/version.Version"}, names); diff != "" {
		t.Errorf("make sets (-want +got):\n%s", diff)
	}
}
