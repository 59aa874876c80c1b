package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// patch is one file of this folder.
type patch struct {
	name string
	text []byte
}

// readPatches reads all patches in the order of their numbers.
func readPatches(files fs.FS) ([]patch, error) {
	names, err := fs.Glob(files, "*.patch") // sorted
	if err != nil {
		return nil, fmt.Errorf("find patches: %w", err)
	}
	patches := make([]patch, 0, len(names))
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read patch: %w", err)
		}
		patches = append(patches, patch{name, text})
	}
	return patches, nil
}

// apply changes the copy in dir.
func (p patch) apply(ctx context.Context, dir string) error {
	before, err := p.read(dir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "git", "-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", "-")
	cmd.Dir = dir
	cmd.Env = gitEnv(dir)
	cmd.Stdin = bytes.NewReader(p.text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply %s: %w: %s", p.name, err, bytes.TrimSpace(out))
	}
	after, err := p.read(dir)
	if err != nil {
		return err
	}
	// git apply skips, and reports success, what it takes to lie outside of a
	// surrounding repository's folder.
	for i := range after {
		if bytes.Equal(before[i], after[i]) {
			return fmt.Errorf("apply %s: file %d of the patch is unchanged", p.name, i+1)
		}
	}
	return nil
}

var target = regexp.MustCompile(`(?m)^\+\+\+ b/(\S+)`)

// read returns the contents of the files the patch changes or makes.
func (p patch) read(dir string) ([][]byte, error) {
	found := target.FindAllSubmatch(p.text, -1)
	if len(found) == 0 {
		return nil, fmt.Errorf("apply %s: it changes no file", p.name)
	}
	texts := make([][]byte, 0, len(found))
	for _, m := range found {
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(string(m[1]))))
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("apply %s: %w", p.name, err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// gitEnv keeps git from finding a repository around dir, or one that a hook's
// environment names, and from reading anybody's settings.
func gitEnv(dir string) []string {
	env := []string{
		"GIT_CEILING_DIRECTORIES=" + filepath.Dir(dir),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "LC_ALL=C",
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GIT_") && !strings.HasPrefix(v, "LC_ALL=") {
			env = append(env, v)
		}
	}
	return env
}
