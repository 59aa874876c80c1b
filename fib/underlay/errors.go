package underlay

import "errors"

var (
	// errOverrun is returned by a socket that lost notifications: its receive
	// buffer was full (ENOBUFS, netlink(7)) or a message did not fit.
	errOverrun = errors.New("netlink notifications lost")
	// errInterrupted is returned when the kernel's table changed under a dump
	// (NLM_F_DUMP_INTR) at each try.
	errInterrupted = errors.New("netlink dump interrupted by changes")
	// errMessage is returned for a message that contradicts its own lengths.
	errMessage = errors.New("malformed netlink message")
)
