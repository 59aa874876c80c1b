package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// leftOut are the folders of the module that onlink does not build.
var leftOut = []string{"cmd", "docs", "test", "tools"}

// moduleRoot returns the folder of the go.mod above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("find module: no go.mod above %s", dir)
		}
	}
}

// checkVersion refuses a go.mod that asks for any version but that of the
// patches.
func (s *series) checkVersion(goMod []byte) error {
	required := regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(s.module) + `\s+(v\S+)`)
	m := required.FindSubmatch(goMod)
	if m == nil {
		return fmt.Errorf("go.mod does not require %s", s.module)
	}
	if string(m[1]) != s.version {
		return fmt.Errorf("go.mod requires %s %s, the patches are for %s: make engine-rebase TO=%s", s.module, m[1], s.version, m[1])
	}
	return nil
}

// source returns the folder with a module's source, and downloads it where it
// is not there yet. It runs outside of any module, so that no go.sum changes;
// the go command compares the source with the checksum database, and every
// build that takes the module unpatched with go.sum.
func source(ctx context.Context, path, version string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", path+"@"+version)
	cmd.Dir = os.TempDir()
	cmd.Env = append(goEnv(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var m struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &m); err == nil {
		err = jsonErr
	}
	if err == nil && m.Dir == "" {
		err = errors.New("no source")
	}
	if err != nil {
		return "", fmt.Errorf("download %s %s: %w: %s%s", path, version, err, m.Error, bytes.TrimSpace(stderr.Bytes()))
	}
	return m.Dir, nil
}

// goEnv is the environment for the go command without the -modfile that make
// puts into GOFLAGS: it names another module.
func goEnv() []string {
	flags := slices.DeleteFunc(strings.Fields(os.Getenv("GOFLAGS")), func(f string) bool { return strings.Contains(f, "-modfile=") })
	return append(os.Environ(), "GOFLAGS="+strings.Join(flags, " "))
}

// copySource copies what a build needs: Go files that are no tests, go.mod,
// go.sum and the licence. The module cache is read-only, the copy is not.
func copySource(from, to string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(leftOut, rel) {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !wanted(rel) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o644)
	})
	if err != nil {
		return fmt.Errorf("copy source: %w", err)
	}
	if _, err := os.Stat(filepath.Join(to, "LICENSE")); errors.Is(err, fs.ErrNotExist) {
		return errors.New("copy source: the module has no LICENSE")
	}
	return nil
}

// layOverlay puts the new files into the copy in dir, without tests.
func (s *series) layOverlay(dir string) error {
	for _, f := range s.overlay {
		if !wanted(f.name) {
			continue
		}
		at := filepath.Join(dir, filepath.FromSlash(f.name))
		if _, err := os.Stat(at); err == nil {
			return fmt.Errorf("lay overlay: upstream has a file %s too", f.name)
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return fmt.Errorf("lay overlay: %w", err)
		}
		if err := os.WriteFile(at, []byte(f.text), 0o644); err != nil {
			return fmt.Errorf("lay overlay: %w", err)
		}
	}
	return nil
}

func wanted(file string) bool {
	switch filepath.Base(file) {
	case "go.mod", "go.sum", "LICENSE":
		return true
	}
	return strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go")
}
