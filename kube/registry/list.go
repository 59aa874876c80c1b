package registry

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// List implements [ipam.Registry]. The node's own blocks are those of the last
// answers of the API server, which every assert refreshes.
func (s *Server) List(ctx context.Context, node string) ([]ipam.Block, error) {
	if node == s.opt.Node {
		if err := s.own.loadOnce(ctx); err != nil {
			return nil, err
		}
		return s.own.all(), nil
	}
	if !s.opt.All() {
		return nil, ipam.ErrUnlisted
	}
	all, _, err := s.all.read(ctx)
	if err != nil || node == "" {
		return all, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(b ipam.Block) bool { return b.Node != node }), nil
}

// Nodes implements [ipam.NodeLister].
func (s *Server) Nodes(ctx context.Context) ([]ipam.Node, error) {
	if !s.opt.All() {
		return nil, ipam.ErrUnlisted
	}
	_, nodes, err := s.all.read(ctx)
	return nodes, err
}

// allNodes is the blocks and addresses of all nodes as of the last list.
type allNodes struct {
	s       *Server
	changed atomic.Bool // since the last list

	mu     sync.Mutex // held during a list: calls that come together share it
	at     time.Time
	blocks []ipam.Block
	nodes  []ipam.Node
}

// forget makes the next read a new list: this node changed a block.
func (a *allNodes) forget() { a.changed.Store(true) }

func (a *allNodes) read(ctx context.Context) ([]ipam.Block, []ipam.Node, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.changed.Swap(false) && !a.at.IsZero() && time.Since(a.at) < a.s.opt.ListAge {
		return a.blocks, a.nodes, nil
	}
	var blocks []ipam.Block
	err := a.s.eachPage(ctx, v1alpha1.NodeLabel, func(o *v1alpha1.Block) {
		if b, ok := fromObject(o); ok && b.Node != "" {
			blocks = append(blocks, b)
		}
	})
	if err != nil {
		a.changed.Store(true)
		return nil, nil, err
	}
	sortBlocks(blocks)
	nodes, err := a.s.listNodes(ctx)
	if err != nil {
		a.changed.Store(true)
		return nil, nil, err
	}
	a.at, a.blocks, a.nodes = time.Now(), blocks, nodes
	return blocks, nodes, nil
}

// listNodes returns the holders of names with their addresses.
func (s *Server) listNodes(ctx context.Context) ([]ipam.Node, error) {
	opts := metav1.ListOptions{LabelSelector: v1alpha1.NodeLabel, Limit: listPage}
	var all []ipam.Holder
	for {
		list, err := s.opt.Client.CoordinationV1().Leases(s.opt.Namespace).List(ctx, opts)
		if err != nil {
			return nil, explain("list Leases", err)
		}
		for i := range list.Items {
			l := &list.Items[i]
			if h := holderOf(NodeOf(l), l); h.Node != "" && h.Instance != "" {
				all = append(all, h)
			}
		}
		if opts.Continue = list.Continue; opts.Continue == "" {
			break
		}
	}
	slices.SortFunc(all, func(a, b ipam.Holder) int { return strings.Compare(a.Node, b.Node) })
	return ipam.NodesOf(all), nil
}
