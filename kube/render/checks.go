package render

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"onlink/kube/api/v1alpha1"
)

// checks collects the mistakes of one object.
type checks struct{ faults []string }

// failf records a mistake: the field and the fix.
func (c *checks) failf(field, format string, args ...any) {
	c.faults = append(c.faults, field+": "+fmt.Sprintf(format, args...))
}

// reason returns the first mistake and the number of the others; "": none.
func (c *checks) reason() string {
	switch len(c.faults) {
	case 0:
		return ""
	case 1:
		return c.faults[0]
	}
	return fmt.Sprintf("%s (and %d more)", c.faults[0], len(c.faults)-1)
}

const day = 24 * time.Hour

// defaultASN is the first AS of the 16-bit private range (RFC 6996).
const defaultASN = 64512

// Bounds of a session's timers (RFC 4271 section 4.2).
const (
	minHoldTime     = 3 * time.Second
	maxHoldTime     = math.MaxUint16 * time.Second
	usualHoldTime   = 90 * time.Second
	minConnectRetry = 2 * time.Second
	maxConnectRetry = time.Hour
	maxLongLived    = (1<<24 - 1) * time.Second // RFC 9494 section 3.1
)

// duration checks a length of time, which may be absent, and returns it.
func (c *checks) duration(field string, text v1alpha1.Duration, low, high time.Duration) time.Duration {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(string(text))
	switch {
	case err != nil:
		c.failf(field, "%q is not a duration; use one such as 300ms, 90s or 5m", text)
	case d < low || d > high:
		c.failf(field, "%s is out of range; use %s to %s", text, low, high)
	}
	return d
}

// seconds is duration for what BGP sends in whole seconds.
func (c *checks) seconds(field string, text v1alpha1.Duration, low, high time.Duration) time.Duration {
	n := len(c.faults)
	d := c.duration(field, text, low, high)
	if len(c.faults) == n && d%time.Second != 0 {
		c.failf(field, "%s is not a whole number of seconds; use %s", text, d.Truncate(time.Second))
	}
	return d
}

// number checks a number.
func (c *checks) number(field string, n, low, high int64) {
	if n < low || n > high {
		c.failf(field, "%d is out of range; use %d to %d", n, low, high)
	}
}

// optional checks a number of 32 bits that may be absent.
func (c *checks) optional(field string, n *int64, low int64) {
	if n != nil {
		c.number(field, *n, low, maxUint32)
	}
}

const (
	maxUint32 = 1<<32 - 1
	asTrans   = 23456 // RFC 6793 section 9
)

// asn checks an AS number; 0: absent.
func (c *checks) asn(field string, n int64) {
	if n == 0 {
		return
	}
	c.number(field, n, 1, maxUint32-1)
	if n == asTrans {
		c.failf(field, "%d is AS_TRANS, which is reserved; use your own AS, or a private one such as %d", asTrans, defaultASN)
	}
}

// oneOf checks a word that may be absent.
func (c *checks) oneOf(field, have string, words ...string) {
	if have == "" {
		return
	}
	if slices.Contains(words, have) {
		return
	}
	c.failf(field, "%q is unknown; use %s", have, strings.Join(words, ", "))
}

// prefix checks a CIDR and returns it; invalid after a mistake.
func (c *checks) prefix(field string, text v1alpha1.CIDR) netip.Prefix {
	p, err := netip.ParsePrefix(string(text))
	switch {
	case err != nil:
		c.failf(field, "%q is not a CIDR; use one such as 10.0.0.0/8 or fd00::/56", text)
	case p.Addr().Is4In6():
		c.failf(field, "%q is an IPv4 prefix in IPv6 form; write it as IPv4", text)
	case p != p.Masked():
		c.failf(field, "%q has host bits set; use %s", text, p.Masked())
	default:
		return p
	}
	return netip.Prefix{}
}

// rules checks a list of prefix rules.
func (c *checks) rules(field string, list []v1alpha1.PrefixRule) {
	for i, r := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		p := c.prefix(at+".prefix", r.Prefix)
		if !p.IsValid() {
			continue
		}
		low, high := int64(p.Bits()), int64(p.Addr().BitLen())
		ge, le := low, high
		if r.GE != nil {
			ge = int64(*r.GE)
		}
		if r.LE != nil {
			le = int64(*r.LE)
		}
		if low > ge || ge > le || le > high {
			c.failf(at, "lengths %d to %d match nothing inside %s; use %d <= ge <= le <= %d", ge, le, p, low, high)
		}
	}
}

// communityNames are the well-known communities that have a name.
var communityNames = []string{"graceful-shutdown", "blackhole", "no-export", "no-advertise", "no-export-subconfed"}

// isCommunity reports whether text is AS:VALUE (parts 2), AS:VALUE:VALUE (3), or
// either (0), in the one form that rules compare, or a name of the former.
func isCommunity(text string, parts int) bool {
	if parts != 3 {
		if slices.Contains(communityNames, text) {
			return true
		}
	}
	words := strings.Split(text, ":")
	if len(words) != 2 && len(words) != 3 || parts != 0 && parts != len(words) {
		return false
	}
	bits := 16
	if len(words) == 3 {
		bits = 32
	}
	for _, w := range words {
		if _, err := strconv.ParseUint(w, 10, bits); err != nil {
			return false
		}
	}
	return true
}

// canonical returns the form of a community that rules compare; the name of a
// well-known one as its number.
func canonical(text string) string {
	switch text {
	case "graceful-shutdown":
		return "65535:0"
	case "blackhole":
		return "65535:666"
	case "no-export":
		return "65535:65281"
	case "no-advertise":
		return "65535:65282"
	case "no-export-subconfed":
		return "65535:65283"
	}
	words := strings.Split(text, ":")
	for i, w := range words {
		if n, err := strconv.ParseUint(w, 10, 32); err == nil {
			words[i] = strconv.FormatUint(n, 10)
		}
	}
	return strings.Join(words, ":")
}

// communities checks a list of communities; with patterns an entry may be a
// regular expression from ^ to $.
func communities[T ~string](c *checks, field string, list []T, parts int, patterns bool) {
	form := map[int]string{0: `AS:VALUE or AS:VALUE:VALUE`, 2: "AS:VALUE", 3: "AS:VALUE:VALUE"}[parts]
	if parts != 3 {
		form += ", or one of " + strings.Join(communityNames, ", ")
	}
	for i, one := range list {
		text := string(one)
		at := fmt.Sprintf("%s[%d]", field, i)
		if patterns && strings.HasPrefix(text, "^") {
			if _, err := regexp.Compile(text); err != nil || !strings.HasSuffix(text, "$") {
				c.failf(at, "%q is not a regular expression from ^ to $; use one such as ^64512:1..$", text)
			}
			continue
		}
		if !isCommunity(text, parts) {
			c.failf(at, "%q is not a community; use %s", text, form)
		}
	}
}

// bfd checks the liveness of a peer.
func (c *checks) bfd(field string, b *v1alpha1.BFD) {
	if b == nil {
		return
	}
	c.duration(field+".interval", b.Interval, 50*time.Millisecond, time.Minute)
	if b.Multiplier != 0 {
		c.number(field+".multiplier", int64(b.Multiplier), 2, 255) // with 1 the first late packet is a failure
	}
	c.oneOf(field+".hops", b.Hops, "single", "multi")
}

// special are the ranges in which no pod and no service is reachable: "this"
// network (RFC 791), loopback, link-local and multicast.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::/127"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// unrouted are the ranges that no service can be announced in: special, and what is
// reserved (RFC 1112 section 4).
var unrouted = append(slices.Clone(special), netip.MustParsePrefix("240.0.0.0/4"))

// contains reports whether p is q or has q inside.
func contains(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }

// host returns the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
