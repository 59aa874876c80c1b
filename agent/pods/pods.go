// Package pods keeps the database, the CNI service and the kernel in agreement
// about this node's pods: it recovers pods that a lost database lacks, frees the
// addresses of those that ended without a DEL, gives running ones the MTU of new
// ones, and names differences. It decides no address and wires no pod.
package pods

import (
	"context"
	"errors"
	"fmt"

	"onlink/cni"
	"onlink/cni/pod"
	"onlink/ipam"
)

// Addresses lends ipam to the CNI service, which handles attachments only.
type Addresses struct{ Alloc *ipam.Allocator }

// Handle returns the name that ipam has for an attachment.
func Handle(a cni.Attachment) ipam.Handle {
	return ipam.Handle{ContainerID: a.ContainerID, IfName: a.IfName}
}

// Assign implements cni.IPAM.
func (s Addresses) Assign(ctx context.Context, a cni.Attachment, ask cni.Ask) (cni.Lease, error) {
	as, err := s.Alloc.Assign(ctx, ipam.Request{
		Handle: Handle(a), Netns: a.Netns, Namespace: a.Namespace, Pod: a.Pod, UID: a.UID,
		Pools: ask.Pools, Addresses: ask.Addresses, Sticky: ask.Sticky, HostDevice: pod.HostDevice(a.ContainerID, a.IfName),
	})
	switch {
	case errors.Is(err, ipam.ErrInvalidRequest):
		err = fmt.Errorf("%w: %w", cni.ErrConfig, err)
	case err != nil: // a full pool, a registry that does not answer: both may end
		err = fmt.Errorf("%w: %w", cni.ErrRetryLater, err)
	}
	return cni.Lease{Addresses: as.Addresses}, err
}

// Release implements cni.IPAM.
func (s Addresses) Release(ctx context.Context, a cni.Attachment) error {
	_, _, err := s.Alloc.Release(ctx, Handle(a))
	return err
}

// Lookup implements cni.IPAM.
func (s Addresses) Lookup(a cni.Attachment) (cni.Lease, bool) {
	as, ok := s.Alloc.Lookup(Handle(a))
	return cni.Lease{Addresses: as.Addresses}, ok
}

// Attachments implements cni.IPAM.
func (s Addresses) Attachments() []cni.Attachment {
	var out []cni.Attachment
	for _, as := range s.Alloc.Assignments() {
		out = append(out, cni.Attachment{
			ContainerID: as.ContainerID, IfName: as.IfName, Netns: as.Netns,
			Namespace: as.Namespace, Pod: as.Pod, UID: as.UID,
		})
	}
	return out
}

// Here are the attachments whose interfaces the kernel has: they prove that a
// database is this machine's.
func Here(wired []pod.Wired) []ipam.Handle {
	var out []ipam.Handle
	for _, w := range wired {
		if !w.Ended {
			out = append(out, Handle(w.Attachment))
		}
	}
	return out
}
