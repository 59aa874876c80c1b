package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"onlink/agent/config"
	"onlink/agent/node"
	"onlink/bgp"
	"onlink/cni/pod"
	"onlink/ipam"
)

// announcedElsewhere says who announces one of the blocks besides this node, or
// why that cannot be told; empty: nobody does.
func (a *agent) announcedElsewhere(ctx context.Context, blocks []netip.Prefix) string {
	peers := a.current().BGP.Peers
	if len(peers) > 0 && !slices.ContainsFunc(a.speaker.Peers(), func(p bgp.PeerStatus) bool { return p.State == established }) {
		return "no BGP session is up here, so it cannot be told whether its blocks are still announced"
	}
	var who string
	err := a.learn.do(ctx, func() {
		if len(peers) > 0 && !a.learn.sync.done {
			who = "BGP is not in sync here yet, so it cannot be told whether its blocks are still announced"
			return
		}
		for _, b := range blocks {
			for _, p := range a.learn.table.Paths(b) {
				if p.NextHop != a.id.Address && p.NextHop != a.id.Address6 {
					who = fmt.Sprintf("its block %v is still announced with next hop %v", b, p.NextHop)
					return
				}
			}
		}
	})
	if err != nil {
		return "it cannot be told whether its blocks are still announced: " + err.Error()
	}
	return who
}

// dialBound bounds the try to connect from the node's own address.
const dialBound = 3 * time.Second

// dialFrom returns how to reach the registry: from the address that the node's
// blocks lead to, by which the registry knows it. Where that does not work,
// from any.
func dialFrom(id node.Identity) func(ctx context.Context, target string) (net.Conn, error) {
	return func(ctx context.Context, target string) (net.Conn, error) {
		if to, err := netip.ParseAddrPort(target); err == nil && !to.Addr().IsLoopback() {
			from := id.Address6
			if to.Addr().Unmap().Is4() {
				from = id.Address
			}
			if from.IsValid() {
				bound, cancel := context.WithTimeout(ctx, dialBound)
				defer cancel()
				d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
				if conn, err := d.DialContext(bound, "tcp", target); err == nil || ctx.Err() != nil {
					return conn, err
				}
			}
		}
		return new(net.Dialer).DialContext(ctx, "tcp", target)
	}
}

// storeOptions tells a lost database from a first start: a node on which pods
// run had one. Without that sign, and after a damaged file is moved aside, the
// operator says so with --repair-database.
func storeOptions(cfg *config.Config, opt Options, wired []pod.Wired) ipam.StoreOptions {
	serves := cfg.IPAM.Registry.Served()
	out := ipam.StoreOptions{MoveAside: opt.RepairDatabase, Lost: serves && (opt.RepairDatabase || len(wired) > 0)}
	if serves {
		out.Marker = filepath.Join(cfg.Paths.Run, "registry.epoch")
	}
	return out
}
