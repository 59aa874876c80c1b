// Package version names what a program of onlink was built from: the version and the
// commit that make links in (tools/version.sh), else what the go command recorded.
package version

import (
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// Version and Commit are set by the linker (-X onlink/internal/version.Version=v1.2.3).
// They are empty in a build without make.
var (
	Version string
	Commit  string
)

// Info is what a program was built from.
type Info struct {
	// Version is a tag, such as v1.2.3; behind or before one, a version that orders
	// after it, with the commit; "(devel)" when the build had no git.
	Version string `json:"version"`
	// Commit is the full hash; empty when the build had no git.
	Commit string `json:"commit,omitempty"`
	// Go and Platform are those of the build: go1.26.8, linux/amd64.
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Get returns what this program was built from.
func Get() Info {
	build, _ := debug.ReadBuildInfo() // nil without module support: a test of the standard library
	return from(Version, Commit, build)
}

// Replaced returns a note when the file of this program is another one than that which
// runs, or gone, as after an upgrade without a restart (proc_pid_exe(5)); remedy says how
// to run the new one. None: nil.
func Replaced(remedy string) []string {
	path, err := os.Readlink("/proc/self/exe")
	old, deleted := strings.CutSuffix(path, " (deleted)")
	if err != nil || !deleted {
		return nil
	}
	return []string{"the program " + old + " was replaced since the start, " + Get().Version + " still runs: " + remedy}
}

func from(version, commit string, build *debug.BuildInfo) Info {
	i := Info{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if build != nil {
		if i.Version == "" {
			i.Version = build.Main.Version
		}
		for _, s := range build.Settings {
			if s.Key == "vcs.revision" && i.Commit == "" {
				i.Commit = s.Value
			}
		}
	}
	if i.Version == "" {
		i.Version = "(devel)"
	}
	return i
}

// shortHash is how much of a commit people read.
const shortHash = 12

// String returns the version with its commit and what it was built with, as in
// "v1.2.3 (commit 0123456789ab, go1.26.8, linux/amd64)". What is given is added.
func (i Info) String(more ...string) string {
	parts := append([]string{i.Go, i.Platform}, more...)
	if i.Commit != "" {
		parts = append([]string{"commit " + i.Commit[:min(shortHash, len(i.Commit))]}, parts...)
	}
	return i.Version + " (" + strings.Join(parts, ", ") + ")"
}
