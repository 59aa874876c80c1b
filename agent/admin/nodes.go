package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// nodes is the service Nodes: what this agent knows of other nodes, and tells them.
type nodes struct {
	onlinkv1.UnimplementedNodesServer

	s *Server
}

// ListNodes implements onlinkv1.NodesServer.
func (n nodes) ListNodes(ctx context.Context, _ *onlinkv1.ListNodesRequest) (*onlinkv1.ListNodesReply, error) {
	rep := &onlinkv1.ListNodesReply{Port: uint32(n.s.TCP().Port())}
	list, err := n.s.World.Registry.Nodes(ctx)
	if err != nil {
		known, answered := n.s.World.Registry.Known()
		list = known.Nodes
		switch {
		case len(list) > 0:
			rep.Missing = fmt.Sprintf("nodes that are new: the block registry does not answer (%v), this is its answer of %v ago", err, known.Age.Round(time.Second))
		case answered:
			rep.Missing = fmt.Sprintf("the other nodes: the block registry does not list them (%v); ask a reflector (--server)", err)
		default:
			rep.Missing = fmt.Sprintf("the other nodes: the block registry does not answer (%v); ask another node (--server)", err)
		}
	}
	if !slices.ContainsFunc(list, func(o ipam.Node) bool { return o.Name == n.s.Node && len(o.Addresses) > 0 }) {
		list = slices.DeleteFunc(slices.Clone(list), func(o ipam.Node) bool { return o.Name == n.s.Node })
		list = append(list, ipam.Node{Name: n.s.Node, Addresses: n.s.World.Addresses})
	}
	for _, o := range list {
		rep.Nodes = append(rep.Nodes, &onlinkv1.NodeAddresses{Node: o.Name, Addresses: texts(o.Addresses)})
	}
	slices.SortFunc(rep.Nodes, func(a, b *onlinkv1.NodeAddresses) int { return strings.Compare(a.GetNode(), b.GetNode()) })
	return rep, nil
}
