package bfd

import "errors"

// The errors of this package.
var (
	// ErrSession is a [Session] that cannot be: the text names field and fix.
	ErrSession = errors.New("invalid bfd session")
	// ErrPortBusy means that another program (bfdd, bird) has the BFD port.
	ErrPortBusy = errors.New("bfd port is in use")
	// ErrMalformed is a packet that RFC 5880 section 6.8.6 tells to discard.
	ErrMalformed = errors.New("malformed bfd packet")
)
