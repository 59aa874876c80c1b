package monitor

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/vt"
)

// source answers once, then does what the test wants.
type source struct {
	mu     sync.Mutex
	wanted []string
	then   func(ctx context.Context)
}

func (s *source) Run(ctx context.Context, send func(Answer)) {
	send(firstAnswer())
	s.then(ctx)
}

func (s *source) Want(peers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = peers
}

func wait(ctx context.Context) { <-ctx.Done() }

// display is an emulated terminal that a test has started run on.
type display struct {
	t     *testing.T
	term  vt.MockTerm
	tty   *tty
	end   context.CancelFunc
	ended chan any // the error, or what it panicked with
}

// tty keeps what is written to the terminal.
type tty struct {
	vt.MockTerm
	mu   sync.Mutex
	text strings.Builder
}

func (y *tty) Write(b []byte) (int, error) {
	y.mu.Lock()
	y.text.Write(b)
	y.mu.Unlock()
	return y.MockTerm.Write(b)
}

func show(t *testing.T, m *Model, src *source) *display {
	t.Helper()
	term := vt.NewMockTerm(vt.MockOptSize{X: 80, Y: 24})
	d := &display{t: t, term: term, tty: &tty{MockTerm: term}, ended: make(chan any, 1)}
	screen, err := tcell.NewTerminfoScreenFromTty(d.tty, tcell.OptTerm("xterm-256color"), tcell.OptSanitizeContent(true))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d.end = cancel
	go func() {
		defer func() {
			if r := recover(); r != nil {
				d.ended <- r
			}
		}()
		d.ended <- run(ctx, screen, m, src, func() time.Time { return noon })
	}()
	return d
}

// text returns the screen.
func (d *display) text() string {
	var b strings.Builder
	for y := range vt.Row(24) {
		for x := range vt.Col(80) {
			if c := d.term.GetCell(vt.Coord{X: x, Y: y}); c.C != "" {
				b.WriteString(c.C)
			} else {
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (d *display) shows(text string) {
	d.t.Helper()
	for late := time.Now().Add(10 * time.Second); !strings.Contains(d.text(), text); <-time.After(10 * time.Millisecond) {
		if time.Now().After(late) {
			d.t.Fatalf("no %q in\n%s", text, d.text())
		}
	}
}

// over waits for the end of run and returns its error or panic; the terminal must be as
// before then.
func (d *display) over() any {
	d.t.Helper()
	var end any
	select {
	case end = <-d.ended:
	case <-time.After(10 * time.Second):
		d.t.Fatal("it does not end")
	}
	d.tty.mu.Lock()
	defer d.tty.mu.Unlock()
	text := d.tty.text.String()
	if on, off := strings.LastIndex(text, "\x1b[?1049h"), strings.LastIndex(text, "\x1b[?1049l"); on < 0 || off < on {
		d.t.Error("the alternate screen is left on, or was never set")
	}
	if on, off := strings.LastIndex(text, "\x1b[?25l"), strings.LastIndex(text, "\x1b[?25h"); on < 0 || off < on {
		d.t.Error("the cursor is left hidden, or never was")
	}
	return end
}

// TestRun: keys and answers reach the model, its frames the terminal, and every end
// restores it.
func TestRun(t *testing.T) {
	t.Parallel()
	t.Run("quit", func(t *testing.T) {
		t.Parallel()
		src := &source{then: wait}
		d := show(t, New(words(new(int))), src)
		d.shows("> tor1")
		d.term.SendRaw([]byte("\x1b[B"))
		d.shows("> 10.57.0.13*")
		d.term.SendRaw([]byte("jkj\r"))
		d.shows("SESSION rr1")
		src.mu.Lock()
		if len(src.wanted) != 1 || src.wanted[0] != "10.57.0.10" {
			t.Errorf("details of %q are wanted", src.wanted)
		}
		src.mu.Unlock()
		d.term.SendRaw([]byte("\x7f"))
		d.shows("PROBLEMS")
		d.term.SetSize(vt.Coord{X: 40, Y: 10})
		d.shows("The terminal is 40x10")
		d.term.SendRaw([]byte("q"))
		if err := d.over(); err != nil {
			t.Errorf("error %v", err)
		}
	})
	t.Run("context", func(t *testing.T) {
		t.Parallel()
		d := show(t, New(words(new(int))), &source{then: wait})
		d.shows("> tor1")
		d.end()
		if err := d.over(); err != nil {
			t.Errorf("error %v", err)
		}
	})
	t.Run("panic of the source", func(t *testing.T) {
		t.Parallel()
		d := show(t, New(words(new(int))), &source{then: func(context.Context) { panic("fault of the source") }})
		text, ok := d.over().(string)
		if !ok || !strings.Contains(text, "fault of the source") || !strings.Contains(text, "screen_test.go") {
			t.Errorf("it ended with %q, want the panic and its stack", text)
		}
	})
	t.Run("panic of the model", func(t *testing.T) {
		t.Parallel()
		texts := words(new(int))
		texts.Age = func(time.Duration) string { panic(errors.New("fault of a text")) }
		d := show(t, New(texts), &source{then: wait})
		if err, ok := d.over().(error); !ok || err.Error() != "fault of a text" {
			t.Errorf("it ended with %v", err)
		}
	})
}
