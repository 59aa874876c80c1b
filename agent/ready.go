package agent

import (
	"fmt"
	"slices"

	"onlink/agent/config"
	"onlink/bgp"
	"onlink/cni"
	"onlink/ipam"
)

// ready reports why a new pod would get no address or no connectivity, or nil.
// CNI's STATUS answers with it, and the container runtime is told of the
// network only when it is nil. ADD tries all the same: the registry may have a
// block for it by now.
func (a *agent) ready() error {
	if err := a.cni.Trouble(); err != nil {
		return err //nolint:wrapcheck // it says all
	}
	if err := a.alloc.Standing(); err != nil {
		return fmt.Errorf("%w: %w", cni.ErrNotAvailable, err)
	}
	if !slices.ContainsFunc(a.alloc.Blocks(), func(b ipam.BlockUsage) bool { return b.Confirmed }) {
		text := "no pool assigns addresses"
		if err := a.alloc.Stats().RegistryLastError; err != "" {
			text = "the registry: " + err
		}
		return fmt.Errorf("%w: this node owns no block of addresses yet: %s", cni.ErrNotAvailable, text)
	}
	return a.unreachable()
}

// unreachable reports that nobody learns where this node's pods are, by the
// configuration in force: that of the start may have named other peers.
func (a *agent) unreachable() error {
	// This is asked before every pod, and the list of all peers makes the engine
	// count what each was sent: mostly one look-up will do.
	peers := a.current().BGP.Peers
	if len(peers) == 0 || slices.ContainsFunc(peers, func(p config.Peer) bool { return a.speaker.IsUp(p.Address) }) {
		return nil
	}
	return connected(len(peers), a.speaker.Peers())
}

// connected reports whether anybody learns where this node's pods are.
func connected(configured int, peers []bgp.PeerStatus) error {
	if configured == 0 || slices.ContainsFunc(peers, func(p bgp.PeerStatus) bool { return p.State == established }) {
		return nil
	}
	return fmt.Errorf("%w: none of the %d BGP sessions is established, see onlinkctl peers", cni.ErrLimited, configured)
}
