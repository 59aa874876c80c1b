package uml

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// attachTerminal prepares the caller's terminal for an interactive guest: raw
// mode, so that Ctrl-C reaches the shell inside, and its size told to the
// job. The returned function puts the terminal back.
func attachTerminal(opts *Options, job *Job) (func(), error) {
	nothing := func() {}
	f, ok := opts.Stdin.(*os.File)
	if !opts.Interactive || !ok {
		return nothing, nil
	}
	fd := int(f.Fd())
	saved, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if errors.Is(err, unix.ENOTTY) {
		return nothing, nil // a pipe or file: no terminal to prepare
	}
	if err != nil {
		return nothing, fmt.Errorf("read terminal settings: %w", err)
	}
	if size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil {
		job.Rows, job.Cols = size.Row, size.Col
	}
	raw := *saved
	MakeRaw(&raw)
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nothing, fmt.Errorf("set terminal raw: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, saved) }, nil
}

// MakeRaw changes t as cfmakeraw(3) does: bytes pass both ways as they are.
func MakeRaw(t *unix.Termios) {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
}
