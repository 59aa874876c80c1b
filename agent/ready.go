package agent

import (
	"fmt"
	"slices"

	"onlink/agent/config"
	"onlink/bgp"
	"onlink/cni"
	"onlink/ipam"
)

// ready returns the reason that a new pod would get no address or no
// connectivity, or nil. CNI's STATUS answers with it, and the container runtime
// calls the network ready only when it is nil. ADD tries all the same: the
// registry may confirm a block by then.
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

// unreachable returns an error when no peer receives this node's blocks. One without a
// peer in the configuration needs none here: it may be the only node. Under Kubernetes
// onlink-kube knows better, and keeps a node that lacks a session not ready. It reads
// the peers from the configuration in force: that of the start may have named
// others.
func (a *agent) unreachable() error {
	// This runs before every ADD, and for the list of all peers the engine counts
	// the routes sent to each: mostly one look-up will do.
	peers := a.current().BGP.Peers
	if len(peers) == 0 || slices.ContainsFunc(peers, func(p config.Peer) bool { return a.speaker.IsUp(p.Address) }) {
		return nil
	}
	return connected(len(peers), a.speaker.Peers())
}

// connected returns an error when peers are configured and no session is
// established, so that no peer receives this node's blocks.
func connected(configured int, peers []bgp.PeerStatus) error {
	if configured == 0 || slices.ContainsFunc(peers, func(p bgp.PeerStatus) bool { return p.State == established }) {
		return nil
	}
	return fmt.Errorf("%w: none of the %d BGP sessions is established, see onlinkctl peers", cni.ErrLimited, configured)
}
