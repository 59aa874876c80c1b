package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"onlink/agent/config"
	"onlink/fib/underlay"
)

// Unnumbered finds the peers that are named by their interface alone: the
// router at the other end of a cable, by the kernel's neighbours there.
type Unnumbered struct {
	Log    *slog.Logger
	Config Routers
	IsUp   func(netip.Addr) bool // whether the session to a peer is up
}

// Routers takes the addresses of the peers of interfaces into the configuration
// in force: an [onlink/agent/reload.Reloader].
type Routers interface {
	SetRouters(ctx context.Context, find func(*config.Effective) map[string]netip.Addr) error
	Current() *config.Effective
	Renewed() <-chan struct{}
}

// unnumberedEvery is the interval of the search on interfaces without a session.
const unnumberedEvery = time.Second

// Run searches for peers until ctx ends, as long as the configuration names an
// interface. A session that is up is left alone, whatever other routers are on its
// link.
func (u *Unnumbered) Run(ctx context.Context) error {
	tick := time.NewTicker(unnumberedEvery)
	defer tick.Stop()
	for {
		renewed, due := u.Config.Renewed(), tick.C
		if !slices.ContainsFunc(u.Config.Current().BGP.Peers, func(p config.Peer) bool { return p.Unnumbered }) {
			due = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-renewed:
			continue
		case <-due:
		}
		err := u.Config.SetRouters(ctx, u.look)
		if err != nil && ctx.Err() == nil {
			u.Log.Warn("failed to update the peer of an interface, retrying", "err", err)
		}
	}
}

// look returns the present addresses of the peers of interfaces, by interface.
func (u *Unnumbered) look(c *config.Effective) map[string]netip.Addr {
	routers := c.Routers()
	for _, p := range c.BGP.Peers {
		if !p.Unnumbered || p.Address.IsValid() && u.IsUp(p.Address) {
			continue
		}
		found, err := routerOn(p.Interface)
		if err != nil || found == p.Address {
			continue // shown by status as a peer without an address
		}
		u.Log.Info("peer found", "peer", p.Name, "address", found)
		routers[p.Interface] = found
	}
	return routers
}

// RoutersNow returns the addresses of the peers of interfaces that the kernel
// has at the start, by interface. The others are found later.
func RoutersNow(peers []config.Peer) map[string]netip.Addr {
	routers := map[string]netip.Addr{}
	for _, p := range peers {
		if !p.Unnumbered {
			continue
		}
		if found, err := routerOn(p.Interface); err == nil {
			routers[p.Interface] = found
		}
	}
	return routers
}

// errNoRouter is why a peer of an interface has no address yet.
var errNoRouter = errors.New("no neighbour yet")

// routerOn returns the link-local address of the one neighbour on a link: of
// several, the one with the router flag (RFC 4861 section 4.4). When the kernel
// has no neighbour there, all are asked to answer.
func routerOn(device string) (netip.Addr, error) {
	index, err := underlay.Index(device)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface %s: %w", device, err)
	}
	list, err := underlay.Neighbours(device)
	if err != nil {
		return netip.Addr{}, err
	}
	var all, routers []netip.Addr
	for _, n := range list {
		if !n.Addr.Is6() || !n.Addr.IsLinkLocalUnicast() || !n.Known() {
			continue
		}
		all = append(all, n.Addr.WithZone(device))
		if n.Router {
			routers = append(routers, n.Addr.WithZone(device))
		}
	}
	switch {
	case len(routers) == 1:
		return routers[0], nil
	case len(all) == 1:
		return all[0], nil
	case len(all) > 1:
		return netip.Addr{}, fmt.Errorf("interface %s: %d neighbours, but not exactly one router among them: set the peer's address", device, len(all))
	}
	return netip.Addr{}, errors.Join(fmt.Errorf("interface %s: %w", device, errNoRouter), callNeighbours(index))
}

// callNeighbours sends an echo request to all machines on a link (RFC 4443
// section 4.1): to answer they solicit our address, and become neighbours.
func callNeighbours(index int) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("open ICMPv6 socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 1); err != nil {
		return fmt.Errorf("limit ICMPv6 to the link: %w", err)
	}
	const echoRequest = 128
	to := &unix.SockaddrInet6{ZoneId: uint32(index), Addr: [16]byte(net.IPv6linklocalallnodes)} //nolint:gosec // an interface index
	return unix.Sendto(fd, []byte{echoRequest, 0, 0, 0, 0, 0, 0, 0}, 0, to)
}
