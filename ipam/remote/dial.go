package remote

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// dialBound bounds the try to connect from the node's own address.
const dialBound = 3 * time.Second

// DialFrom returns how a node with these addresses reaches a registry: from the
// one that its blocks lead to, by which the registry knows it. Where that does
// not work, from any. The zero Addr stands for none.
func DialFrom(v4, v6 netip.Addr) func(ctx context.Context, target string) (net.Conn, error) {
	return func(ctx context.Context, target string) (net.Conn, error) {
		if to, err := netip.ParseAddrPort(target); err == nil && !to.Addr().IsLoopback() {
			from := v6
			if to.Addr().Unmap().Is4() {
				from = v4
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
