package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Former builds the programs of another commit, and returns their folder, below
// build/former of the tree. An empty ref is the last version: the newest tag before
// this commit; without one where this branch left main, which on main is the commit
// before. Commits that are built already are not built again.
func Former(ctx context.Context, progress io.Writer, ref string) (bin string, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	if ref == "" {
		if ref, err = lastVersion(ctx, root); err != nil {
			return "", err
		}
	}
	hash, err := gitOutput(ctx, root, "rev-parse", "--verify", "--quiet", ref+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("find the former version: no commit %q; use FROM=<commit>", ref)
	}
	tree := filepath.Join(root, "build", "former", hash)
	bin = filepath.Join(tree, "bin")
	if _, err := os.Stat(filepath.Join(bin, "onlinkd")); err == nil {
		return bin, nil
	}
	fmt.Fprintf(progress, "building %s (%s)\n", ref, hash)
	if err := unpack(ctx, root, hash, tree); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "make", "-C", tree, "build", "VERSION=former-"+hash)
	// Its own Makefile makes its own engine: none of this tree's settings.
	cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("ONLINK_GOFLAGS")+" -buildvcs=false", "MAKEFLAGS=", "ONLINK_GOFLAGS="+os.Getenv("ONLINK_GOFLAGS")+" -buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", ref, err, out)
	}
	return bin, nil
}

// lastVersion returns what this tree's programs take the place of.
func lastVersion(ctx context.Context, root string) (string, error) {
	if tag, err := gitOutput(ctx, root, "describe", "--tags", "--match", "v[0-9]*", "--abbrev=0", "HEAD^"); err == nil {
		return tag, nil
	}
	head, err := gitOutput(ctx, root, "rev-parse", "HEAD")
	if err != nil {
		return "", errors.New("find the former version: no git commit here; use FROM=<commit> in a clone")
	}
	for _, main := range []string{"origin/main", "main"} {
		if base, err := gitOutput(ctx, root, "merge-base", "HEAD", main); err == nil && base != head {
			return base, nil
		}
	}
	return "HEAD^", nil
}

// unpack writes the tree of a commit.
func unpack(ctx context.Context, root, hash, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	file := to + ".tar"
	if err := gitIn(ctx, root, "archive", "-o", file, hash); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "tar", "-C", to, "-xf", file).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("unpack %s: %w: %s", hash, err, out)
	}
	return errors.Join(err, os.Remove(file))
}

func gitOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}
