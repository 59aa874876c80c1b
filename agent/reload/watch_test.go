package reload

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"onlink/agent/config"
)

// watchBed is a reloader of a file, and what its one part was given.
type watchBed struct {
	t     *testing.T
	dir   string
	r     *Reloader
	taken []string // bgp.originate of every configuration taken
	asked chan string
	end   func()
}

const originating = "node: {name: n, address: 10.0.0.11}\nreload: watch\nbgp: {originate: [%]}\n"

func textOf(prefix string) string { return strings.ReplaceAll(originating, "%", prefix) }

// newWatchBed starts a reloader of a file that has the first text.
func newWatchBed(t *testing.T, text string, put func(dir, text string)) *watchBed {
	t.Helper()
	b := &watchBed{t: t, dir: t.TempDir(), asked: make(chan string)}
	put(b.dir, text)
	file := &config.File{Path: filepath.Join(b.dir, "onlinkd.yaml")}
	part := Part{Name: "bgp.originate", Keys: []string{"bgp.originate"}, Apply: func(_ context.Context, c *config.Effective) error {
		if c.BGP.Originate[0].String() == "10.66.0.0/24" {
			return errors.New("refused by a part") //nolint:err113 // a test's
		}
		b.taken = append(b.taken, c.BGP.Originate[0].String())
		return nil
	}}
	b.r = New(Setup{
		Log: slog.New(slog.DiscardHandler), File: file, Asked: b.asked, Facts: func() config.Facts { return config.Facts{} },
		Parts: Parts{part, {Name: "reload", Keys: []string{"reload"}, Apply: Live}},
	}, effective(t, file.Path, text))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.r.Run(ctx) }()
	b.end = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	b.wait(3 * lookEvery)
	return b
}

// effective returns what a text means on a node without networks.
func effective(t *testing.T, path, text string) *config.Effective {
	t.Helper()
	file, err := config.Parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	e, err := config.Resolve(file, config.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (b *watchBed) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// want looks at what was taken so far and why the newest file is not.
func (b *watchBed) want(step, trouble string, taken ...string) {
	b.t.Helper()
	if got := strings.Join(b.taken, " "); got != strings.Join(taken, " ") {
		b.t.Errorf("%s: taken %q, want %q", step, got, taken)
	}
	switch err := b.r.Trouble(); {
	case trouble == "" && err != nil:
		b.t.Errorf("%s: %v", step, err)
	case trouble != "" && (err == nil || !strings.Contains(err.Error(), trouble)):
		b.t.Errorf("%s: trouble %v, want %q", step, err, trouble)
	}
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// mount writes a text as kubelet does: into a new folder that ..data leads to.
func mount(t *testing.T) func(dir, text string) {
	return func(dir, text string) {
		t.Helper()
		version := filepath.Join(dir, "..v"+strconv.FormatInt(time.Now().UnixNano(), 10))
		do(t, os.Mkdir(version, 0o700), os.WriteFile(filepath.Join(version, "onlinkd.yaml"), []byte(text), 0o600),
			os.Symlink(filepath.Base(version), filepath.Join(dir, "..data_tmp")),
			os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if _, err := os.Lstat(filepath.Join(dir, "onlinkd.yaml")); err != nil {
			do(t, os.Symlink("..data/onlinkd.yaml", filepath.Join(dir, "onlinkd.yaml")))
		}
	}
}

// replace writes a text as an editor does: beside the file, then over it.
func replace(t *testing.T) func(dir, text string) {
	return func(dir, text string) {
		t.Helper()
		temp := filepath.Join(dir, ".new")
		do(t, os.WriteFile(temp, []byte(text), 0o600), os.Rename(temp, filepath.Join(dir, "onlinkd.yaml")))
	}
}

// TestWatchedFile: a changed file is taken in by itself, once, and whatever is
// wrong with it the last good one stays in force and the reason is told.
func TestWatchedFile(t *testing.T) {
	for name, put := range map[string]func(*testing.T) func(string, string){"a mounted ConfigMap": mount, "renames": replace} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				put := put(t)
				b := newWatchBed(t, textOf("10.60.0.0/24"), put)
				defer b.end()
				b.want("the file of the start", "")
				put(b.dir, textOf("10.61.0.0/24"))
				b.wait(3 * lookEvery)
				b.want("changed", "", "10.61.0.0/24")
				put(b.dir, textOf("10.61.0.0/24"))
				b.wait(3 * lookEvery)
				b.want("written again, the same", "", "10.61.0.0/24")
				put(b.dir, textOf("10.62.0.0/24")+"nonsense: 1\n")
				b.wait(3 * lookEvery)
				b.want("with a mistake", "nonsense: unknown key", "10.61.0.0/24")
				put(b.dir, textOf("10.62.0.0/24")+"fib: {metric: 7}\n")
				b.wait(3 * lookEvery)
				b.want("needs a restart", "fib.metric: needs a restart", "10.61.0.0/24")
				put(b.dir, textOf("10.66.0.0/24"))
				b.wait(3 * lookEvery)
				b.want("refused by a part, which is set back", "refused by a part", "10.61.0.0/24", "10.61.0.0/24")
				put(b.dir, textOf("10.61.0.0/24"))
				b.wait(3 * lookEvery)
				b.want("as it was", "", "10.61.0.0/24", "10.61.0.0/24", "10.61.0.0/24")
			})
		})
	}
}

// TestWatchedFileInTheMaking: a file that is being written, is empty or is gone
// changes nothing.
func TestWatchedFileInTheMaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWatchBed(t, textOf("10.60.0.0/24"), replace(t))
		defer b.end()
		path := filepath.Join(b.dir, "onlinkd.yaml")
		text := textOf("10.61.0.0/24")
		for i := range len(text) {
			do(t, os.WriteFile(path, []byte(text[:i]), 0o600))
			b.wait(lookEvery * 9 / 10)
		}
		b.want("while it is written", "")
		do(t, os.WriteFile(path, []byte(text), 0o600))
		b.wait(3 * lookEvery)
		b.want("written", "", "10.61.0.0/24")
		do(t, os.Truncate(path, 0))
		b.wait(3 * lookEvery)
		b.want("empty", "the file is empty", "10.61.0.0/24")
		do(t, os.Remove(path))
		b.wait(3 * lookEvery)
		b.want("gone", "no such file", "10.61.0.0/24")
		do(t, os.WriteFile(path, []byte(textOf("10.62.0.0/24")), 0o600))
		b.wait(3 * lookEvery)
		b.want("back", "", "10.61.0.0/24", "10.62.0.0/24")
	})
}

// TestWatchIsAsked: without reload: watch a changed file waits until somebody
// asks; whoever does is told what came of it. It can be turned on and off.
func TestWatchIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := func(prefix string) string { return strings.ReplaceAll(textOf(prefix), "watch", "signal") }
		b := newWatchBed(t, quiet("10.60.0.0/24"), replace(t))
		defer b.end()
		put := replace(t)
		put(b.dir, quiet("10.61.0.0/24"))
		b.wait(time.Minute)
		b.want("not asked", "")
		do(t, b.r.Reread(t.Context(), "a test", false))
		b.want("asked", "", "10.61.0.0/24")
		put(b.dir, "nonsense: 1\n")
		if err := b.r.Reread(t.Context(), "a test", false); !errors.Is(err, config.ErrInvalid) {
			t.Errorf("a wrong file: %v", err)
		}
		b.want("asked with a wrong file", "nonsense", "10.61.0.0/24")
		put(b.dir, textOf("10.62.0.0/24"))
		b.asked <- "a test"
		b.wait(time.Second)
		b.want("turned on by a signal", "", "10.61.0.0/24", "10.62.0.0/24")
		put(b.dir, quiet("10.63.0.0/24"))
		b.wait(3 * lookEvery)
		b.want("turned off by itself", "", "10.61.0.0/24", "10.62.0.0/24", "10.63.0.0/24")
		put(b.dir, quiet("10.64.0.0/24"))
		b.wait(time.Minute)
		b.want("off", "", "10.61.0.0/24", "10.62.0.0/24", "10.63.0.0/24")
	})
}
