// Package announce keeps the prefixes that this node announces for others: one
// replaceable set per owner, such as "services". A set outlives restarts, so that
// a node whose owner does not run, or cannot reach what it reads, announces what
// it announced before. One for whose prefixes something answers that begins anew with
// the machine, such as a service proxy, says so: after another boot it is withheld
// until its owner sends it again. It contains no BGP: the originate flow takes the
// prefixes that are in force.
package announce

import (
	"errors"
	"net/netip"
	"slices"
	"time"
)

// The bounds of what is kept.
const (
	MaxOwners      = 16
	MaxPrefixes    = 10_000 // of one owner
	maxCommunities = 64     // of one announcement
	maxPeers       = 256
	maxReason      = 256 // bytes
	// maxAudiences bounds the different lists of peers: each is a step of the policy
	// of every peer.
	maxAudiences = 64
)

// ErrInvalid is wrapped by the errors of requests that nothing is taken from.
var ErrInvalid = errors.New("invalid announcements")

// Announcement is a prefix that this node announces for an owner.
type Announcement struct {
	Prefix      netip.Prefix `json:"prefix"`
	Communities []string     `json:"communities,omitempty"` // "64512:100" or "64512:1:2"
	LocalPref   *uint32      `json:"localPref,omitempty"`   // nil: as for other prefixes
	MED         *uint32      `json:"med,omitempty"`         // nil: none
	Peers       []string     `json:"peers,omitempty"`       // names of the only peers that receive it; empty: all
	// GracefulShutdown announces it as the last resort (RFC 8326).
	GracefulShutdown bool   `json:"gracefulShutdown,omitempty"`
	Reason           string `json:"reason,omitempty"` // why it is announced, for operators
}

// equal reports whether a and b are the same announcement, reason included.
func (a *Announcement) equal(b *Announcement) bool {
	return a.Prefix == b.Prefix && a.GracefulShutdown == b.GracefulShutdown && a.Reason == b.Reason &&
		same(a.LocalPref, b.LocalPref) && same(a.MED, b.MED) &&
		slices.Equal(a.Communities, b.Communities) && slices.Equal(a.Peers, b.Peers)
}

func same(a, b *uint32) bool { return a == b || a != nil && b != nil && *a == *b }

// Entry is a requested announcement: Text is its prefix, as the owner wrote it, and
// Prefix is not read.
type Entry struct {
	Announcement

	Text string
}

// Rejection is a requested announcement that is left out.
type Rejection struct {
	Prefix string `json:"prefix"` // as the owner wrote it
	Reason string `json:"reason"` // and the remedy
}

// Request is what an owner wants announced.
type Request struct {
	Owner string
	List  []Entry
	// ThisBoot: the set does not outlive this boot of the machine. What answers for the
	// prefixes is not ready when the machine has booted, and only the owner knows when
	// it is: until then the node would attract packets that are dropped.
	ThisBoot bool
}

// Set are the announcements of one owner.
type Set struct {
	Owner         string
	Changed       time.Time
	Boot          string         // the boot of the machine that the set does not outlive; "": it outlives all
	Announcements []Announcement // in force, by prefix
	Rejected      []Rejection
	Withheld      []Announcement // not in force, because the machine has booted since, by prefix
}

// WithheldReason is why announcements are withheld, and the remedy.
const WithheldReason = "the machine has booted since, and what answers here may not be ready; it is withheld until its owner sends it again"

// Facts are the properties of the node that an announcement must fit.
type Facts struct {
	Pools    []netip.Prefix  // the ranges of the pods
	Networks []netip.Prefix  // of the node: its subnets, addresses, gateways and peers
	Blocks   []netip.Prefix  // of this node
	Others   []netip.Prefix  // announced by the configuration: bgp.originate and aggregates
	Peers    map[string]bool // names
	// Reaches reports whether the node has an address of the prefix's family.
	Reaches func(netip.Prefix) bool
}
