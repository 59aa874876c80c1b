package registry

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/ipam"
	"onlink/kube/api/v1alpha1"
)

// Annotations of the Lease onlink-NODE.
const (
	nodeAnnotation    = "onlink.io/node-name"
	addressAnnotation = "onlink.io/address"
	address6Annot     = "onlink.io/address6"
	periodAnnotation  = "onlink.io/period" // of the asserts, as a duration
	beforeAnnotation  = "onlink.io/former-instance"
	blockAnnotation   = "onlink.io/block" // one of those that the node asserted last
)

// maxRetries bounds the writes of one call that others overtake.
const maxRetries = 16

// sighting is when a Lease was first read as it is now. The clock of the machine
// that wrote it may be wrong; this one's own is monotonic.
type sighting struct {
	version string
	at      time.Time
}

// standing is the caller that the API server confirmed last.
type standing struct {
	by ipam.Caller
	at time.Time
}

// holding is the Lease of a name, nil when there is none, and what it says.
type holding struct {
	lease  *coordinationv1.Lease
	holder ipam.Holder
	age    time.Duration // since the holder's last call, as far as this process saw
}

// names are the holders of nodes' names: a Lease each. All methods may be called
// concurrently.
type names struct {
	opt *Options

	mu   sync.Mutex
	seen map[string]sighting // Leases; guarded by mu
	sure standing            // guarded by mu
}

// held reads the holder of a name.
func (n *names) held(ctx context.Context, name string) (*holding, error) {
	l, err := n.opt.Client.CoordinationV1().Leases(n.opt.Namespace).Get(ctx, LeaseName(name), metav1.GetOptions{})
	if absent(err) {
		return &holding{}, nil
	}
	if err != nil {
		return nil, explain("read Lease "+LeaseName(name), err)
	}
	return &holding{lease: l, holder: holderOf(name, l), age: n.sight(l)}, nil
}

// sinceRenewal returns how long ago the Lease was renewed, by the clocks of two machines
// where this one saw it just now for the first time: an operator's command does not wait
// for the next renewal.
func (h *holding) sinceRenewal() time.Duration {
	if h.lease == nil || h.lease.Spec.RenewTime == nil {
		return h.age
	}
	return max(h.age, time.Since(h.lease.Spec.RenewTime.Time))
}

// sight returns how long ago a Lease was first read as it is now.
func (n *names) sight(l *coordinationv1.Lease) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	seen := n.seen[l.Name]
	if seen.version != l.ResourceVersion {
		seen = sighting{version: l.ResourceVersion, at: time.Now()}
		n.seen[l.Name] = seen
	}
	return time.Since(seen.at)
}

// NodeOf returns the name of the node that a Lease is about; "": it is none of a
// node's name.
func NodeOf(l *coordinationv1.Lease) string { return l.Annotations[nodeAnnotation] }

// holderOf reads a Lease.
func holderOf(name string, l *coordinationv1.Lease) ipam.Holder {
	h := ipam.Holder{Caller: ipam.Caller{Node: name}, Before: l.Annotations[beforeAnnotation]}
	if l.Spec.HolderIdentity != nil {
		h.Instance = *l.Spec.HolderIdentity
	}
	// An address that does not parse is none: it makes no two machines one.
	h.Address, _ = netip.ParseAddr(l.Annotations[addressAnnotation])
	h.Address6, _ = netip.ParseAddr(l.Annotations[address6Annot])
	h.Period, _ = time.ParseDuration(l.Annotations[periodAnnotation])
	if l.Spec.AcquireTime != nil {
		h.Since = l.Spec.AcquireTime.Time
	}
	return h
}

// fillLease makes a Lease name the holder, as having called now.
func fillLease(l *coordinationv1.Lease, name string, h ipam.Holder) {
	if l.Labels == nil {
		l.Labels = map[string]string{}
	}
	l.Labels[v1alpha1.NodeLabel] = LabelValue(name)
	if l.Annotations == nil {
		l.Annotations = map[string]string{}
	}
	for key, value := range map[string]string{
		nodeAnnotation: name, addressAnnotation: text(h.Address), address6Annot: text(h.Address6),
		periodAnnotation: h.Period.String(), beforeAnnotation: h.Before,
	} {
		if l.Annotations[key] = value; value == "" {
			delete(l.Annotations, key)
		}
	}
	seconds := int32(max(h.Patience()/time.Second, 1)) //nolint:gosec // minutes
	now, since := metav1.NowMicro(), metav1.NewMicroTime(h.Since)
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime, l.Spec.AcquireTime = &h.Instance, &seconds, &now, &since
}

// fill makes a Lease name a block of its node.
func (r renewal) fill(l *coordinationv1.Lease) {
	switch {
	case !r.due:
	case r.block.IsValid():
		l.Annotations[blockAnnotation] = r.block.String()
	default:
		delete(l.Annotations, blockAnnotation)
	}
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// renewal is what a call does to the Lease of its caller.
type renewal struct {
	due   bool         // not only where the holder changed
	block netip.Prefix // one that the caller has; invalid: none
}

// oneOf returns the lowest of blocks, so that it changes seldom.
func oneOf(held []ipam.Block) netip.Prefix {
	if len(held) == 0 {
		return netip.Prefix{}
	}
	return slices.MinFunc(held, func(a, b ipam.Block) int { return a.CIDR.Addr().Compare(b.CIDR.Addr()) }).CIDR
}

// hold is the rule of [ipam.Admit]: it returns when the caller holds its name, and
// renews its Lease when that is due anyway or r says so.
func (n *names) hold(ctx context.Context, by ipam.Caller, r renewal) error {
	n.mu.Lock()
	sure := !r.due && n.sure.by == by && time.Since(n.sure.at) < by.Patience()/4
	n.mu.Unlock()
	if sure {
		return nil // a claim reads the Lease again after its Block exists
	}
	for range maxRetries {
		h, err := n.held(ctx, by.Node)
		if err != nil {
			return err
		}
		next, changed, err := ipam.Admit(h.holder, by, h.age)
		if err != nil {
			n.unsure()
			return err
		}
		if next.Instance == "" && !changed {
			return nil
		}
		if !changed && !r.due {
			n.confirm(by)
			return nil
		}
		if ok, err := n.record(ctx, h, by.Node, next, r); err != nil || ok {
			if err == nil {
				n.confirm(by)
			}
			return err
		}
	}
	return errBusy
}

// holds reports by an error that another machine has the caller's name by now.
func (n *names) holds(ctx context.Context, by ipam.Caller) error {
	h, err := n.held(ctx, by.Node)
	if err != nil {
		return err
	}
	_, _, err = ipam.Admit(h.holder, by, h.age)
	if err != nil {
		n.unsure()
	}
	return err
}

// record writes the Lease of a name; false: another write came first. A renewal that is
// not due leaves the block as it is.
func (n *names) record(ctx context.Context, h *holding, name string, next ipam.Holder, r renewal) (bool, error) {
	leases := n.opt.Client.CoordinationV1().Leases(n.opt.Namespace)
	l := h.lease
	var err error
	if l == nil {
		l = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: LeaseName(name)}}
		fillLease(l, name, next)
		r.fill(l)
		l, err = leases.Create(ctx, l, metav1.CreateOptions{})
	} else {
		l = l.DeepCopy()
		fillLease(l, name, next)
		r.fill(l)
		l, err = leases.Update(ctx, l, metav1.UpdateOptions{})
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) || absent(err) && h.lease != nil {
		return false, nil
	}
	if err != nil {
		return false, explain("renew Lease "+LeaseName(name), err)
	}
	n.sight(l)
	return true, nil
}

func (n *names) confirm(by ipam.Caller) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sure = standing{by, time.Now()}
}

func (n *names) unsure() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sure = standing{}
}
