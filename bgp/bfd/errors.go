package bfd

import "errors"

// The errors of this package.
var (
	// ErrSession means that a [Session] is not valid; the text names field and fix.
	ErrSession = errors.New("invalid bfd session")
	// ErrPortBusy means that another program (bfdd, bird) has the BFD port.
	ErrPortBusy = errors.New("bfd port is in use")
	// ErrMalformed is a packet that must be discarded by RFC 5880 section 6.8.6.
	ErrMalformed = errors.New("malformed bfd packet")
)
