package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// module is a Go module that is linked into a program.
type module struct {
	path, version string
	sum           string // h1: of go.sum; "": of a module with our patches
	patched       bool
	license       string    // SPDX expression; "": not recognised
	texts         []license // its licence files
}

// license is one file of a module.
type license struct {
	name string
	text []byte
}

// The names of licence files, in lower case.
var licenseNames = []string{"license", "licence", "copying", "notice", "unlicense"}

// The shares of a text, in percent, that a recognised licence has at least.
const recognised = 75

// readModules returns the modules of the programs with their licences: the go
// command finds their folders, which a build has filled.
func readModules(ctx context.Context, root string, programs []*program) ([]*module, error) {
	var out []*module
	for _, p := range programs {
		for _, d := range p.info.Deps {
			m := moduleOf(d)
			if !slices.ContainsFunc(out, func(o *module) bool { return o.path == m.path }) {
				out = append(out, m)
			}
		}
	}
	slices.SortFunc(out, func(a, b *module) int { return cmp.Compare(a.path, b.path) })
	dirs, err := moduleDirs(ctx, root, out)
	if err != nil {
		return nil, err
	}
	for _, m := range out {
		if err := m.readLicenses(dirs[m.path]); err != nil {
			return nil, fmt.Errorf("licence of %s: %w", m.path, err)
		}
	}
	return out, nil
}

// moduleOf translates a line of the build information. A module that is replaced by a
// folder is the engine with our patches.
func moduleOf(d *debug.Module) *module {
	m := &module{path: d.Path, version: d.Version, sum: d.Sum}
	if d.Replace != nil {
		m.sum, m.patched = "", true
	}
	return m
}

func moduleDirs(ctx context.Context, root string, modules []*module) (map[string]string, error) {
	args := []string{"list", "-m", "-json=Path,Dir"}
	for _, m := range modules {
		args = append(args, m.path)
	}
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = root, &errs
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	dirs := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var m struct{ Path, Dir string }
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return dirs, nil
		} else if err != nil {
			return nil, err
		}
		dirs[m.Path] = m.Dir
	}
}

// readLicenses reads the licence files in a module's folder: there is at least one,
// else nobody may pass the programs on.
func (m *module) readLicenses(dir string) error {
	if dir == "" {
		return errors.New("the module is not in the module cache: build the programs on this machine, with the same go.mod")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var ids []string
	for _, e := range entries {
		if !e.Type().IsRegular() || !isLicense(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		m.texts = append(m.texts, license{e.Name(), text})
		if cover := licensecheck.Scan(text); cover.Percent >= recognised {
			for _, match := range cover.Match {
				if !slices.Contains(ids, match.ID) {
					ids = append(ids, match.ID)
				}
			}
		}
	}
	if len(m.texts) == 0 {
		return errors.New("no licence file in the module")
	}
	m.license = strings.Join(ids, " AND ")
	return nil
}

func isLicense(name string) bool {
	name = strings.ToLower(name)
	return filepath.Ext(name) != ".go" && slices.ContainsFunc(licenseNames, func(p string) bool { return strings.HasPrefix(name, p) })
}

// licenseTexts is the file that the licences ask for: all of them, each with its
// modules.
func licenseTexts(modules []*module) []byte {
	var out bytes.Buffer
	fmt.Fprintln(&out, "The programs of this package are linked with the Go standard library, whose\nlicence is that of golang.org/x/sys, and with the modules below.")
	line := strings.Repeat("=", 79)
	for _, m := range modules {
		for _, l := range m.texts {
			fmt.Fprintf(&out, "\n%s\n%s %s: %s\n%s\n\n%s\n", line, m.path, m.version, l.name, line, bytes.TrimRight(l.text, "\n"))
		}
	}
	return out.Bytes()
}
