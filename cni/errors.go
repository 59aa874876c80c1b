package cni

import (
	"context"
	"encoding/json"
	"errors"
)

// Each sentinel is one error code of the CNI specification 1.1.0, section
// "Error"; its text is the error object's message.
var (
	// ErrVersion: the configuration's cniVersion is not one of ours, or the
	// verb does not exist in it (code 1).
	ErrVersion = errors.New("incompatible CNI version")
	// ErrEnvironment: a CNI_ variable is missing or invalid (code 4).
	ErrEnvironment = errors.New("invalid environment variable")
	// ErrDecode: stdin is not JSON (code 6).
	ErrDecode = errors.New("cannot decode network configuration")
	// ErrConfig: a field of the network configuration is missing or invalid
	// (code 7).
	ErrConfig = errors.New("invalid network configuration")
	// ErrNetns: CNI_NETNS is not a network namespace that a pod can have
	// (code 8).
	ErrNetns = errors.New("invalid network namespace")
	// ErrRetryLater: the same call may succeed later (code 11).
	ErrRetryLater = errors.New("try again later")
	// ErrNotAvailable: STATUS: the agent cannot serve ADD (code 50).
	// [Config].Ready may return it.
	ErrNotAvailable = errors.New("plugin not available")
	// ErrLimited: STATUS: the agent serves, but new pods would have limited
	// connectivity (code 51). [Config].Ready may return it.
	ErrLimited = errors.New("limited connectivity")
	// ErrMismatch: CHECK found an attachment that is not as ADD made it. The
	// specification leaves codes from 100 up to plugins.
	ErrMismatch = errors.New("attachment is not as it was made")
	// ErrInternal stands for every other error (code 999).
	ErrInternal = errors.New("internal error")
)

// codes maps sentinels to the specification's codes. Order matters where an
// error wraps two of them: the first wins.
var codes = []struct {
	err  error
	code uint
}{
	{ErrVersion, 1},
	{ErrEnvironment, 4},
	{ErrDecode, 6},
	{ErrConfig, 7},
	{ErrNetns, 8},
	{ErrMismatch, 100},
	{ErrLimited, 51},
	{ErrNotAvailable, 50},
	{ErrRetryLater, 11},
}

// errorObject is the specification's error object.
type errorObject struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

// newErrorObject maps an error to its CNI code; no other function does.
func newErrorObject(version string, err error) errorObject {
	o := errorObject{CNIVersion: version, Code: 999, Msg: ErrInternal.Error(), Details: err.Error()}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		o.Code, o.Msg = 11, ErrRetryLater.Error()
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			o.Code, o.Msg = c.code, c.err.Error()
			break
		}
	}
	return o
}

// encode returns the object as the line that the shim prints.
func (o errorObject) encode() []byte {
	b, err := json.Marshal(o)
	if err != nil { // two integers and two strings always encode
		panic(err)
	}
	return append(b, '\n')
}
