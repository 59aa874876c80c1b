package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
)

// A VXLAN device needs two entries to reach another node, both static: the
// neighbour entry gives the gateway of a route (the node's address) its
// Ethernet address, the forwarding entry (FDB, bridge(8)) gives that Ethernet
// address its far end, which is the node's address again.

// nodeSet is the kernel's known content for one VXLAN device.
type nodeSet struct {
	index int                      // of the device; entries go with it
	known map[netip.Addr]struct{}  // both entries are there
	stray map[string]netlink.Neigh // entries that no node has, by their text
	due   time.Time                // of the next reading of the kernel
}

// The kernel's entries are read back at most this often, to detect foreign
// changes, and never for more than one part in readShare of the time.
const (
	readEvery = 8 * time.Second
	readShare = 100
)

// AddNodes makes the entries of the nodes on a VXLAN device of ours, and
// keeps all others. Nodes of the other family than the device's underlay are
// passed over. Nothing is written for nodes already there. The device must
// have been ensured before.
func (e *Ensurer) AddNodes(ctx context.Context, d Desired, nodes []netip.Addr) error {
	set, err := e.nodes(d)
	if err != nil || set == nil {
		return err
	}
	var errs []error
	for _, n := range nodes {
		if _, ok := set.known[n]; ok || !d.carries(n) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err := e.addNode(set, n); err != nil {
			errs = append(errs, fmt.Errorf("add node %s to %s: %w", n, d.Name, err))
			continue
		}
		set.known[n] = struct{}{}
	}
	return errors.Join(errs...)
}

// KeepNodes removes the entries of all nodes but these, and every other entry
// of the device: it is ours alone. Call it when no route needs them any more.
func (e *Ensurer) KeepNodes(ctx context.Context, d Desired, nodes []netip.Addr) error {
	set, err := e.nodes(d)
	if err != nil || set == nil {
		return err
	}
	keep := make(map[netip.Addr]struct{}, len(nodes))
	for _, n := range nodes {
		keep[n] = struct{}{}
	}
	var errs []error
	for n := range set.known {
		if _, ok := keep[n]; ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		neigh, fdb := entries(set.index, n)
		if err := errors.Join(e.dropEntry(neigh), e.dropEntry(fdb)); err != nil {
			errs = append(errs, fmt.Errorf("remove node %s from %s: %w", n, d.Name, err))
			continue
		}
		delete(set.known, n)
	}
	for text, s := range set.stray {
		if err := e.dropEntry(&s); err != nil {
			errs = append(errs, fmt.Errorf("remove entry %s from %s: %w", text, d.Name, err))
			continue
		}
		delete(set.stray, text)
	}
	return errors.Join(errs...)
}

// carries reports whether the device can send to that node.
func (d Desired) carries(node netip.Addr) bool {
	return node.Is4() == d.Local.Is4() && node != d.Local && node.Zone() == ""
}

// nodes returns the kernel's entries of the device, which it reads the first time
// and when they are due again; nil when there is no such device.
func (e *Ensurer) nodes(d Desired) (*nodeSet, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	index, ok := e.indexes[d.Name]
	if !ok {
		return nil, nil //nolint:nilnil // without the device there are no entries
	}
	set := e.sets[d.Name]
	if set != nil && set.index == index && time.Now().Before(set.due) {
		return set, nil
	}
	began := time.Now()
	set, err := e.readNodes(d, index)
	if err != nil {
		return nil, fmt.Errorf("read entries of %s: %w", d.Name, err)
	}
	set.due = time.Now().Add(max(readEvery, readShare*time.Since(began)))
	if e.sets == nil {
		e.sets = map[string]*nodeSet{}
	}
	e.sets[d.Name] = set
	return set, nil
}

// readNodes reads the entries of a device: a node is known when both of its
// own are there as they should be.
func (e *Ensurer) readNodes(d Desired, index int) (*nodeSet, error) {
	family := unix.AF_INET6
	if d.Local.Is4() {
		family = unix.AF_INET
	}
	set := &nodeSet{index: index, known: map[netip.Addr]struct{}{}, stray: map[string]netlink.Neigh{}}
	neighs, err := e.listEntries(index, family)
	if err != nil {
		return nil, err
	}
	fdb, err := e.listEntries(index, unix.AF_BRIDGE)
	if err != nil {
		return nil, err
	}
	half := map[netip.Addr]struct{}{}
	for _, n := range neighs {
		addr := toAddr(n.IP)
		if !addr.IsValid() || addr.IsMulticast() || n.State&unix.NUD_NOARP != 0 {
			continue // the kernel's own
		}
		if d.carries(addr) && n.State&unix.NUD_PERMANENT != 0 && bytes.Equal(n.HardwareAddr, MAC(addr)) {
			half[addr] = struct{}{}
			continue
		}
		set.stray[n.String()] = n
	}
	for _, n := range fdb {
		addr := toAddr(n.IP)
		_, ok := half[addr]
		if ok && bytes.Equal(n.HardwareAddr, MAC(addr)) && n.State&unix.NUD_PERMANENT != 0 {
			set.known[addr] = struct{}{}
			delete(half, addr)
			continue
		}
		set.stray["fdb "+n.String()] = n
	}
	// A node with one entry of two is incomplete: it is added again, or removed
	// as a stray if no route needs it.
	for addr := range half {
		neigh, _ := entries(index, addr)
		set.stray[neigh.String()] = *neigh
	}
	return set, nil
}

// listEntries lists one kind of a device's entries.
func (e *Ensurer) listEntries(index, family int) ([]netlink.Neigh, error) {
	list, err := dump.Neighbours(e.handle, index, family)
	if errors.Is(err, dump.ErrInterrupted) {
		err = nil // read again in a while
	}
	for i := range list {
		list[i].Family = family // of the request; the reply's is the same, the library's zero is not
		if family == unix.AF_BRIDGE {
			list[i].Flags = unix.NTF_SELF
		}
	}
	return list, err
}

// addNode writes both entries of a node, over existing ones. A stray that it
// overwrites is none any more.
func (e *Ensurer) addNode(set *nodeSet, node netip.Addr) error {
	neigh, fdb := entries(set.index, node)
	// A forwarding entry with another far end would get a second one instead
	// of being replaced.
	for text, s := range set.stray {
		switch same := bytes.Equal(s.HardwareAddr, fdb.HardwareAddr); {
		case s.Family == unix.AF_BRIDGE && same:
			if err := e.dropEntry(&s); err != nil {
				return err
			}
			delete(set.stray, text)
		case s.Family != unix.AF_BRIDGE && toAddr(s.IP) == node:
			delete(set.stray, text)
		}
	}
	return errors.Join(e.handle.NeighSet(neigh), e.handle.NeighSet(fdb))
}

// dropEntry removes one entry; an absent one is no error.
func (e *Ensurer) dropEntry(n *netlink.Neigh) error {
	err := e.handle.NeighDel(n)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// entries returns a node's neighbour and forwarding entry.
func entries(index int, node netip.Addr) (neigh, fdb *netlink.Neigh) {
	family := unix.AF_INET6
	if node.Is4() {
		family = unix.AF_INET
	}
	ip, mac := net.IP(node.AsSlice()), MAC(node)
	neigh = &netlink.Neigh{LinkIndex: index, Family: family, State: unix.NUD_PERMANENT, IP: ip, HardwareAddr: mac}
	fdb = &netlink.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF,
		State: unix.NUD_PERMANENT | unix.NUD_NOARP, IP: ip, HardwareAddr: mac,
	}
	return neigh, fdb
}
