package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"
)

// TestPackageVersion: later trees have higher versions to dpkg.
func TestPackageVersion(t *testing.T) {
	ordered := []struct{ version, want string }{
		{"v0.0.0-unknown", "0.0.0~unknown"},
		{"v0.0.0-20261130064500-0123456789ab", "0.0.0+git20261130064500.0123456789ab"},
		{"v0.0.0-20261130064501-0000000000ab-dirty", "0.0.0+git20261130064501.0000000000ab+dirty"},
		{"v0.1.0-rc.1", "0.1.0~rc.1"},
		{"v0.1.0-rc.1-3-g0123456789ab", "0.1.0~rc.1+3.g0123456789ab"},
		{"v0.1.0", "0.1.0"},
		{"v0.1.0-5-g0123456789ab", "0.1.0+5.g0123456789ab"},
		{"v0.1.0-dirty", "0.1.0+dirty"},
		{"v0.1.1-0.20261130064500-0123456789ab", "0.1.1~0.20261130064500.0123456789ab"},
		{"v0.1.1", "0.1.1"},
		{"v0.1.1-5-g0123456789ab", "0.1.1+5.g0123456789ab"},
		{"v0.1.1-12-g0023456789ab", "0.1.1+12.g0023456789ab"},
	}
	dpkg, err := exec.LookPath("dpkg")
	for n, tt := range ordered {
		if got := packageVersion(tt.version); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.version, got, tt.want)
		}
		if err != nil || n == 0 {
			continue
		}
		before := ordered[n-1].want
		if out, err := exec.CommandContext(t.Context(), dpkg, "--compare-versions", before, "lt", tt.want).CombinedOutput(); err != nil {
			t.Errorf("dpkg puts %s not before %s: %v %s", before, tt.want, err, out)
		}
	}
}

// stub is a program with the commands that a package is made with, and with modules.
const stub = `package main

import (
	"os"

	"github.com/spf13/cobra"
)

func main() {
	cmd := &cobra.Command{Use: "stub", Run: func(*cobra.Command, []string) { os.Stdout.WriteString("a: default\n") }}
	cmd.Flags().Bool("print-default-config", false, "")
	cmd.AddCommand(&cobra.Command{Use: "sub", Run: func(*cobra.Command, []string) {}})
	if cmd.Execute() != nil {
		os.Exit(1)
	}
}
`

// programs builds the stub under the names of our programs.
func programs(t *testing.T, env, flag string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	src, dir := t.TempDir(), t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(src, "main.go"), []byte(stub), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, agentName)
	cmd := exec.CommandContext(t.Context(), "go", "build", flag, "-o", bin, ".")
	cmd.Dir, cmd.Env = src, append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOPROXY=off", env)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ctlName, kubeName, pluginName} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	return dir
}

// fakeNFPM keeps the configuration that it is given where the package should be.
const fakeNFPM = `#!/bin/sh
[ "$1 $2 $4 $6" = "package --config --packager --target" ] && echo "$SOURCE_DATE_EPOCH" >"$7" && cat "$3" >>"$7"
`

// TestDist reads back what run makes.
func TestDist(t *testing.T) {
	nfpm := filepath.Join(t.TempDir(), "nfpm")
	if err := os.WriteFile(nfpm, []byte(fakeNFPM), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	bin, man := programs(t, "CGO_ENABLED=0", "-trimpath"), t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(man, "man8"), 0o755), os.WriteFile(filepath.Join(man, "man8", "onlinkd.8"), []byte(".TH\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	var outs []string
	for range 2 {
		out := filepath.Join(t.TempDir(), "dist")
		args := []string{"-version", "v1.2.3", "-epoch", "1796021231", "-root", "../..", "-bin", bin, "-man", man, "-nfpm", nfpm, "-o", out}
		if err := run(t.Context(), args); err != nil {
			t.Fatal(err)
		}
		outs = append(outs, out)
	}
	arch := "amd64"
	if list, err := filepath.Glob(outs[0] + "/*_arm64.deb"); err == nil && len(list) > 0 {
		arch = "arm64"
	}
	tarball := fmt.Sprintf("onlink-1.2.3-linux-%s.tar.gz", arch)
	bill := fmt.Sprintf("onlink_1.2.3_%s.spdx.json", arch)
	for _, name := range []string{tarball, bill} {
		if !bytes.Equal(read(t, outs[0], name), read(t, outs[1], name)) {
			t.Errorf("%s: other bytes the second time", name)
		}
	}
	files := untar(t, read(t, outs[0], tarball), "onlink-1.2.3-linux-"+arch)
	checkFiles(t, files)
	checkBill(t, read(t, outs[0], bill))
	for path, want := range map[string]string{
		"/usr/share/doc/onlink/onlink.spdx.json": string(read(t, outs[0], bill)), "/usr/bin/onlink-cni": "-> /opt/cni/bin/onlink-cni",
		"/usr/share/doc/onlink/onlinkd.default.yaml": "a: default\n",
	} {
		if files[path] != want {
			t.Errorf("%s: %.80q, want %.80q", path, files[path], want)
		}
	}
	checkConfig(t, read(t, outs[0], fmt.Sprintf("onlink_1.2.3-1_%s.deb", arch)), files)
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// untar returns the files below top by path; of a link where it points.
func untar(t *testing.T, text []byte, top string) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		path, below := strings.CutPrefix(h.Name, top)
		if !below || h.ModTime.Unix() != 1796021231 || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s: below %s %v, time %d, user %d:%d", h.Name, top, below, h.ModTime.Unix(), h.Uid, h.Gid)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeSymlink {
			content = []byte("-> " + h.Linkname)
		}
		files[path] = string(content)
	}
}

// checkFiles wants what a node needs: programs, unit, configuration, completions,
// licences and pages.
func checkFiles(t *testing.T, files map[string]string) {
	t.Helper()
	for path, part := range map[string]string{
		"/usr/bin/onlinkd":                                         "\x7fELF",
		"/usr/bin/onlinkctl":                                       "\x7fELF",
		"/usr/bin/onlink-kube":                                     "\x7fELF",
		"/opt/cni/bin/onlink-cni":                                  "\x7fELF",
		"/etc/onlink/onlinkd.yaml":                                 "--check-config",
		"/etc/iproute2/rt_protos.d/onlink.conf":                    "179",
		"/usr/lib/systemd/system/onlinkd.service":                  "ExecStart=/usr/bin/onlinkd --config",
		"/usr/share/bash-completion/completions/onlinkctl":         "bash completion",
		"/usr/share/zsh/vendor-completions/_onlinkd":               "#compdef",
		"/usr/share/fish/vendor_completions.d/onlink-kube.fish":    "fish completion",
		"/usr/share/man/man8/onlinkd.8.gz":                         "\x1f\x8b",
		"/usr/share/doc/onlink/LICENSE":                            "Apache License",
		"/usr/share/doc/onlink/deploy/monitoring/rules.yaml":       "alert:",
		"/usr/share/doc/onlink/docs/bgp.md":                        "BGP",
		"/usr/share/doc/onlink/docs/pictures/learn.svg":            "<svg",
		"/usr/share/doc/onlink/deploy/security/gobgp.openvex.json": "not_affected",
		"/usr/share/doc/onlink/THIRD-PARTY-LICENSES":               "github.com/spf13/cobra",
	} {
		if !strings.Contains(files[path], part) {
			t.Errorf("%s: %d bytes without %q", path, len(files[path]), part)
		}
	}
	if strings.Contains(files["/usr/lib/systemd/system/onlinkd.service"], "/usr/local") {
		t.Error("the unit starts a program that the package does not have")
	}
}

// checkBill reads the list of parts as others do.
func checkBill(t *testing.T, text []byte) {
	t.Helper()
	doc, err := spdxjson.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, p := range doc.Packages {
		have[p.PackageName] = p.PackageLicenseDeclared
	}
	for name, license := range map[string]string{"onlink": "Apache-2.0", "stdlib": "BSD-3-Clause", "github.com/spf13/cobra": "Apache-2.0", "github.com/spf13/pflag": "BSD-3-Clause"} {
		if have[name] != license {
			t.Errorf("package %s has licence %q, want %q", name, have[name], license)
		}
	}
	var links []string
	for _, r := range doc.Relationships {
		if r.RefA.ElementRefID == "program-onlinkctl" {
			links = append(links, r.Relationship+" "+string(r.RefB.ElementRefID))
		}
	}
	slices.Sort(links)
	want := []string{"STATIC_LINK go-stdlib", "STATIC_LINK module-github.com-spf13-cobra", "STATIC_LINK module-github.com-spf13-pflag"}
	if diff := cmp.Diff(want, links); diff != "" {
		t.Errorf("parts of onlinkctl (-want +got):\n%s", diff)
	}
}

// checkConfig reads what nfpm was told.
func checkConfig(t *testing.T, text []byte, files map[string]string) {
	t.Helper()
	rest, found := bytes.CutPrefix(text, []byte("1796021231\n"))
	var c nfpmConfig
	if err := json.Unmarshal(rest, &c); err != nil || !found {
		t.Fatalf("time of the package is there: %v, %v", found, err)
	}
	if c.Version != "1.2.3" || c.Scripts["postremove"] != "../../deploy/packages/postremove.sh" {
		t.Errorf("version %s, scripts %v", c.Version, c.Scripts)
	}
	var kept []string
	for _, f := range c.Contents {
		if f.Type == "config|noreplace" {
			kept = append(kept, f.Destination)
		}
		if _, there := files[f.Destination]; !there && f.Packager != rpmOnly {
			t.Errorf("%s is in the deb and not in the tar.gz", f.Destination)
		}
	}
	if diff := cmp.Diff([]string{"/etc/iproute2/rt_protos.d/onlink.conf", "/etc/onlink/onlinkd.yaml"}, kept); diff != "" {
		t.Errorf("files that an upgrade keeps (-want +got):\n%s", diff)
	}
}

// TestRejected: programs that would make bad packages are an error that names the
// remedy.
func TestRejected(t *testing.T) {
	bin := programs(t, "CGO_ENABLED=0", "-trimpath")
	good := []string{"-version", "v1.2.3", "-epoch", "1", "-root", "../..", "-man", "none", "-o", t.TempDir()}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no version", []string{"-epoch", "1"}, "tools/version.sh"},
		{"no time", []string{"-version", "v1"}, "--epoch"},
		{"no folders", []string{"-version", "v1", "-epoch", "1"}, "-bin, -man and -o"},
		{"no program", append(slices.Clone(good), "-bin", t.TempDir()), "onlinkd: no such file"},
		{"no manual page", append(slices.Clone(good), "-bin", bin), "TestManual"},
		{"paths of this machine", append(slices.Clone(good), "-bin", programs(t, "CGO_ENABLED=0", "-trimpath=false")), "-trimpath"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := run(t.Context(), tt.args); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}
