package reload

import (
	"bytes"
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"onlink/agent/config"
)

// lookEvery is the interval of checks of the file with reload: watch. It is polled
// because the kernel's watches are few, shared with every pod of the node, and
// blind on some file systems.
const lookEvery = time.Second

// watcher is the author of a change that the agent found by itself.
const watcher = "reload: watch, the file has changed"

// errEmptyFile rejects the file of a program that is about to write, or that ran
// out of disk: an empty file means all defaults, and that is no edit.
var errEmptyFile = errors.New("the file is empty; write {} for an empty configuration")

// Run applies the file on request, and with reload: watch when it has changed,
// until ctx ends. It returns [ErrAnew] after an edit with [Edit].Restart.
func (r *Reloader) Run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var w fileWatch
	for {
		renewed, due := r.Renewed(), look.C
		if r.file == nil || !r.watches() {
			due, w = nil, fileWatch{} // an agent at rest does not wake up for nothing
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.anew:
			return ErrAnew
		case <-renewed:
		case by := <-r.asked:
			_ = r.Reread(ctx, by, false) // it logs the error, and keeps it for status
		case <-due:
			w.look(ctx, r)
		}
	}
}

// fileState identifies a content of the file without reading it: also that of a
// mounted ConfigMap, where a link to a folder is moved.
type fileState struct {
	dev, inode uint64
	size       int64
	changed    time.Time
	err        string // of the look
}

func stateOf(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{err: err.Error()}
	}
	s := fileState{size: info.Size(), changed: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.inode = uint64(sys.Dev), sys.Ino //nolint:unconvert,nolintlint // 32 bits on some machines
	}
	return s
}

// fileWatch finds that the file has changed and stays as it is.
type fileWatch struct {
	last    fileState // of the last look
	handled fileState // taken in, refused, or found the same
}

// look applies the file if it changed before the last check and not since: a file
// that is being written is not read.
func (w *fileWatch) look(ctx context.Context, r *Reloader) {
	now := stateOf(r.file.Path)
	still := now == w.last
	w.last = now
	if !still || now == w.handled {
		return
	}
	w.handled = now
	r.changed(ctx)
}

// watches reports whether the configuration in force has reload: watch.
func (r *Reloader) watches() bool { return r.Current().Reload == config.ReloadWatch }

// changed takes the file in unless its text is the one that was seen last.
func (r *Reloader) changed(ctx context.Context) {
	r.turn.Lock()
	defer r.turn.Unlock()
	file := *r.file
	file.Optional = false // it was there
	text, err := file.Again()
	switch {
	case err == nil && digestOf(text) == r.seen:
		return
	case err == nil && len(bytes.TrimSpace(text)) == 0:
		err = errEmptyFile
	case err == nil && r.seen == "" && r.inForce(text):
		r.seen = digestOf(text) // the first check finds the file of the start
		return
	}
	if err != nil {
		r.seen = "" // any next file is read
	}
	_ = r.takeText(ctx, watcher, text, false, err) // it logs the error, and keeps it for status
}
