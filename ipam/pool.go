package ipam

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
)

// Default block sizes, as prefix lengths: 64 addresses each.
const (
	DefaultBlockSize4 = 26
	DefaultBlockSize6 = 122
)

// Largest returns the prefix length of the largest block there can be, in the
// family of addr.
func Largest(addr netip.Addr) int {
	if addr.Is4() {
		return minBlockSize4
	}
	return minBlockSize6
}

// Limits of a block size, as prefix lengths: at most 4096 addresses a block.
const (
	minBlockSize4 = 20
	minBlockSize6 = 116
)

// BlockSizes returns the prefix lengths that the blocks of a pool may have, from
// the largest block to the smallest, and the one they have where nothing is said.
func BlockSizes(cidr netip.Prefix) (largest, usual, smallest int) {
	if cidr.Addr().Is4() {
		return minBlockSize4, DefaultBlockSize4, 32
	}
	return minBlockSize6, DefaultBlockSize6, 128
}

// Pool is a range of addresses, cut into blocks of one size.
type Pool struct {
	Name string       // unique, shown in errors and by onlinkctl
	CIDR netip.Prefix // masked
	// BlockSize is the prefix length of a block: 20..32 in IPv4 (0 means 26),
	// 116..128 in IPv6 (0 means 122).
	BlockSize int
	Disabled  bool // no new address and no new block; assigned addresses stay
	Manual    bool // used only when a request names the pool or an address in it
	// Elsewhere reports that the pool is not for this node: it takes nothing from
	// it, as if it were disabled.
	Elsewhere bool
	// Namespaces are patterns (path.Match) of the namespaces whose pods get an
	// address of the pool by default; empty: all.
	Namespaces []string
	// Reserved ranges inside CIDR are never chosen; a request for a specific
	// address still gets it.
	Reserved []netip.Prefix
}

// withDefaults returns p with the default block size filled in.
func (p Pool) withDefaults() Pool {
	if p.BlockSize == 0 && p.CIDR.IsValid() {
		_, p.BlockSize, _ = BlockSizes(p.CIDR)
	}
	return p
}

// Validate checks one pool. The error wraps [ErrInvalidPool], names the field
// and the remedy.
func (p Pool) Validate() error {
	p = p.withDefaults()
	if p.Name == "" {
		return fmt.Errorf("%w: name is empty: give each pool a name", ErrInvalidPool)
	}
	if !p.CIDR.IsValid() {
		return fmt.Errorf("%w %q: cidr is missing: set it to a prefix such as 10.244.0.0/16", ErrInvalidPool, p.Name)
	}
	if p.CIDR.Addr().Is4In6() {
		return fmt.Errorf("%w %q: cidr %v is IPv4 inside IPv6: write it as IPv4", ErrInvalidPool, p.Name, p.CIDR)
	}
	if m := p.CIDR.Masked(); m != p.CIDR {
		return fmt.Errorf("%w %q: cidr %v has host bits: write %v", ErrInvalidPool, p.Name, p.CIDR, m)
	}
	low, _, high := BlockSizes(p.CIDR)
	if p.BlockSize < low || p.BlockSize > high {
		return fmt.Errorf("%w %q: block size /%d: choose /%d to /%d", ErrInvalidPool, p.Name, p.BlockSize, low, high)
	}
	if p.BlockSize < p.CIDR.Bits() {
		return fmt.Errorf("%w %q: block size /%d is larger than cidr %v: choose /%d or longer",
			ErrInvalidPool, p.Name, p.BlockSize, p.CIDR, max(low, p.CIDR.Bits()))
	}
	for _, n := range p.Namespaces {
		if _, err := path.Match(n, ""); err != nil {
			return fmt.Errorf("%w %q: namespaces: %q is not a pattern: use a name, * and ?", ErrInvalidPool, p.Name, n)
		}
	}
	for _, r := range p.Reserved {
		if !r.IsValid() || r.Masked() != r || !p.CIDR.Contains(r.Addr()) || r.Bits() < p.CIDR.Bits() {
			return fmt.Errorf("%w %q: reserved %v: must be a prefix without host bits inside %v",
				ErrInvalidPool, p.Name, r, p.CIDR)
		}
	}
	return nil
}

// ValidatePools checks every pool, and that names are unique and ranges do not
// overlap.
func ValidatePools(pools []Pool) error {
	for i, p := range pools {
		if err := p.Validate(); err != nil {
			return err
		}
		for _, o := range pools[:i] {
			if o.Name == p.Name {
				return fmt.Errorf("%w %q: name is used twice: rename one", ErrInvalidPool, p.Name)
			}
			if o.CIDR.Overlaps(p.CIDR) {
				return fmt.Errorf("%w %q: cidr %v overlaps %v of pool %q: make them disjoint",
					ErrInvalidPool, p.Name, p.CIDR, o.CIDR, o.Name)
			}
		}
	}
	return nil
}

// reserves reports whether the pool keeps addr back from automatic choice.
func (p *Pool) reserves(addr netip.Addr) bool {
	for _, r := range p.Reserved {
		if r.Contains(addr) {
			return true
		}
	}
	return false
}

// closed reports whether nothing new is taken from the pool on this node.
func (p *Pool) closed() bool { return p.Disabled || p.Elsewhere }

// closedWord returns the reason why the pool is closed, for errors.
func (p *Pool) closedWord() string {
	if p.Elsewhere {
		return "not for this node (its node selector): name another or change the node's labels"
	}
	return "disabled: enable it or name another"
}

// automatic reports whether a pod of a namespace gets addresses of the pool
// by default.
func (p *Pool) automatic(namespace string) bool {
	if p.closed() || p.Manual {
		return false
	}
	return len(p.Namespaces) == 0 || slices.ContainsFunc(p.Namespaces, func(pattern string) bool {
		ok, err := path.Match(pattern, namespace)
		return err == nil && ok
	})
}

// is4 reports whether the pool has IPv4 addresses.
func (p *Pool) is4() bool { return p.CIDR.Addr().Is4() }

// holds reports whether b can be a block of the pool, of today's size or
// another.
func (p *Pool) holds(b netip.Prefix) bool {
	return b.Bits() >= max(p.CIDR.Bits(), Largest(p.CIDR.Addr())) && p.CIDR.Contains(b.Addr())
}

// blockOf returns the pool's block that addr lies in.
func (p *Pool) blockOf(addr netip.Addr) netip.Prefix {
	b, err := addr.Prefix(p.BlockSize)
	if err != nil {
		return netip.Prefix{}
	}
	return b
}
