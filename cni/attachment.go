package cni

import (
	"context"
	"net"
	"net/netip"

	"onlink/cni/pod"
)

// Attachment is one interface of one container: the handle of its addresses.
type Attachment = pod.Attachment

// Ask is a request's choice of addresses beyond "an address of each family".
type Ask struct {
	Pools     []string     // names of the pools to take from; empty: IPAM decides
	Addresses []netip.Addr // exactly these addresses; empty: any
	Sticky    string       // the workload that gets its former addresses again; empty: none
}

// Lease holds the addresses that IPAM assigned to an attachment.
type Lease struct {
	Addresses []netip.Addr // IPv4 before IPv6 by custom; at least one
}

// IPAM assigns addresses to attachments. Its methods may be called from many
// goroutines, though never at once for one attachment.
type IPAM interface {
	// Assign returns only after the lease is on disk. It is idempotent: an
	// attachment that holds a lease gets the same again. An error that wraps
	// [ErrRetryLater] or [ErrConfig] reaches the runtime with that code.
	Assign(ctx context.Context, a Attachment, ask Ask) (Lease, error)
	// Release frees the attachment's addresses; an attachment without any is a
	// success.
	Release(ctx context.Context, a Attachment) error
	// Lookup returns the attachment's lease and reports whether it holds one.
	Lookup(a Attachment) (Lease, bool)
	// Attachments returns all attachments that hold a lease.
	Attachments() []Attachment
}

// Routes is the learn loop's view of pods. Its methods only queue: they
// neither block nor fail.
type Routes interface {
	// SetPod queues the route of addr, a /32 or /128, to the host device dev. It is
	// called before the device exists.
	SetPod(addr netip.Prefix, dev string)
	// DeletePod queues the removal of the route to addr.
	DeletePod(addr netip.Prefix)
}

// Senders holds, for each pod's host device, the MAC address that the pod may
// send from. Its methods may be called from many goroutines.
type Senders interface {
	// Allow lets the pod behind a device send from mac, and from no other address.
	Allow(device string, mac net.HardwareAddr) error
	// Forget removes devices; removing an absent one is a success.
	Forget(devices ...string) error
	// Replace makes these devices and addresses the only ones.
	Replace(all map[string]net.HardwareAddr) error
}

// allSenders is [Senders] on a kernel without such a filter: it allows every
// address.
type allSenders struct{}

// Allow implements Senders.
func (allSenders) Allow(string, net.HardwareAddr) error { return nil }

// Forget implements Senders.
func (allSenders) Forget(...string) error { return nil }

// Replace implements Senders.
func (allSenders) Replace(map[string]net.HardwareAddr) error { return nil }
