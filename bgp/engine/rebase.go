package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// rebase puts the overlay and the patches on another version of upstream's
// module. Conflicts stay in the tree for people to resolve; save then writes
// the new version into the series file.
func (t *editTree) rebase(ctx context.Context, version string) error {
	if err := t.make(ctx); err != nil {
		return err
	}
	unsaved, err := t.unsaved(ctx)
	if err != nil {
		return err
	}
	if unsaved {
		return fmt.Errorf("%s: %w: make engine-save first", t.dir, errUnsaved)
	}
	s, _, err := t.current(ctx)
	if err != nil {
		return err
	}
	major, _, _ := strings.Cut(s.version, ".")
	if !strings.HasPrefix(version, major+".") {
		return fmt.Errorf("%s is no version of %s: another major version is another module path, to which the code that uses it is ported first", version, s.module)
	}
	from, err := t.source(ctx, s.module, version)
	if err != nil {
		return err
	}
	base, err := t.commitUpstream(ctx, from, s.module, version)
	if err != nil {
		return err
	}
	root, err := t.run(ctx, "rev-list", "--max-parents=0", "HEAD")
	if err != nil {
		return err
	}
	_, err = t.run(ctx, "rebase", "--quiet", "--onto", base, root, "edit")
	if err != nil && t.rebasing() {
		files, listErr := t.run(ctx, "diff", "--name-only", "--diff-filter=U")
		return errors.Join(listErr, fmt.Errorf("%s: conflicts in %s: resolve them there, git add, git rebase --continue, then make engine-save and go get %s@%s",
			t.dir, strings.Join(strings.Fields(files), ", "), s.module, version))
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%s: every patch applies to %s; now make engine-save, go get %s@%s, make engine-check\n", t.dir, version, s.module, version)
	return nil
}
