package docs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"onlink/integration/labtest"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// show is for those who write a page: it prints what every command prints.
//
//	go test ./integration/docs -run TestPlay/docs/bgp.md -v -args -show
var show = flag.Bool("show", false, "print the outputs of the pages' commands instead of comparing them")

// root is the tree's folder.
const root = "../.."

// page is a page of the documentation.
type page struct {
	name   string
	text   string
	bed    Bed
	blocks []*Block
}

// pages reads README.md and docs/*.md: what people wrote. The pages of docs/reference
// are made of the programs.
func pages(t *testing.T) (list []page) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	labtest.Must(t, err)
	if len(files) < 10 {
		t.Fatalf("only %d pages", len(files))
	}
	for _, file := range append(files, filepath.Join(root, "README.md")) {
		name, err := filepath.Rel(root, file)
		labtest.Must(t, err)
		text, err := os.ReadFile(file)
		labtest.Must(t, err)
		p := page{name: name, text: string(text)}
		if p.bed, err = BedOf(name, p.text); err != nil {
			t.Error(err)
		}
		if p.blocks, err = Parse(name, p.text); err != nil {
			t.Error(err)
		}
		list = append(list, p)
	}
	return list
}

// TestPlay runs every command of every page on the hosts that the page names, and
// writes every file that it gives: what it shows must be printed.
func TestPlay(t *testing.T) {
	for _, p := range pages(t) {
		if p.bed.Kind == "" {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			ctx := labtest.Context(t, 5*time.Minute)
			hosts, err := p.bed.Make(ctx, fmt.Sprintf("d%d-%d", os.Getpid(), beds.Add(1)), labtest.Bin())
			labtest.Must(t, err)
			defer func() {
				if t.Failed() {
					t.Log(hosts.Logs())
				}
				labtest.Must(t, hosts.Close())
			}()
			commands, broken := 0, breakage{}
			for _, b := range p.blocks {
				if b.On == "" || b.NotRun != "" {
					continue
				}
				broken.next(t, b)
				for name := range strings.SplitSeq(b.On, ",") {
					m, err := hosts.Machine(name)
					if err != nil {
						t.Fatalf("%s: %v", b.Where(), err)
					}
					commands += play(ctx, t, m, b)
				}
			}
			broken.next(t, &Block{Break: -1})
			t.Logf("%d commands in %s", commands, time.Since(began).Round(time.Second))
		})
	}
}

// breakage is one of the drill: what it takes to find and mend it by the page's commands
// is printed, and no more, because a person reads between them.
type breakage struct {
	number int
	since  time.Time
}

func (a *breakage) next(t *testing.T, b *Block) {
	t.Helper()
	if b.Break == 0 {
		return
	}
	if a.number > 0 {
		t.Logf("breakage %d: found and mended in %s", a.number, time.Since(a.since).Round(100*time.Millisecond))
	}
	a.number, a.since = b.Break, time.Now()
}

// play runs a block and returns how many commands that were.
func play(ctx context.Context, t *testing.T, m *Machine, b *Block) int {
	t.Helper()
	if b.File != "" {
		if err := os.WriteFile(m.path(b.File), []byte(b.Text), 0o644); err != nil {
			t.Fatalf("%s: %v", b.Where(), err)
		}
		return 0
	}
	commands := b.Commands()
	for _, c := range commands {
		if *show {
			out, err := m.Run(ctx, c)
			t.Logf("%s:%d: on %s: %s\n%s%v", b.Page, c.Line, m.name, c.Text, out, err)
		} else if err := perform(ctx, m, c); err != nil {
			t.Fatalf("%s:%d: on %s: %s\n%v", b.Page, c.Line, m.name, c.Text, err) // what follows builds on it
		}
	}
	return len(commands)
}

// perform runs a command once, or, where the page shows what it prints, until it does:
// a reader too looks again while sessions come up.
func perform(ctx context.Context, m *Machine, c Command) error {
	if c.Shown == "" {
		_, err := m.Run(ctx, c)
		return err
	}
	late, again := time.NewTimer(labtest.Patience), time.NewTicker(pause)
	defer late.Stop()
	defer again.Stop()
	for {
		out, err := m.Run(ctx, c)
		if err != nil && !errors.Is(err, errExit) {
			return err
		}
		if err = errors.Join(Differ(c.Shown, out), err); err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-late.C:
			return err
		}
	}
}

// pause is the time between two tries: each starts four programs.
const pause = 200 * time.Millisecond

// beds numbers the beds of this process, for their names.
var beds atomic.Int32
