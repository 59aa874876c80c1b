package monitor

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"
)

// Source makes the calls.
type Source interface {
	// Run sends answers until ctx ends; send returns when the answer was taken. A panic
	// of a goroutine that Run starts has to be one of Run.
	Run(ctx context.Context, send func(Answer))
	// Want names the sessions whose details are on the screen, the first one first.
	Want(peers []string)
}

// errEnded ends a monitor whose terminal is gone.
var errEnded = errors.New("the terminal was closed")

// Run shows a model on the terminal until the operator quits or ctx ends. The terminal is
// as before when it returns, and when it or the source panics.
func Run(ctx context.Context, m *Model, src Source, now func() time.Time) error {
	screen, err := tcell.NewScreen(tcell.OptSanitizeContent(true))
	if err != nil {
		return fmt.Errorf("open the terminal: %w", err)
	}
	return run(ctx, screen, m, src, now)
}

// run is Run on any screen.
func run(ctx context.Context, screen tcell.Screen, m *Model, src Source, now func() time.Time) error {
	if err := screen.Init(); err != nil {
		return fmt.Errorf("set up the terminal: %w", err)
	}
	defer screen.Fini()
	screen.HideCursor()

	ctx, cancel := context.WithCancel(ctx)
	answers, crashed := make(chan Answer), make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// A panic of another goroutine would leave the terminal as it is: the one
		// that restores it panics instead.
		defer func() {
			if r := recover(); r != nil {
				crashed <- fmt.Sprintf("%v\n%s", r, debug.Stack())
			}
		}()
		src.Run(ctx, func(a Answer) {
			select {
			case answers <- a:
			case <-ctx.Done():
			}
		})
	}()
	defer func() { cancel(); <-ended }()

	tick := time.NewTicker(time.Second) // ages grow without an answer
	defer tick.Stop()
	for !m.Quit() {
		width, height := screen.Size()
		frame := m.Frame(width, height, now())
		src.Want(m.Wants())
		draw(screen, frame)
		select {
		case <-ctx.Done():
			return nil
		case text := <-crashed:
			panic(text)
		case a := <-answers:
			m.Take(a)
		case <-tick.C:
		case ev, open := <-screen.EventQ():
			if !open {
				return errEnded
			}
			if err := handle(screen, m, ev); err != nil {
				return err
			}
		}
	}
	return nil
}

// handle passes an event of the terminal on.
func handle(screen tcell.Screen, m *Model, ev tcell.Event) error {
	switch ev := ev.(type) {
	case *tcell.EventKey:
		m.Press(keyName(ev))
	case *tcell.EventResize:
		screen.Sync()
	case *tcell.EventError:
		return fmt.Errorf("read the terminal: %w", ev)
	}
	return nil
}

// keyNames are the keys that the model knows by name.
var keyNames = map[tcell.Key]string{
	tcell.KeyUp: KeyUp, tcell.KeyDown: KeyDown, tcell.KeyPgUp: KeyPgUp, tcell.KeyPgDn: KeyPgDn, tcell.KeyHome: KeyHome, tcell.KeyEnd: KeyEnd,
	tcell.KeyEnter: KeyEnter, tcell.KeyEsc: KeyEsc, tcell.KeyBackspace: KeyBackspace, tcell.KeyBackspace2: KeyBackspace,
	tcell.KeyTab: KeyTab, tcell.KeyBacktab: KeyBacktab, tcell.KeyCtrlC: KeyCtrlC,
}

func keyName(ev *tcell.EventKey) string {
	if ev.Key() == tcell.KeyRune {
		return ev.Str()
	}
	return keyNames[ev.Key()] // "": the model ignores it
}

// styles are the tones on a terminal; one without colours shows the rest of them.
var styles = map[Tone]tcell.Style{
	Plain: tcell.StyleDefault,
	Title: tcell.StyleDefault.Bold(true),
	Dim:   tcell.StyleDefault.Dim(true),
	Good:  tcell.StyleDefault.Foreground(color.Green),
	Warn:  tcell.StyleDefault.Foreground(color.Olive),
	Bad:   tcell.StyleDefault.Foreground(color.Maroon).Bold(true),
}

// draw puts a frame on the screen; the library sends what differs.
func draw(screen tcell.Screen, f Frame) {
	screen.Clear()
	for y, l := range f {
		screen.PutStrStyled(0, y, l.Text, styles[l.Tone].Reverse(l.Selected))
	}
	screen.Show()
}
