package shim

import "strconv"

// gRPC status codes after which the runtime may try again.
const (
	statusOK                = 0
	statusDeadlineExceeded  = 4
	statusResourceExhausted = 8
	statusUnavailable       = 14
)

// statusError is a call that ended with a gRPC status other than OK, or
// without one.
type statusError struct {
	code    int // gRPC status; -1: none was sent
	message string
}

func (e statusError) Error() string {
	if e.code < 0 {
		return e.message
	}
	return "grpc status " + strconv.Itoa(e.code) + ": " + e.message
}

func (e statusError) cniCode() uint {
	switch e.code {
	case statusUnavailable, statusDeadlineExceeded, statusResourceExhausted:
		return codeRetryLater
	}
	return codeInternal
}

// Errors of the answer.
const (
	errNoMessage  textError = "agent sent no complete message"
	errCompressed textError = "agent sent a compressed message, which was not asked for"
)

// answer is the response of one gRPC call, as far as it has arrived.
type answer struct {
	started bool // the response's headers were read
	done    bool // the stream has ended
	body    []byte

	http    string // :status
	status  string // grpc-status
	details string // grpc-message, still percent-encoded
}

// header reads a header block: first the response's headers, then, at the end of
// the stream, the trailers. Both are one block when there is no message.
func (a *answer) header(fields []field, ends bool) error {
	if a.done || a.started && !ends {
		return errProtocol // gRPC uses no informational responses
	}
	a.started = true
	a.done = ends
	for _, f := range fields {
		switch f.name {
		case ":status":
			a.http = f.value
		case "grpc-status":
			a.status = f.value
		case "grpc-message":
			a.details = f.value
		}
	}
	return nil
}

// message returns the message of a complete answer, or the error that the agent
// sent in its place (gRPC over HTTP/2, "Responses").
func (a *answer) message() ([]byte, error) {
	if a.http != "200" {
		return nil, statusError{-1, "http status " + a.http + " where a gRPC server sends 200"}
	}
	code, err := strconv.Atoi(a.status)
	if err != nil {
		return nil, statusError{-1, "agent sent no grpc-status"}
	}
	if code != statusOK {
		return nil, statusError{code, percentDecode(a.details)}
	}
	if len(a.body) < 5 || uint64(be32(a.body[1:])) != uint64(len(a.body)-5) {
		return nil, errNoMessage
	}
	if a.body[0] != 0 {
		return nil, errCompressed
	}
	return a.body[5:], nil
}

// percentDecode decodes grpc-message; bytes outside an escape stay.
func percentDecode(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(v))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}
