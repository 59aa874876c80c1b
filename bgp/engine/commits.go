package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// The series as commits: upstream's module, the overlay, and one a patch. The
// overlay is laid first: patches call what is in it, and as no patch changes a
// new file, the two never conflict.

// patchTrailer is the last line of a patch's commit: its name in the series.
const patchTrailer = "\n\nPatch: "

// overlaySubject is the message of the commit that adds the overlay.
const overlaySubject = "overlay"

// commits makes the series as commits of g's repository, without a look at its
// work tree, and returns the last of them. Equal series make equal commits.
func (s *series) commits(ctx context.Context, g git, source string) (string, error) {
	dir, err := os.MkdirTemp("", "engine-index-")
	if err != nil {
		return "", fmt.Errorf("make commits: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // of the system's folder for such
	at, err := g.commitUpstream(ctx, source, s.module, s.version)
	if err != nil {
		return "", err
	}
	g = g.withIndex(filepath.Join(dir, "index"))
	if _, err := g.run(ctx, "read-tree", at); err != nil {
		return "", err
	}
	if at, err = s.commitOverlay(ctx, g, at); err != nil {
		return "", err
	}
	for _, p := range s.patches {
		if _, err := g.input(ctx, p.diff, "apply", "--cached", "--whitespace=nowarn", "-"); err != nil {
			return "", fmt.Errorf("apply %s: %w", p.id(), err)
		}
		if at, err = g.commitIndex(ctx, at, p.header+patchTrailer+p.id()); err != nil {
			return "", err
		}
	}
	return at, nil
}

// commitUpstream makes the first commit: upstream's module, from a folder.
func (g git) commitUpstream(ctx context.Context, source, module, version string) (string, error) {
	dir, err := os.MkdirTemp("", "engine-index-")
	if err != nil {
		return "", fmt.Errorf("make commits: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // of the system's folder for such
	g = g.withIndex(filepath.Join(dir, "index"))
	from := git{dir: source, env: append(slices.Clone(g.env), "GIT_DIR="+filepath.Join(g.dir, ".git"), "GIT_WORK_TREE="+source)}
	if _, err := from.run(ctx, "-c", "core.fileMode=false", "add", "--all", "--force", "."); err != nil {
		return "", err
	}
	return g.commitIndex(ctx, "", module+" "+version)
}

// withIndex is g with an index of its own.
func (g git) withIndex(path string) git {
	g.env = append(slices.Clone(g.env), "GIT_INDEX_FILE="+path)
	return g
}

// commitOverlay adds the new files as one commit.
func (s *series) commitOverlay(ctx context.Context, g git, parent string) (string, error) {
	known, err := g.run(ctx, "ls-tree", "-r", "--name-only", parent)
	if err != nil {
		return "", err
	}
	names := map[string]bool{}
	for name := range strings.Lines(known) {
		names[strings.TrimSpace(name)] = true
	}
	var lines strings.Builder
	for _, f := range s.overlay {
		if names[f.name] {
			return "", fmt.Errorf("lay overlay: upstream %s has a file %s too", s.version, f.name)
		}
		blob, err := g.input(ctx, f.text, "hash-object", "-w", "--stdin")
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&lines, "100644 %s\t%s\n", strings.TrimSpace(blob), f.name)
	}
	if _, err := g.input(ctx, lines.String(), "update-index", "--add", "--index-info"); err != nil {
		return "", err
	}
	return g.commitIndex(ctx, parent, overlaySubject)
}

// commitIndex makes a commit of the index and returns it.
func (g git) commitIndex(ctx context.Context, parent, message string) (string, error) {
	tree, err := g.run(ctx, "write-tree")
	if err != nil {
		return "", err
	}
	args := []string{"commit-tree", tree}
	if parent != "" {
		args = append(args, "-p", parent)
	}
	commit, err := g.input(ctx, message+"\n", args...)
	return strings.TrimSpace(commit), err
}

// readCommits makes a series of the commits up to head. old is the series
// they were made of: where a patch is as it was, but for line numbers, its old
// text stays, so that a change of one patch does not touch all after it.
func readCommits(ctx context.Context, g git, head string, old *series) (*series, error) {
	list, err := g.run(ctx, "rev-list", "--reverse", "--first-parent", head)
	if err != nil {
		return nil, err
	}
	commits := strings.Fields(list)
	root := commits[0]
	subject, err := g.run(ctx, "log", "-1", "--format=%s", root)
	if err != nil {
		return nil, err
	}
	s := &series{preamble: old.preamble, groups: old.groups}
	s.module, s.version, _ = strings.Cut(subject, " ")
	own, err := s.readNewFiles(ctx, g, root, head)
	if err != nil {
		return nil, err
	}
	errs := []error{}
	for _, c := range commits[1:] {
		if err := s.readCommit(ctx, g, c, own, old); err != nil {
			errs = append(errs, err)
		}
	}
	return s, errors.Join(errs...)
}

// readNewFiles takes the files of head that upstream does not have for the
// overlay, and returns upstream's.
func (s *series) readNewFiles(ctx context.Context, g git, root, head string) (map[string]bool, error) {
	own := map[string]bool{}
	names, err := g.run(ctx, "ls-tree", "-r", "--name-only", root)
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(names, "\n") {
		own[name] = true
	}
	if names, err = g.run(ctx, "ls-tree", "-r", "--name-only", head); err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(names, "\n") {
		if own[name] {
			continue
		}
		if path.Base(name) == "go.mod" {
			return nil, fmt.Errorf("read overlay: %s: the engine is one module", name)
		}
		text, err := g.input(ctx, "", "cat-file", "blob", head+":"+name)
		if err != nil {
			return nil, err
		}
		s.overlay = append(s.overlay, file{name, text})
	}
	return own, nil
}

// readCommit makes a patch of a commit, without the new files in it. A commit
// of new files alone needs no patch.
func (s *series) readCommit(ctx context.Context, g git, commit string, own map[string]bool, old *series) error {
	names, err := g.run(ctx, "diff-tree", "-r", "--no-commit-id", "--no-renames", "--name-only", commit)
	if err != nil {
		return err
	}
	edits := slices.DeleteFunc(strings.Fields(names), func(name string) bool { return !own[name] })
	message, err := g.run(ctx, "log", "-1", "--format=%B", commit)
	if err != nil {
		return err
	}
	header, id, named := cutLast(strings.TrimSpace(message), patchTrailer)
	if !named && len(edits) == 0 {
		return nil
	}
	if !named {
		subject, _, _ := strings.Cut(message, "\n")
		return fmt.Errorf("commit %.9s (%s) changes %s and is no patch: make it a --fixup of one, or end its message with an empty line and \"Patch: group/name\"", commit, subject, edits[0])
	}
	p := patch{header: header}
	p.group, p.name, _ = strings.Cut(id, "/")
	if slices.ContainsFunc(s.patches, func(q patch) bool { return q.name == p.name }) {
		return fmt.Errorf("patch %s: the name is taken", id)
	}
	if len(edits) > 0 {
		p.diff, err = g.input(ctx, "", append([]string{
			"-c", "diff.algorithm=myers", "diff-tree", "-p", "--no-commit-id", "--no-renames", "--no-ext-diff", "--no-color", "--unified=3", commit, "--",
		}, edits...)...)
		if err != nil {
			return err
		}
		p.diff = withoutBlobs(p.diff)
	}
	for _, q := range old.patches {
		if q.id() == p.id() && sameButPlaces(p.diff, q.diff) {
			p.diff = q.diff
		}
	}
	s.patches = append(s.patches, p)
	return p.check(s)
}

// withoutBlobs leaves out the lines that name blobs: they change with every
// earlier patch of the same file.
func withoutBlobs(diff string) string {
	var b strings.Builder
	for line := range strings.Lines(diff) {
		if !strings.HasPrefix(line, "index ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
