package labtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/gdamore/tcell/v3/color"
	"github.com/gdamore/tcell/v3/vt"
	"golang.org/x/sys/unix"

	"onlink/integration/lab"
)

// Terminal is a program in a pseudo-terminal, with an emulator that shows what a person
// would see.
type Terminal struct {
	t        *testing.T
	host     *os.File // the end of the emulator
	user     *os.File // the end of the program, kept open: its settings outlive the program
	emulator vt.MockTerm
	cmd      *exec.Cmd
	done     chan struct{} // closed when the program has ended
	before   unix.Termios  // the settings before the program began

	mu      sync.Mutex
	written bytes.Buffer // by the program, as it came
}

// OpenTerminal starts a program inside a namespace, in a terminal of a size. It is killed
// at the end of the test, when it is still there.
func OpenTerminal(t *testing.T, ns *lab.NS, width, height int, env []string, argv ...string) *Terminal {
	t.Helper()
	host, user, err := pty.Open()
	Must(t, err)
	x := &Terminal{
		t: t, host: host, user: user, done: make(chan struct{}),
		emulator: vt.NewMockTerm(vt.MockOptSize{X: vt.Col(width), Y: vt.Row(height)}),
	}
	Must(t, x.emulator.Start())
	x.Resize(width, height)
	x.before = x.settings()
	x.cmd = exec.Command(argv[0], argv[1:]...)
	x.cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = user, user, user
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	Must(t, ns.Do(x.cmd.Start))
	var pumps sync.WaitGroup
	pumps.Go(x.show)
	pumps.Go(x.answer)
	go func() {
		_ = x.cmd.Wait() // the exit code is in ProcessState
		close(x.done)
	}()
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill() // it may have ended
		<-x.done
		_ = x.emulator.Stop()
		_ = host.Close()
		_ = user.Close()
		pumps.Wait()
	})
	return x
}

// show passes the program's output to the emulator.
func (x *Terminal) show() {
	buf := make([]byte, 4096)
	for {
		n, err := x.host.Read(buf)
		if err != nil {
			return
		}
		x.mu.Lock()
		x.written.Write(buf[:n])
		x.mu.Unlock()
		_, _ = x.emulator.Write(buf[:n]) // a mistake shows on the screen
	}
}

// answer passes the emulator's answers to the program, which asks what it can do.
func (x *Terminal) answer() {
	buf := make([]byte, 256)
	for {
		n, err := x.emulator.Read(buf)
		if err != nil {
			return
		}
		if n > 0 {
			x.Type(string(buf[:n]))
		}
	}
}

// Type sends keys as a terminal does: "\r" is Enter, "\x1b[B" the cursor down.
func (x *Terminal) Type(keys string) {
	if _, err := x.host.WriteString(keys); err != nil {
		x.t.Errorf("type into the terminal: %v", err)
	}
}

// Resize changes the size, which the program receives as SIGWINCH.
func (x *Terminal) Resize(width, height int) {
	x.emulator.SetSize(vt.Coord{X: vt.Col(width), Y: vt.Row(height)})
	if err := pty.Setsize(x.host, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		x.t.Errorf("resize the terminal: %v", err)
	}
}

// Screen returns the text on the screen, line by line.
func (x *Terminal) Screen() string {
	size := x.emulator.Backend().GetSize()
	var b strings.Builder
	for y := vt.Row(0); y < size.Y; y++ {
		var line strings.Builder
		for at := vt.Col(0); at < size.X; at++ {
			c := x.emulator.GetCell(vt.Coord{X: at, Y: y})
			switch {
			case c.C != "":
				line.WriteString(c.C)
			case c.W > 0 || at == 0 || x.emulator.GetCell(vt.Coord{X: at - 1, Y: y}).W < 2:
				line.WriteByte(' ')
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// Colours returns the number of colours in which the text on the screen is written.
func (x *Terminal) Colours() int {
	size, found := x.emulator.Backend().GetSize(), map[color.Color]bool{}
	for y := vt.Row(0); y < size.Y; y++ {
		for at := vt.Col(0); at < size.X; at++ {
			if c := x.emulator.GetCell(vt.Coord{X: at, Y: y}); strings.TrimSpace(c.C) != "" {
				found[c.S.Fg()] = true
			}
		}
	}
	return len(found)
}

// Shows waits until all texts are on the screen.
func (x *Terminal) Shows(ctx context.Context, texts ...string) {
	x.t.Helper()
	Must(x.t, lab.Eventually(ctx, Patience, fmt.Sprintf("%q on the screen", texts), func() error {
		screen := x.Screen()
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return fmt.Errorf("no %q in\n%s", text, screen)
			}
		}
		return nil
	}))
}

// Signal sends a signal to the program.
func (x *Terminal) Signal(sig os.Signal) { Must(x.t, x.cmd.Process.Signal(sig)) }

// Ended waits until the program has ended, and returns its exit code.
func (x *Terminal) Ended(ctx context.Context) int {
	x.t.Helper()
	select {
	case <-x.done:
	case <-time.After(Back):
		x.t.Fatalf("the program did not end; on the screen:\n%s", x.Screen())
	case <-ctx.Done():
		x.t.Fatal(ctx.Err())
	}
	return x.cmd.ProcessState.ExitCode()
}

// settings are echo, lines, signals of keys and so on.
func (x *Terminal) settings() unix.Termios {
	x.t.Helper()
	s, err := unix.IoctlGetTermios(int(x.user.Fd()), unix.TCGETS)
	Must(x.t, err)
	return *s
}

// WantRestored waits until the terminal is as before the program: its last output may
// still be on the way to the emulator.
func (x *Terminal) WantRestored(ctx context.Context) {
	x.t.Helper()
	Must(x.t, lab.Eventually(ctx, Back, "the terminal is restored", x.Restored))
}

// Restored returns what differs from before the program: the settings, the alternate
// screen, a hidden cursor. Of a running program it is an error.
func (x *Terminal) Restored() error {
	if now := x.settings(); now != x.before {
		return fmt.Errorf("the settings are %+v, were %+v", now, x.before)
	}
	x.mu.Lock()
	text := x.written.String()
	x.mu.Unlock()
	for _, mode := range []struct{ name, on, off string }{
		{"the alternate screen", "\x1b[?1049h", "\x1b[?1049l"}, {"a hidden cursor", "\x1b[?25l", "\x1b[?25h"},
	} {
		if last := strings.LastIndex(text, mode.on); last < 0 || strings.LastIndex(text, mode.off) < last {
			return fmt.Errorf("%s is left on, or was never set", mode.name)
		}
	}
	return nil
}
