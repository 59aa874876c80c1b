package dump

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// This file writes lists as text, for a person. They are of the network namespace of the
// calling thread, and one that changed while it was read is written as it is.

// ReportLinks writes a line for each device, at most limit of them.
func ReportLinks(w io.Writer, limit int) error {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, ErrInterrupted) {
		return fmt.Errorf("list links: %w", err)
	}
	b := begin(w, limit)
	for _, l := range links {
		a := l.Attrs()
		line := fmt.Sprintf("%d: %s %s flags %s mtu %d state %s group %#x master %d parent %d mac %s alias %q", a.Index, a.Name, l.Type(), a.Flags, a.MTU,
			a.OperState, a.Group, a.MasterIndex, a.ParentIndex, a.HardwareAddr, a.Alias)
		if s := a.Statistics; s != nil {
			line += fmt.Sprintf(" rx %d/%dB err %d drop %d tx %d/%dB err %d drop %d", s.RxPackets, s.RxBytes, s.RxErrors, s.RxDropped,
				s.TxPackets, s.TxBytes, s.TxErrors, s.TxDropped)
		}
		switch d := l.(type) {
		case *netlink.Vxlan:
			line += fmt.Sprintf(" vni %d port %d local %s learning %v", d.VxlanId, d.Port, d.SrcAddr, d.Learning)
		case *netlink.Iptun:
			line += fmt.Sprintf(" local %s remote %s ttl %d pmtudisc %d", d.Local, d.Remote, d.Ttl, d.PMtuDisc)
		case *netlink.Vrf:
			line += fmt.Sprintf(" table %d", d.Table)
		}
		b.line("%s", line)
	}
	return b.end()
}

// ReportAddresses writes a line for each address, at most limit of them.
func ReportAddresses(w io.Writer, limit int) error {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, ErrInterrupted) {
		return fmt.Errorf("list addresses: %w", err)
	}
	b := begin(w, limit)
	for i := range addrs {
		a := &addrs[i]
		b.line("device %d %s scope %s flags %#x label %s valid %ds preferred %ds", a.LinkIndex, a.IPNet, netlink.Scope(a.Scope), a.Flags, a.Label, a.ValidLft, a.PreferedLft) //nolint:gosec // a byte
	}
	return b.end()
}

// ReportNeighbours writes a line for each neighbour and each entry of a forwarding
// database, at most limit of them.
func ReportNeighbours(w io.Writer, limit int) error {
	b := begin(w, limit)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_BRIDGE} {
		list, err := netlink.NeighList(0, family)
		if err != nil && !errors.Is(err, ErrInterrupted) {
			return fmt.Errorf("list neighbours: %w", err)
		}
		for i := range list {
			n := &list[i]
			b.line("device %d %s lladdr %s state %#x flags %#x", n.LinkIndex, n.IP, n.HardwareAddr, n.State, n.Flags)
		}
	}
	return b.end()
}

// ReportRules writes a line for each policy rule, at most limit of them.
func ReportRules(w io.Writer, limit int) error {
	b := begin(w, limit)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := netlink.RuleList(family)
		if err != nil && !errors.Is(err, ErrInterrupted) {
			return fmt.Errorf("list rules: %w", err)
		}
		for i := range rules {
			r := &rules[i]
			b.line("%s protocol %d", r, r.Protocol)
		}
	}
	return b.end()
}

// ReportRoutes counts the routes of a family by table, protocol and type, and writes a
// line for each of the first limit. It keeps none of them.
func ReportRoutes(w io.Writer, family, limit int) error {
	b := begin(w, limit)
	counts := map[string]int{}
	// Table 0 with its mask means all tables.
	err := netlink.RouteListFilteredIter(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		counts[fmt.Sprintf("table %d protocol %d type %d", r.Table, r.Protocol, r.Type)]++
		b.line("%s protocol %d type %d", r, r.Protocol, r.Type)
		return true
	})
	if err != nil && !errors.Is(err, ErrInterrupted) {
		return fmt.Errorf("list routes: %w", err)
	}
	if err := b.end(); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		if _, err := fmt.Fprintf(w, "# %d of %s\n", counts[key], key); err != nil {
			return err
		}
	}
	return nil
}

// bounded writes lines, and counts those beyond its bound.
type bounded struct {
	w           io.Writer
	limit, seen int
	err         error
}

func begin(w io.Writer, limit int) *bounded { return &bounded{w: w, limit: limit} }

func (b *bounded) line(format string, args ...any) {
	if b.seen++; b.err == nil && b.seen <= b.limit {
		_, b.err = fmt.Fprintf(b.w, format+"\n", args...)
	}
}

// end writes how many lines there would be.
func (b *bounded) end() error {
	if b.err != nil {
		return b.err
	}
	_, err := fmt.Fprintf(b.w, "# %d in all, the first %d are shown\n", b.seen, min(b.seen, b.limit))
	return err
}
