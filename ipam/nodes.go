package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// Node is a node of a registry with the next hops of its announcements, those
// that it has.
type Node struct {
	Name      string
	Addresses []netip.Addr
}

// NodeLister is a [Registry] that lists the next hops of the nodes. A node that
// has not sent its own is not among them.
type NodeLister interface {
	Nodes(ctx context.Context) ([]Node, error)
}

// node returns the caller's entry in a list of nodes.
func (c Caller) node() Node {
	n := Node{Name: c.Node}
	for _, a := range []netip.Addr{c.Address, c.Address6} {
		if a.IsValid() {
			n.Addresses = append(n.Addresses, a)
		}
	}
	return n
}

// NodesOf returns the nodes of holders that have an address.
func NodesOf(holders []Holder) []Node {
	var out []Node
	for _, h := range holders {
		if n := h.node(); len(n.Addresses) > 0 {
			out = append(out, n)
		}
	}
	return out
}

// Nodes implements [NodeLister].
func (r *BoltRegistry) Nodes(ctx context.Context) ([]Node, error) {
	var all []Holder
	err := r.view(ctx, func(tx *bolt.Tx) error {
		return tx.Bucket(bucketHolders).ForEach(func(key, _ []byte) error {
			h, err := holderOf(tx, string(key))
			if err == nil {
				h.Node = string(key)
				all = append(all, h)
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return NodesOf(all), nil
}

// Nodes implements [NodeLister]. Where both parts list a node, one of them may
// have an older address, so all of them are returned.
func (s *Split) Nodes(ctx context.Context) ([]Node, error) {
	var found [2][]Node
	err := s.both(ctx, func(ctx context.Context, part int) (err error) {
		if l, ok := s.parts[part].(NodeLister); ok {
			found[part], err = l.Nodes(ctx)
		}
		return err
	})
	all := slices.Concat(found[0], found[1])
	slices.SortStableFunc(all, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	var out []Node
	for _, n := range all {
		if last := len(out) - 1; last >= 0 && out[last].Name == n.Name {
			for _, a := range n.Addresses {
				if !slices.Contains(out[last].Addresses, a) {
					out[last].Addresses = append(out[last].Addresses, a)
				}
			}
			continue
		}
		out = append(out, n)
	}
	return out, err
}
