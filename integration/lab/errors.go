package lab

import "errors"

var (
	// ErrInUse says that a living process holds the lab of that name.
	ErrInUse = errors.New("lab is in use by another process")
	// ErrSpec says that a Spec cannot be built; the message names the field.
	ErrSpec = errors.New("invalid lab spec")
	// ErrNoAnswer says that an echo request got no reply in time.
	ErrNoAnswer = errors.New("no answer")
	// ErrTransfer says that a TCP transfer did not arrive whole and unchanged.
	ErrTransfer = errors.New("tcp transfer differs")
	// ErrExited says that a program under test ended by itself.
	ErrExited = errors.New("program ended")
	// ErrTimeout says that a condition did not come true in time; the message
	// holds what was still missing.
	ErrTimeout = errors.New("still not true at the deadline")
)
