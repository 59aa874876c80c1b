// Package diags makes a bundle for the person on call: a tar.gz with one file for each
// part of a node's state. A part has a time limit and a size limit, and one that fails
// leaves a file with the reason, so that a bundle of a half dead agent has the rest. It
// is written as it is made: at most one part is in memory.
//
// All text passes a [Redactor], which removes passwords, keys and tokens. The machine's
// own parts ([Machine]) need no agent; they are read in the network namespace of the
// calling process. Nothing here changes anything.
package diags

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

const (
	// partTime bounds the time of a part that has no limit of its own.
	partTime = 10 * time.Second
	// partSize bounds the file of a part.
	partSize = 4 << 20 // bytes
)

// indexName is the file that lists the parts.
const indexName = "index.txt"

var (
	errLate = errors.New("it did not end within its time; what it wrote until then is kept")
	errOver = errors.New("the part is over")
)

// Part is one file of a bundle.
type Part struct {
	Name string // such as kernel/routes4.txt
	// Write writes the file. One that outlives its context is left behind: its later
	// writes fail.
	Write func(ctx context.Context, w io.Writer) error
	// Binary is not redacted: it must not have texts of the node.
	Binary bool
}

// Bundle is a bundle that is being written. Its methods are for one goroutine.
type Bundle struct {
	folder string
	redact *Redactor
	zip    *gzip.Writer
	tar    *tar.Writer
	index  bytes.Buffer
	limit  time.Duration // of each part
}

// New begins a bundle whose files are in one folder.
func New(w io.Writer, folder string, r *Redactor) *Bundle {
	zip := gzip.NewWriter(w)
	return &Bundle{folder: folder, redact: r, zip: zip, tar: tar.NewWriter(zip), limit: partTime}
}

// Add writes one part. The error is one of the bundle's writer, or of ctx: that of
// the part is in the bundle.
func (b *Bundle) Add(ctx context.Context, p Part) error {
	began := time.Now()
	text, cut, failed := b.run(ctx, p)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !p.Binary {
		text = b.redact.Bytes(text)
	}
	if cut {
		text = fmt.Appendf(text, "\n... cut after %d MiB\n", partSize>>20)
	}
	outcome := "ok"
	if failed != nil {
		outcome = string(b.redact.Bytes([]byte(failed.Error())))
	}
	fmt.Fprintf(&b.index, "%-40s %9d bytes %8v  %s\n", p.Name, len(text), time.Since(began).Round(time.Millisecond), oneLine(outcome))
	if len(text) > 0 || failed == nil {
		if err := b.file(p.Name, text); err != nil {
			return err
		}
	}
	if failed == nil {
		return nil
	}
	return b.file(p.Name+".failed.txt", []byte(outcome+"\n"))
}

// run runs a part until it ends, or its time does.
func (b *Bundle) run(ctx context.Context, p Part) (text []byte, cut bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.limit)
	defer cancel()
	to := &sink{}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("it panicked: %v\n%s", r, debug.Stack())
			}
		}()
		done <- p.Write(ctx, to)
	}()
	select {
	case err = <-done:
		if errors.Is(err, errFull) {
			err = nil
		}
	case <-ctx.Done():
		err = errLate
	}
	text, cut = to.end()
	return text, cut, err
}

// file writes a whole file.
func (b *Bundle) file(name string, text []byte) error {
	err := b.tar.WriteHeader(&tar.Header{Name: path.Join(b.folder, name), Mode: 0o600, Size: int64(len(text)), ModTime: time.Now()})
	if err == nil {
		_, err = b.tar.Write(text)
	}
	if err == nil {
		err = b.tar.Flush()
	}
	if err == nil {
		err = b.zip.Flush() // the reader sees that work goes on
	}
	return err
}

// Close writes the index and ends the bundle.
func (b *Bundle) Close() error {
	return errors.Join(b.file(indexName, b.index.Bytes()), b.tar.Close(), b.zip.Close())
}

// Copy writes the files of another bundle, without their folder. The error is one of
// reading or writing; what was read before it is in this bundle.
func (b *Bundle) Copy(from io.Reader) error {
	zip, err := gzip.NewReader(from)
	if err != nil {
		return fmt.Errorf("read bundle: %w", err)
	}
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read bundle: %w", err)
		}
		text, err := io.ReadAll(io.LimitReader(in, 2*partSize))
		if err != nil {
			return fmt.Errorf("read %s of the bundle: %w", h.Name, err)
		}
		_, name, _ := strings.Cut(path.Clean("/" + h.Name)[1:], "/")
		if name == "" || h.Typeflag != tar.TypeReg {
			continue
		}
		if name == indexName { // this bundle has one of its own
			b.index.Write(text)
			continue
		}
		if err := b.file(name, text); err != nil {
			return err
		}
	}
}

// errFull ends a part whose file is full.
var errFull = errors.New("the part is full")

// sink keeps the file of a part, until the part ends or is given up.
type sink struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
	cut  bool         // guarded by mu
	over bool         // guarded by mu
}

// Write implements [io.Writer].
func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch room := partSize - s.text.Len(); {
	case s.over:
		return 0, errOver
	case len(b) > room:
		s.text.Write(b[:room])
		s.cut = true
		return room, errFull
	}
	return s.text.Write(b)
}

// end takes what was written; nothing more is.
func (s *sink) end() (text []byte, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.text.Bytes(), s.cut
}

// oneLine makes one line of a text.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
