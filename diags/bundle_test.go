package diags

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// read returns the files of a bundle.
func read(t *testing.T, from io.Reader) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(from)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		name, found := strings.CutPrefix(h.Name, "b/")
		if !found || h.Mode != 0o600 {
			t.Errorf("%s has the mode %o", h.Name, h.Mode)
		}
		if _, twice := out[name]; twice {
			t.Errorf("%s is in the bundle twice", name)
		}
		out[name] = string(text)
	}
}

// TestParts: whatever becomes of a part, the others are in the bundle, and the failed
// one says why.
func TestParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := New(&out, "b", NewRedactor("hunter2"))
		late := make(chan error, 1)
		say := func(text string) func(context.Context, io.Writer) error {
			return func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, text); return err }
		}
		release := make(chan struct{})
		began := time.Now()
		for _, p := range []Part{
			{Name: "good", Write: say("fine with hunter2")},
			{Name: "empty", Write: say("")},
			{Name: "raw", Binary: true, Write: say("hunter2")},
			{Name: "bad", Write: func(_ context.Context, w io.Writer) error {
				_, err := io.WriteString(w, "half")
				return errors.Join(err, errors.New("no such hunter2"))
			}},
			{Name: "worse", Write: func(context.Context, io.Writer) error { panic("oh no") }},
			{Name: "stuck", Write: func(_ context.Context, w io.Writer) error { // ignores its context
				_, err := io.WriteString(w, "began")
				<-release
				_, after := io.WriteString(w, "too late")
				late <- errors.Join(err, after)
				return nil
			}},
			{Name: "slow", Write: func(ctx context.Context, _ io.Writer) error { <-ctx.Done(); return ctx.Err() }},
			{Name: "huge", Write: func(_ context.Context, w io.Writer) error {
				for {
					if _, err := w.Write(bytes.Repeat([]byte("x"), 100_000)); err != nil {
						return fmt.Errorf("write: %w", err)
					}
				}
			}},
			{Name: "last", Write: say("still here")},
		} {
			if err := b.Add(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		close(release)
		if err := <-late; !errors.Is(err, errOver) {
			t.Errorf("a late write of the stuck part: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 2*partTime {
			t.Errorf("two parts that hang took %v", took)
		}
		got := read(t, &out)
		for name, want := range map[string]string{
			"good": "fine with " + Removed, "empty": "", "raw": "hunter2", "bad": "half", "bad.failed.txt": "no such " + Removed, "worse.failed.txt": "it panicked: oh no",
			"stuck": "began", "stuck.failed.txt": "did not end within its time", "last": "still here", "huge": "xxx",
		} {
			if text, there := got[name]; !there || !strings.HasPrefix(text, want) && !strings.Contains(text, want) || strings.Contains(text, "too late") {
				t.Errorf("%s is %.80q, want %q", name, text, want)
			}
		}
		if n := len(got["huge"]); n > partSize+100 || !strings.HasSuffix(got["huge"], "cut after 4 MiB\n") {
			t.Errorf("the huge part has %d bytes", n)
		}
		if lines := slices.Collect(strings.Lines(got["index.txt"])); len(lines) != 9 || !strings.HasPrefix(lines[8], "last ") {
			t.Errorf("index:\n%s", got["index.txt"])
		}
	})
}

// TestCancelled: a bundle ends at once when nobody waits for it.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := New(io.Discard, "b", NewRedactor())
	err := b.Add(ctx, Part{Name: "x", Write: func(ctx context.Context, _ io.Writer) error { cancel(); <-ctx.Done(); return nil }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestCopy: the files of another bundle are taken over, also of one that breaks off, and
// none leaves its folder.
func TestCopy(t *testing.T) {
	var from bytes.Buffer
	b := New(&from, "other", NewRedactor())
	for _, name := range []string{"a.txt", "deep/b.txt", "../../escape.txt"} {
		if err := b.Add(t.Context(), Part{Name: name, Write: func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, name); return err }}); err != nil {
			t.Fatal(err)
		}
	}
	half := from.Len()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		from  []byte
		fails bool
	}{{"whole", from.Bytes(), false}, {"broken off", from.Bytes()[:half], true}} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			to := New(&out, "b", NewRedactor())
			if err := to.Copy(bytes.NewReader(c.from)); (err != nil) != c.fails {
				t.Errorf("copied with %v", err)
			}
			if err := to.Close(); err != nil {
				t.Fatal(err)
			}
			got := read(t, &out)
			if got["a.txt"] != "a.txt" || got["deep/b.txt"] != "deep/b.txt" {
				t.Errorf("got %v", got)
			}
			if !c.fails && !strings.Contains(got["index.txt"], "deep/b.txt") {
				t.Errorf("index %q", got["index.txt"])
			}
		})
	}
	if err := New(io.Discard, "b", NewRedactor()).Copy(strings.NewReader("no bundle")); err == nil {
		t.Error("a text is taken for a bundle")
	}
}
