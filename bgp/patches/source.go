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

const (
	// modulePath is the module that is patched.
	modulePath = "github.com/osrg/gobgp/v3"
	// moduleVersion is the only version the patches are for.
	moduleVersion = "v3.37.0"
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

var required = regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(modulePath) + `\s+(v\S+)`)

// checkVersion refuses a go.mod that asks for any version but that of the
// patches.
func checkVersion(goMod []byte) error {
	m := required.FindSubmatch(goMod)
	if m == nil {
		return fmt.Errorf("go.mod does not require %s", modulePath)
	}
	if string(m[1]) != moduleVersion {
		return fmt.Errorf("go.mod requires %s %s, the patches are for %s: review them, then change moduleVersion", modulePath, m[1], moduleVersion)
	}
	return nil
}

// source returns the folder with the module's source, and downloads it where
// it is not there yet; the go command compares it with go.sum.
func source(ctx context.Context, root string) (string, error) {
	m, err := goModule(ctx, root, "mod", "download", "-json", modulePath+"@"+moduleVersion)
	if err != nil {
		return "", err
	}
	if m.Dir == "" {
		return "", fmt.Errorf("download %s %s: no source: %s", modulePath, moduleVersion, m.Error)
	}
	return m.Dir, nil
}

// module is what the go command says of one.
type module struct{ Dir, Error string }

// goModule runs a go command on the tree's own go.mod, whatever -modfile the
// caller's GOFLAGS have.
func goModule(ctx context.Context, root string, args ...string) (module, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	flags := slices.DeleteFunc(strings.Fields(os.Getenv("GOFLAGS")), func(f string) bool { return strings.Contains(f, "-modfile=") })
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.Join(flags, " "))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var m module
	if jsonErr := json.Unmarshal(out, &m); err == nil {
		err = jsonErr
	}
	if err != nil {
		return module{}, fmt.Errorf("go %s: %w: %s%s", strings.Join(args, " "), err, m.Error, bytes.TrimSpace(stderr.Bytes()))
	}
	return m, nil
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

func wanted(file string) bool {
	switch filepath.Base(file) {
	case "go.mod", "go.sum", "LICENSE":
		return true
	}
	return strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go")
}
