package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// repository is a git tree with tools/version.sh.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	r := &repository{t: t, dir: t.TempDir()}
	for _, name := range []string{"tools/version.sh", "tools/version.txt", ".gitattributes"} {
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(r.dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o755); err != nil { //nolint:gosec // a script
			t.Fatal(err)
		}
	}
	r.git("init", "-q")
	r.git("add", ".")
	r.commit()
	return r
}

func (r *repository) git(args ...string) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", append([]string{"-C", r.dir, "-c", "user.name=a", "-c", "user.email=a@onlink.invalid"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=2026-11-30T07:45:00+01:00", "GIT_AUTHOR_DATE=2026-11-30T07:45:00+01:00", "GIT_CONFIG_GLOBAL=/dev/null", "TZ=Asia/Tokyo")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func (r *repository) commit() { r.git("commit", "-q", "--allow-empty", "-m", "x") }

// says wants a version and the time of the commit from the script in a folder.
func (r *repository) says(dir, version, epoch string) {
	r.t.Helper()
	hash := "[0-9a-f]{40}"
	if epoch == "0" {
		hash = ""
	}
	for _, tt := range []struct {
		args []string
		want string
	}{{nil, version}, {[]string{"--commit"}, hash}, {[]string{"--epoch"}, epoch}} {
		cmd := exec.CommandContext(r.t.Context(), filepath.Join(dir, "tools/version.sh"), tt.args...)
		cmd.Dir, cmd.Env = "/", append(os.Environ(), "TZ=Asia/Tokyo", "GIT_CONFIG_GLOBAL=/dev/null")
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || !regexp.MustCompile("^"+tt.want+"$").MatchString(got) {
			r.t.Errorf("version.sh %v: %q, %v; want %s", tt.args, got, err, tt.want)
		}
	}
}

// unpack makes a tarball of the commit, and unpacks it elsewhere.
func (r *repository) unpack(to string) {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "tree.tar")
	r.git("archive", "-o", file, "HEAD")
	if out, err := exec.CommandContext(r.t.Context(), "tar", "-C", to, "-xf", file).CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
}

const commitTime = "1796021100"

// changelog writes CHANGELOG.md with a newest heading, and commits it.
func (r *repository) changelog(newest string) {
	r.t.Helper()
	file := filepath.Join(r.dir, "CHANGELOG.md")
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("## "+newest+"\n\n- x\n\n"+string(before)), 0o644); err != nil { //nolint:gosec // source
		r.t.Fatal(err)
	}
	r.git("add", ".")
	r.commit()
}

// TestVersionOfARelease: without a tag the section of CHANGELOG.md makes the release; one
// commit alone has its version. A tag has the last word.
func TestVersionOfARelease(t *testing.T) {
	r := newRepository(t)
	for _, step := range []struct {
		do               func()
		want, ofATarball string
	}{
		{func() { r.changelog("Unreleased") }, `v0\.0\.0-20261130064500-[0-9a-f]{12}`, `v0\.0\.0-20261130064500-[0-9a-f]{12}`},
		{func() { r.changelog("0.1.0 (2026-11-30)") }, `v0\.1\.0`, `v0\.1\.1-0\.20261130064500-[0-9a-f]{12}`},
		{r.commit, `v0\.1\.0-1-g[0-9a-f]{12}`, `v0\.1\.1-0\.20261130064500-[0-9a-f]{12}`},
		{func() { r.changelog("Unreleased") }, `v0\.1\.0-2-g[0-9a-f]{12}`, `v0\.1\.1-0\.20261130064500-[0-9a-f]{12}`},
		{func() { r.changelog("0.10.9 (2027-01-01)") }, `v0\.10\.9`, `v0\.10\.10-0\.20261130064500-[0-9a-f]{12}`},
		{func() { r.git("tag", "v1.2.3") }, `v1\.2\.3`, `v1\.2\.3`},
	} {
		step.do()
		r.says(r.dir, step.want, commitTime)
		dir := t.TempDir()
		r.unpack(dir)
		r.says(dir, step.ofATarball, commitTime)
	}
}

// TestVersion: a tree before its first tag, at a tag, after it and with changes, and
// the tarball of each, have the version of their commit.
func TestVersion(t *testing.T) {
	const untagged, tagged, after = `v0\.0\.0-20261130064500-[0-9a-f]{12}`, `v1\.2\.3`, `v1\.2\.3-1-g[0-9a-f]{12}`
	r := newRepository(t)
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { r.git("tag", "other") }, untagged},
		{func() { r.git("tag", "v1.2.3") }, tagged}, // without a message, as people do
		{r.commit, after},
	} {
		step.do()
		r.says(r.dir, step.want, commitTime)
		// In another repository's tree: that one's version is not ours.
		other := newRepository(t)
		other.git("tag", "v9.9.9")
		dir := filepath.Join(other.dir, "below")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		r.unpack(dir)
		r.says(dir, step.want, commitTime)
	}
	if err := os.WriteFile(filepath.Join(r.dir, ".gitattributes"), []byte("# changed\ntools/version.txt export-subst\n"), 0o644); err != nil { //nolint:gosec // source
		t.Fatal(err)
	}
	r.says(r.dir, after+"-dirty", commitTime)
	// A copy that neither git nor git archive made.
	if err := os.RemoveAll(filepath.Join(r.dir, ".git")); err != nil {
		t.Fatal(err)
	}
	r.says(r.dir, "v0.0.0-unknown", "0")
}

// TestVersionOfThisTree: the script and the tree agree on the form that git archive
// fills in.
func TestVersionOfThisTree(t *testing.T) {
	text, err := os.ReadFile("../version.txt")
	if err != nil {
		t.Fatal(err)
	}
	// A tree of git archive has the words already.
	if !bytes.HasPrefix(text, []byte("$Format:%ct %H %(describe:")) && !regexp.MustCompile(`^\d+ [0-9a-f]{40} `).Match(text) {
		t.Errorf("tools/version.txt: %q", text)
	}
}
