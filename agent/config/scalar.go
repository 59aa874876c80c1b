package config

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// word reads any text that is not empty.
func word(dst *string) func(value) {
	return func(v value) {
		if s, ok := v.text("a word"); ok {
			if strings.TrimSpace(s) == "" {
				v.fail("is empty; write a value or remove the key")
				return
			}
			*dst = s
		}
	}
}

// file reads an absolute path.
func file(dst *string) func(value) {
	return func(v value) {
		s, ok := v.text("an absolute path")
		if !ok {
			return
		}
		if !filepath.IsAbs(s) || strings.ContainsRune(s, 0) {
			v.fail("%q is not an absolute path; begin it with \"/\"", s)
			return
		}
		*dst = filepath.Clean(s)
	}
}

// maxSocketPath is what fits into sun_path (unix(7)) with its final zero.
const maxSocketPath = 107

// boolean reads true or false.
func boolean(dst *bool) func(value) {
	return func(v value) {
		switch s, ok := v.text("true or false"); {
		case !ok:
		case s == "true":
			*dst = true
		case s == "false":
			*dst = false
		default:
			v.fail("%q is not a truth value; use true or false", s)
		}
	}
}

// number reads a decimal number from low to high.
func number[T ~int | ~uint8 | ~uint16 | ~uint32](dst *T, low, high uint32) func(value) {
	return func(v value) {
		s, ok := v.text("a number")
		if !ok {
			return
		}
		n, err := strconv.ParseUint(s, 10, 64)
		switch {
		case isRange(err), err == nil && (n < uint64(low) || n > uint64(high)):
			v.fail("%s is out of range; use %d to %d", s, low, high)
		case err != nil, len(s) > 1 && s[0] == '0':
			// A leading zero is octal to some readers of YAML.
			v.fail("%q is not a number; use %d to %d", s, low, high)
		default:
			*dst = T(n)
		}
	}
}

// isRange reports whether strconv understood the digits but has no room.
func isRange(err error) bool {
	numError, ok := err.(*strconv.NumError) //nolint:errorlint // strconv documents this type
	return ok && errors.Is(numError.Err, strconv.ErrRange)
}

// duration reads a time such as 300ms, from low to high.
func duration(dst *time.Duration, low, high time.Duration) func(value) {
	return func(v value) {
		s, ok := v.text("a duration such as 90s")
		if !ok {
			return
		}
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			v.fail("%q is not a duration; use a number with a unit, such as 300ms, 90s or 5m", s)
		case d < low || d > high:
			v.fail("%s is out of range; use %s to %s", s, low, high)
		default:
			*dst = d
		}
	}
}

// seconds reads a duration that travels in whole seconds.
func seconds(dst *time.Duration, low, high time.Duration) func(value) {
	return func(v value) {
		d := low
		duration(&d, low, high)(v)
		if d%time.Second != 0 {
			v.fail("%s is not a whole number of seconds; use %s or %s", d, d.Truncate(time.Second), d.Truncate(time.Second)+time.Second)
			return
		}
		if !v.null() {
			*dst = d
		}
	}
}

// oneOf reads one of the given words.
func oneOf[T ~string](dst *T, words ...T) func(value) {
	return func(v value) {
		names := make([]string, len(words))
		for i, w := range words {
			names[i] = string(w)
		}
		s, ok := v.text(strings.Join(names, ", "))
		if !ok {
			return
		}
		if !slices.Contains(names, s) {
			v.fail("%q is not known; %s", s, suggest(s, names))
			return
		}
		*dst = T(s)
	}
}

// address reads an IP address; the word auto, if allowed, leaves the zero Addr.
func address(dst *netip.Addr, orAuto bool) func(value) {
	return func(v value) {
		s, ok := v.text("an IP address")
		if !ok || orAuto && s == auto {
			return
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			hint := "use one such as 10.57.0.10 or 2001:db8::10"
			if orAuto {
				hint = "use auto or one such as 10.57.0.10"
			}
			v.fail("%q is not an IP address; %s", s, hint)
			return
		}
		*dst = a.Unmap()
	}
}

// identifier reads a 32-bit BGP identifier (RFC 6286) written as an IPv4
// address, or auto.
func identifier(dst *netip.Addr) func(value) {
	return func(v value) {
		s, ok := v.text("an IPv4 address")
		if !ok || s == auto {
			return
		}
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() || a.IsUnspecified() {
			v.fail("%q is not an IPv4 address; use auto or one such as 10.57.0.10, also on an IPv6-only node", s)
			return
		}
		*dst = a
	}
}

// prefix reads a CIDR without host bits.
func prefix(dst *netip.Prefix) func(value) {
	return func(v value) {
		if s, ok := v.text("a CIDR such as 10.0.0.0/8"); ok {
			if p, ok := v.cidr(s); ok {
				*dst = p
			}
		}
	}
}

// cidr parses the text of a prefix.
func (v value) cidr(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			v.fail("%q has no length; use %s/%d for the one address", s, a, a.BitLen())
			return p, false
		}
		v.fail("%q is not a CIDR; use one such as 10.0.0.0/8 or 2001:db8::/32", s)
	case p.Addr().Is4In6():
		v.fail("%q is an IPv4 prefix in IPv6 form; write it as IPv4", s)
	case p != p.Masked():
		v.fail("%q has bits set behind its length; use %s", s, p.Masked())
	default:
		return p, true
	}
	return p, false
}

// prefixes reads a list of CIDRs; a bare address means that one address.
func prefixes(dst *[]netip.Prefix, bare bool) func(value) {
	return func(v value) {
		v.list(func(e value) {
			s, ok := e.text("a CIDR such as 10.0.0.0/8")
			if !ok {
				return
			}
			if a, err := netip.ParseAddr(s); bare && err == nil && a.Zone() == "" {
				*dst = append(*dst, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
				return
			}
			if p, ok := e.cidr(s); ok {
				*dst = append(*dst, p)
			}
		})
	}
}

// endpoint reads address:port to listen on; ":port" means every address and
// off, if allowed, the zero value.
func endpoint(dst *netip.AddrPort, off bool) func(value) {
	return func(v value) {
		s, ok := v.text("address:port")
		if !ok {
			return
		}
		if off && s == string(ModeOff) {
			*dst = netip.AddrPort{}
			return
		}
		full := s
		if strings.HasPrefix(s, ":") {
			full = "[::]" + s
		}
		ap, err := netip.ParseAddrPort(full)
		if err != nil || ap.Port() == 0 {
			v.fail("%q is not address:port; use one such as 127.0.0.1:9179 or [::1]:9179", s)
			return
		}
		*dst = ap
	}
}

// remote reads host:port to connect to; the host may be a name.
func remote(dst *string) func(value) {
	return func(v value) {
		s, ok := v.text("host:port")
		if !ok {
			return
		}
		host, port, err := net.SplitHostPort(s)
		n, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || host == "" || portErr != nil || n == 0 || strings.ContainsAny(host, " /\t\n") {
			v.fail("%q is not host:port; use one such as 10.57.0.10:4790", s)
			return
		}
		*dst = s
	}
}

// remotes reads one host:port or a list of them.
func remotes(dst *[]string) func(value) {
	one := func(v value) {
		var s string
		if remote(&s)(v); s != "" {
			*dst = append(*dst, s)
		}
	}
	return func(v value) {
		if v = v.resolve(); v.n.Kind == yaml.SequenceNode {
			v.list(one)
			return
		}
		one(v)
	}
}

// Bounds of numbers and times.
const (
	maxUint32 = math.MaxUint32
	day       = 24 * time.Hour
)
