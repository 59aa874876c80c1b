package cni

import (
	"context"
	"net"
	"net/netip"

	"onlink/cni/pod"
)

// Attachment is one interface of one container: the handle of its addresses.
type Attachment = pod.Attachment

// Ask is what a request wants beyond "an address of each family".
type Ask struct {
	Pools     []string     // names of the pools to take from; empty: IPAM decides
	Addresses []netip.Addr // exactly these addresses; empty: any
	Sticky    string       // the workload that shall get its addresses again; empty: none
}

// Lease is what IPAM gave an attachment.
type Lease struct {
	Addresses []netip.Addr // IPv4 before IPv6 by custom; at least one
}

// IPAM gives addresses to attachments. Its methods may be called from many
// goroutines, though never at once for one attachment.
type IPAM interface {
	// Assign returns only after the lease is on disk. It is idempotent: an
	// attachment that holds a lease gets the same again. An error that wraps
	// [ErrRetryLater] or [ErrConfig] tells the runtime so.
	Assign(ctx context.Context, a Attachment, ask Ask) (Lease, error)
	// Release frees what the attachment holds; holding nothing is success.
	Release(ctx context.Context, a Attachment) error
	// Lookup returns what the attachment holds and reports whether that is
	// anything.
	Lookup(a Attachment) (Lease, bool)
	// Attachments returns all attachments that hold a lease.
	Attachments() []Attachment
}

// Routes is the learn loop's view of pods. Its methods only queue: they
// neither block nor fail.
type Routes interface {
	// SetPod says that addr, a /32 or /128, is behind the host device dev. It
	// is called before the device exists.
	SetPod(addr netip.Prefix, dev string)
	// DeletePod says that addr is no pod's any more.
	DeletePod(addr netip.Prefix)
}

// Senders keeps which MAC address may send from a pod's host device. Its
// methods may be called from many goroutines.
type Senders interface {
	// Allow lets what is behind a device send from mac, and from nothing else.
	Allow(device string, mac net.HardwareAddr) error
	// Forget takes devices out; an unknown one is out already.
	Forget(devices ...string) error
	// Replace makes these the only ones.
	Replace(all map[string]net.HardwareAddr) error
}

// allSenders is [Senders] where the kernel can hold none.
type allSenders struct{}

// Allow implements Senders.
func (allSenders) Allow(string, net.HardwareAddr) error { return nil }

// Forget implements Senders.
func (allSenders) Forget(...string) error { return nil }

// Replace implements Senders.
func (allSenders) Replace(map[string]net.HardwareAddr) error { return nil }
