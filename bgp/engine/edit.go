package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// editTree is a git work tree of the engine in which people work: branch
// "edit" is theirs, branch "series" is what the repository held when the tree
// was made or saved last.
type editTree struct {
	git
	folder string // of the series, its patches and its overlay
	// source returns the folder with a version of upstream's module.
	source func(ctx context.Context, module, version string) (string, error)
	out    io.Writer // receives what people are to know
}

var (
	errUnsaved = errors.New("it has unsaved edits")
	errMoved   = errors.New("the patches changed since this tree was made, and the tree has unsaved edits: " +
		"check out the commit they were begun on, save them there, and rebase that commit; or remove the tree")
)

// current makes the commits of the series as the repository has it now.
func (t *editTree) current(ctx context.Context) (*series, string, error) {
	s, err := readSeries(os.DirFS(t.folder))
	if err != nil {
		return nil, "", err
	}
	at, err := t.commitsOf(ctx, s)
	return s, at, err
}

func (t *editTree) commitsOf(ctx context.Context, s *series) (string, error) {
	source, err := t.source(ctx, s.module, s.version)
	if err != nil {
		return "", err
	}
	return s.commits(ctx, t.git, source)
}

// make makes the tree, or brings it up to date. A tree with unsaved edits
// stays as it is.
func (t *editTree) make(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(t.dir, ".git")); err != nil {
		if err := t.init(ctx); err != nil {
			return err
		}
	}
	_, at, err := t.current(ctx)
	if err != nil {
		return err
	}
	unsaved, err := t.unsaved(ctx)
	if err != nil {
		return err
	}
	saved, err := t.run(ctx, "rev-parse", "--verify", "--quiet", "refs/heads/series")
	switch {
	case err == nil && unsaved && saved != at:
		return fmt.Errorf("%s: %w", t.dir, errMoved)
	case err == nil && unsaved:
		fmt.Fprintf(t.out, "%s is kept as it is: %v\n", t.dir, errUnsaved)
		return nil
	case err == nil && saved == at:
		return nil
	}
	return t.reset(ctx, at)
}

func (t *editTree) init(ctx context.Context) error {
	if err := os.MkdirAll(t.dir, 0o755); err != nil {
		return fmt.Errorf("make edit tree: %w", err)
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=edit"},
		{"config", "core.autocrlf", "false"},
		{"config", "core.hooksPath", os.DevNull},
		// So that one without a name in git can commit.
		{"config", "user.name", "onlink engine"},
		{"config", "user.email", "engine@onlink.invalid"},
	} {
		if _, err := t.run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// reset makes both branches and the work tree the commit at.
func (t *editTree) reset(ctx context.Context, at string) error {
	for _, args := range [][]string{{"update-ref", "refs/heads/series", at}, {"checkout", "--quiet", "-B", "edit", at}} {
		if _, err := t.run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// unsaved reports whether the tree holds anything that the series does not.
func (t *editTree) unsaved(ctx context.Context) (bool, error) {
	saved, err := t.run(ctx, "rev-parse", "--verify", "--quiet", "refs/heads/series")
	if err != nil {
		return false, nil //nolint:nilerr // a tree that was just made
	}
	head, err := t.run(ctx, "rev-parse", "HEAD")
	if err != nil {
		return false, err
	}
	dirty, err := t.dirty(ctx)
	return dirty != "" || head != saved || t.rebasing(), err
}

// dirty lists what is not committed.
func (t *editTree) dirty(ctx context.Context) (string, error) {
	return t.run(ctx, "status", "--porcelain")
}

// rebasing reports whether a rebase waits for its conflicts to be resolved.
func (t *editTree) rebasing() bool {
	for _, name := range []string{"rebase-merge", "rebase-apply"} {
		if _, err := os.Stat(filepath.Join(t.dir, ".git", name)); err == nil {
			return true
		}
	}
	return false
}

// save writes the commits of branch "edit" back as the series and the overlay,
// provided that they make the same tree again. Fixups are folded in before.
func (t *editTree) save(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(t.dir, ".git")); err != nil {
		return fmt.Errorf("%s is not there: make engine-edit", t.dir)
	}
	if t.rebasing() {
		return fmt.Errorf("%s: resolve the conflicts, then git rebase --continue", t.dir)
	}
	dirty, err := t.dirty(ctx)
	if err != nil {
		return err
	}
	if dirty != "" {
		return fmt.Errorf("%s: commit these, with --fixup=COMMIT of the patch that they belong to (of %q if they are new files alone):\n%s", t.dir, overlaySubject, dirty)
	}
	old, at, err := t.current(ctx)
	if err != nil {
		return err
	}
	saved, err := t.run(ctx, "rev-parse", "refs/heads/series")
	if err != nil {
		return err
	}
	if saved != at {
		return fmt.Errorf("%s: %w", t.dir, errMoved)
	}
	if err := t.foldFixups(ctx); err != nil {
		return err
	}
	s, err := readCommits(ctx, t.git, "HEAD", old)
	if err != nil {
		return err
	}
	again, err := t.roundTrip(ctx, s)
	if err != nil {
		return err
	}
	if err := s.write(t.folder); err != nil {
		return err
	}
	return t.reset(ctx, again)
}

// foldFixups folds commits made with --fixup and --squash into their patches.
func (t *editTree) foldFixups(ctx context.Context) error {
	subjects, err := t.run(ctx, "log", "--format=%s", "HEAD")
	if err != nil {
		return err
	}
	folds := false
	for subject := range strings.Lines(subjects) {
		for _, word := range []string{"fixup! ", "squash! ", "amend! "} {
			folds = folds || strings.HasPrefix(subject, word)
		}
	}
	if !folds {
		return nil
	}
	root, err := t.run(ctx, "rev-list", "--max-parents=0", "HEAD")
	if err != nil {
		return err
	}
	if _, err := t.run(ctx, "rebase", "--quiet", "--interactive", "--autosquash", root); err != nil {
		return fmt.Errorf("%s: a fixup conflicts with later patches: resolve it there, git rebase --continue, and save again: %w", t.dir, err)
	}
	return nil
}

// roundTrip makes commits of a series as it would be read back, and refuses
// one that makes another tree than the work tree's.
func (t *editTree) roundTrip(ctx context.Context, s *series) (string, error) {
	dir, err := os.MkdirTemp("", "engine-save-")
	if err != nil {
		return "", fmt.Errorf("try series: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // of the system's folder for such
	if err := s.write(dir); err != nil {
		return "", err
	}
	read, err := readSeries(os.DirFS(dir))
	if err != nil {
		return "", err
	}
	again, err := t.commitsOf(ctx, read)
	if err != nil {
		return "", err
	}
	diff, err := t.run(ctx, "diff", "--stat", "HEAD", again)
	if err != nil {
		return "", err
	}
	if diff != "" {
		return "", fmt.Errorf("the series does not make this tree again; nothing is saved:\n%s", diff)
	}
	return again, nil
}
