package bgp

import (
	"errors"
	"fmt"

	"onlink/bgp/policy"
)

// Errors of [New], [Speaker.Start], [Speaker.SetPeers] and
// [Speaker.SetOrigins]. Each is wrapped with the field or address concerned
// and the fix.
var (
	// ErrConfig is wrapped when a Config, Peer, Dynamic or Origin is not valid.
	ErrConfig = errors.New("invalid bgp configuration")
	// ErrPortBusy is wrapped by Start when another program listens on the BGP
	// port.
	ErrPortBusy = errors.New("bgp port is in use")
	// ErrNoAddress is wrapped by Start when a listen address is not configured
	// on this host (yet).
	ErrNoAddress = errors.New("listen address is not on this host")
	// ErrPermission is wrapped by Start when the process has no permission to
	// bind the BGP port.
	ErrPermission = errors.New("not permitted to listen on the bgp port")
	// ErrUnpatched is returned by SetPeers when the engine in this binary is
	// built without onlink's patches.
	ErrUnpatched = errors.New("the BGP engine in this binary is unpatched: one message of a peer can end the agent; " +
		"build with make, or start onlinkd with --allow-unpatched-engine")
	// ErrStarted is returned by Start when it was called before.
	ErrStarted = errors.New("speaker was started before")
	// ErrNotStarted is returned by methods that need a started speaker.
	ErrNotStarted = errors.New("speaker is not started")
	// ErrUnknownPeer means that no peer of this address is configured.
	ErrUnknownPeer = errors.New("no such bgp peer")
)

// invalid returns an [ErrConfig] with the first of the faults, or nil.
func invalid(faults []policy.Fault) error {
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrConfig, faults[0])
}
