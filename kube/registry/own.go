package registry

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// holdings are this node's own blocks, as of the last answers of the API server, and
// whether it has lost some.
type holdings struct {
	opt     *Options
	changed func() // called when an own block has changed

	mu     sync.Mutex
	blocks map[netip.Prefix]*v1alpha1.Block // guarded by mu
	loaded bool                             // blocks is a whole list; guarded by mu
	writes int                              // of own blocks; guarded by mu
	// revision is the version of the last list of own blocks, 0: unknown; settled is
	// when claims are accepted again after Blocks were lost. Both guarded by mu.
	revision uint64
	settled  time.Time
}

// load reads this node's blocks: one list, selected by the node's label. It notes when
// the list shows that Blocks were lost.
func (h *holdings) load(ctx context.Context, by ipam.Caller) error {
	for range maxRetries {
		h.mu.Lock()
		before, revision, writes := maps.Clone(h.blocks), h.revision, h.writes
		h.mu.Unlock()
		now, err := h.listOf(ctx, h.opt.Node)
		if unserved(err) {
			h.bereave(by)
		}
		if err != nil {
			return err
		}
		lost, err := h.went(ctx, before, revision, now)
		if err != nil {
			return err
		}
		if lost {
			h.opt.Log.Warn("the API server has lost Blocks: no block is claimed before every node asserted its own", "wait", by.Patience())
			h.bereave(by)
		}
		if h.take(now, writes) {
			return nil
		}
	}
	return errBusy
}

// take makes a list what is known of the own blocks; false: one was written since the
// list began, and may lack in it.
func (h *holdings) take(l *ownList, writes int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writes != writes {
		return false
	}
	h.blocks, h.revision, h.loaded = l.blocks, l.revision, true
	return true
}

// loadOnce is load where this process has not read the list yet.
func (h *holdings) loadOnce(ctx context.Context) error {
	h.mu.Lock()
	loaded := h.loaded
	h.mu.Unlock()
	if loaded {
		return nil
	}
	return h.load(ctx, ipam.Caller{Node: h.opt.Node})
}

// loadTrusted is load for a caller that renewed its Lease just now: it removes the
// doubts of the controller from this node's blocks. The controller writes its doubt,
// then reads the Lease, then frees: a list from before the doubt is one from after the
// renewal, which the controller reads then; a list from after it has the doubt.
func (h *holdings) loadTrusted(ctx context.Context, by ipam.Caller) error {
	for range maxRetries {
		if err := h.load(ctx, by); err != nil {
			return err
		}
		h.mu.Lock()
		own := slices.Collect(maps.Values(h.blocks))
		h.mu.Unlock()
		overtaken := false
		for _, o := range own {
			trusted, err := h.trust(ctx, o)
			switch {
			case err != nil:
				return err
			case trusted == nil:
				overtaken = true
			case trusted != o:
				h.keep(trusted)
			}
		}
		if !overtaken {
			return nil
		}
	}
	return errBusy
}

// trust removes the doubt of the controller from an own block; nil: another write came
// first.
func (h *holdings) trust(ctx context.Context, o *v1alpha1.Block) (*v1alpha1.Block, error) {
	if _, doubted := o.Annotations[DoubtedAnnotation]; !doubted {
		return o, nil
	}
	next := o.DeepCopy()
	delete(next.Annotations, DoubtedAnnotation)
	next, err := h.opt.Client.Blocks.Update(ctx, next, metav1.UpdateOptions{})
	switch {
	case err == nil:
		h.opt.Log.Warn("the controller was about to free a block that this node has", "block", o.Spec.CIDR)
		return next, nil
	case apierrors.IsConflict(err), absent(err):
		return nil, nil //nolint:nilnil // another write came first
	}
	return nil, explain("keep Block "+o.Name, err)
}

// ownList is a list of a node's blocks.
type ownList struct {
	blocks   map[netip.Prefix]*v1alpha1.Block
	revision uint64 // of the list; 0: unknown
}

// blocksOf lists the blocks of a node.
func (h *holdings) blocksOf(ctx context.Context, node string) (map[netip.Prefix]*v1alpha1.Block, error) {
	l, err := h.listOf(ctx, node)
	if err != nil {
		return nil, err
	}
	return l.blocks, nil
}

func (h *holdings) listOf(ctx context.Context, node string) (*ownList, error) {
	list, err := h.opt.Client.Blocks.List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{v1alpha1.NodeLabel: LabelValue(node)}.String(),
	})
	if err != nil {
		return nil, explain("list the blocks of node "+node, err)
	}
	l := &ownList{blocks: map[netip.Prefix]*v1alpha1.Block{}}
	l.revision, _ = strconv.ParseUint(list.ResourceVersion, 10, 64) // of another form it shows no loss
	for i := range list.Items {
		o := &list.Items[i]
		if b, ok := fromObject(o); ok && b.Node == node {
			l.blocks[b.CIDR] = o
		}
	}
	return l, nil
}

// find reads the object of a block; nil: there is none.
func (h *holdings) find(ctx context.Context, p netip.Prefix) (*v1alpha1.Block, error) {
	o, err := h.opt.Client.Blocks.Get(ctx, v1alpha1.BlockName(p), metav1.GetOptions{})
	if absent(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	return o, explain("read Block "+v1alpha1.BlockName(p), err)
}

// keep remembers an object as the API server has it.
func (h *holdings) keep(o *v1alpha1.Block) {
	b, ok := fromObject(o)
	if !ok {
		return
	}
	h.changed()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes++
	if b.Node != h.opt.Node {
		delete(h.blocks, b.CIDR)
		return
	}
	h.blocks[b.CIDR] = o
}

// block returns the object of an own block, nil when it is none.
func (h *holdings) block(p netip.Prefix) *v1alpha1.Block {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.blocks[p]
}

// all returns this node's blocks in order of address.
func (h *holdings) all() []ipam.Block {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]ipam.Block, 0, len(h.blocks))
	for _, o := range h.blocks {
		if b, ok := fromObject(o); ok {
			out = append(out, b)
		}
	}
	sortBlocks(out)
	return out
}

func sortBlocks(blocks []ipam.Block) {
	slices.SortFunc(blocks, func(a, b ipam.Block) int {
		if c := a.CIDR.Addr().Compare(b.CIDR.Addr()); c != 0 {
			return c
		}
		return a.CIDR.Bits() - b.CIDR.Bits()
	})
}
