package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const sumsFile = "tools/generated/sums.txt"

// The files that controller-gen makes, and those that it makes them of, as patterns
// below the tree's folder.
var (
	sources = []string{"kube/api/v1alpha1/[a-y]*.go"}
	made    = []string{"kube/api/v1alpha1/zz_*.go", "deploy/kubernetes/crds/*.yaml"}
)

// pair is the digests of sources and of what is made of them.
type pair struct{ from, to string }

// String returns the text of sums.txt.
func (p pair) String() string { return p.from + " " + p.to + "\n" }

func parse(text string) pair {
	from, to, _ := strings.Cut(strings.TrimSpace(text), " ")
	return pair{from, to}
}

func sums(root string) (pair, error) {
	from, err := sum(root, sources)
	if err != nil {
		return pair{}, err
	}
	to, err := sum(root, made)
	return pair{from, to}, err
}

// sum returns the digest of names and texts of the files that match.
func sum(root string, patterns []string) (string, error) {
	var files []string
	for _, p := range patterns {
		match, err := filepath.Glob(filepath.Join(root, p))
		if err != nil {
			return "", fmt.Errorf("find %s: %w", p, err)
		}
		if len(match) == 0 {
			return "", fmt.Errorf("find %s: no such file; run in the tree's folder", p)
		}
		files = append(files, match...)
	}
	slices.Sort(files)
	h := sha256.New()
	for _, f := range files {
		name, err := filepath.Rel(root, f)
		if err != nil {
			return "", err
		}
		text, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(text))
		if _, err := h.Write(text); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// check returns why the generated files are not current.
func check(root string, noted pair) error {
	have, err := sums(root)
	if err != nil {
		return err
	}
	from, to := strings.Join(sources, ", "), strings.Join(made, ", ")
	switch {
	case have.from != noted.from:
		return fmt.Errorf("%s changed, and %s are not made of it yet: run make generate", from, to)
	case have.to != noted.to:
		return fmt.Errorf("%s were edited by hand: edit %s and run make generate", to, from)
	}
	return nil
}
