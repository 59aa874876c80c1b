package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxName bounds the strings of a request, so that no caller can fill the file.
const maxName = 1024

// Handle names an attachment: one interface of one container. It owns addresses,
// and is comparable.
type Handle struct {
	ContainerID string
	IfName      string
}

// String returns the handle as shown in errors and logs.
func (h Handle) String() string { return h.ContainerID + "/" + h.IfName }

// validate checks that the handle can be a key.
func (h Handle) validate() error {
	for _, f := range []struct{ name, value string }{{"container ID", h.ContainerID}, {"interface name", h.IfName}} {
		switch {
		case f.value == "":
			return fmt.Errorf("%w: %s is empty", ErrInvalidRequest, f.name)
		case len(f.value) > maxName || strings.ContainsRune(f.value, 0):
			return fmt.Errorf("%w: %s is longer than %d bytes or has a NUL", ErrInvalidRequest, f.name, maxName)
		}
	}
	return nil
}

// Request is a request for the addresses of one attachment.
type Request struct {
	Handle

	Netns      string // path of the pod's network namespace
	Namespace  string // of the pod
	Pod        string // name of the pod
	UID        string // of the pod
	HostDevice string // host end of the pod's veth

	// Pools names the pools to use, in order; empty means every pool that is
	// neither disabled nor manual, in the order of the configuration.
	Pools []string
	// Addresses are specific addresses to assign, at most one of each family.
	// They may be reserved or cooling down, but not in use.
	Addresses []netip.Addr
	// Sticky names a workload of the namespace that gets the same addresses
	// again on this node, for as long as they are kept; empty: none.
	Sticky string
	// IPv4 and IPv6 select the families; all of them or none is assigned. Both
	// false: the families of Addresses, or when there are none every family that
	// has a pool.
	IPv4, IPv6 bool
}

// validate checks everything that does not depend on pools.
func (r *Request) validate() error {
	if err := r.Handle.validate(); err != nil {
		return err
	}
	for _, s := range []string{r.Netns, r.Namespace, r.Pod, r.UID, r.HostDevice} {
		if len(s) > maxName*4 {
			return fmt.Errorf("%w: a name is longer than %d bytes", ErrInvalidRequest, maxName*4)
		}
	}
	if err := r.validateSticky(); err != nil {
		return err
	}
	if len(r.Addresses) > 2 {
		return fmt.Errorf("%w: %d addresses requested: at most one of each family", ErrInvalidRequest, len(r.Addresses))
	}
	for _, a := range r.Addresses {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("%w: address %v: write a plain IPv4 or IPv6 address", ErrInvalidRequest, a)
		}
	}
	if len(r.Addresses) == 2 && r.Addresses[0].Is4() == r.Addresses[1].Is4() {
		return fmt.Errorf("%w: addresses %v are of one family: at most one of each", ErrInvalidRequest, r.Addresses)
	}
	return nil
}

// Assignment has the addresses of an attachment. Callers must not change the slices.
type Assignment struct {
	Handle

	Addresses []netip.Addr   // IPv4 first
	Pools     []string       // the pool's name of each address
	Blocks    []netip.Prefix // the block of each address; invalid when the block is no longer held

	Netns      string
	Namespace  string
	Pod        string
	UID        string
	HostDevice string
	Assigned   time.Time // of the first assign

	Sticky string // namespace/name of the workload whose sticky addresses these are; empty: none
}

// clone returns a copy that shares no slice.
func (a Assignment) clone() Assignment {
	a.Addresses = slices.Clone(a.Addresses)
	a.Pools = slices.Clone(a.Pools)
	a.Blocks = slices.Clone(a.Blocks)
	return a
}
