package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// prefixes counts the IPv4 prefixes in the kernel's tables, as a program in
// the namespace sees them (/proc/net/fib_triestat): cheaper than a dump, and
// silent.
func (p *program) prefixes() (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/fib_triestat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("count routes: %w", err)
	}
	// The first of the lines is that of the main table.
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "Prefixes:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				return 0, fmt.Errorf("count routes: %w", err)
			}
			return n, nil
		}
	}
	return 0, errors.New("count routes: fib_triestat does not say; the kernel needs CONFIG_IP_FIB_TRIE_STATS")
}

// has reports whether exactly this prefix is routed in the namespace.
func (s *space) has(p netip.Prefix) bool {
	found, err := s.link.RouteGetWithOptions(p.Addr().AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(found) != 1 || found[0].Dst == nil {
		return false // no route matches
	}
	bits, _ := found[0].Dst.Mask.Size()
	return bits == p.Bits()
}

// settle waits until the kernel holds want prefixes. While it does not, only
// a few of them (probes) are looked up, which costs the receiver nothing.
func (l *load) settle(ctx context.Context, want int, present bool, probes []netip.Prefix) error {
	const step, limit = time.Millisecond, time.Minute
	left := probes
	err := l.program.until(ctx, "routes reach the kernel", step, limit, func() (bool, error) {
		for len(left) > 0 && l.pair.near.has(left[len(left)-1]) == present {
			left = left[:len(left)-1]
		}
		return len(left) == 0, nil
	})
	if err != nil {
		n, _ := l.program.prefixes()
		return fmt.Errorf("%w: the kernel has %d prefixes, want %d", err, n, want)
	}
	return l.program.until(ctx, "all routes reach the kernel", 5*step, limit, func() (bool, error) {
		n, err := l.program.prefixes()
		return n == want, err
	})
}
