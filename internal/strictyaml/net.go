package strictyaml

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Addr reads an IP address; each of the words stands for the zero Addr.
func Addr(dst *netip.Addr, words ...string) func(Value) {
	return func(v Value) {
		s, ok := v.Text("an IP address")
		if !ok {
			return
		}
		if slices.Contains(words, s) {
			*dst = netip.Addr{}
			return
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			hint := "use one such as 10.57.0.10 or 2001:db8::10"
			if len(words) > 0 {
				hint = fmt.Sprintf("use %s or one such as 10.57.0.10", strings.Join(words, ", "))
			}
			v.Fail("%q is not an IP address; %s", s, hint)
			return
		}
		*dst = a.Unmap()
	}
}

// Prefix reads a CIDR without host bits.
func Prefix(dst *netip.Prefix) func(Value) {
	return func(v Value) {
		if s, ok := v.Text("a CIDR such as 10.0.0.0/8"); ok {
			if p, ok := v.CIDR(s); ok {
				*dst = p
			}
		}
	}
}

// CIDR parses s, which is the text of the value or a part of it, as a prefix
// without host bits. It reports false after a mistake.
func (v Value) CIDR(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			v.Fail("%q has no length; use %s/%d for a single address", s, a, a.BitLen())
			return p, false
		}
		v.Fail("%q is not a CIDR; use one such as 10.0.0.0/8 or 2001:db8::/32", s)
	case p.Addr().Is4In6():
		v.Fail("%q is an IPv4 prefix in IPv6 form; write it as IPv4", s)
	case p != p.Masked():
		v.Fail("%q has host bits set; use %s", s, p.Masked())
	default:
		return p, true
	}
	return p, false
}

// Prefixes reads a list of CIDRs.
func Prefixes(dst *[]netip.Prefix) func(Value) { return prefixes(dst, false) }

// PrefixesOrAddrs reads a list of CIDRs; a bare address means that one address.
func PrefixesOrAddrs(dst *[]netip.Prefix) func(Value) { return prefixes(dst, true) }

func prefixes(dst *[]netip.Prefix, bare bool) func(Value) {
	return func(v Value) {
		v.List(func(e Value) {
			s, ok := e.Text("a CIDR such as 10.0.0.0/8")
			if !ok {
				return
			}
			if a, err := netip.ParseAddr(s); bare && err == nil && a.Zone() == "" {
				*dst = append(*dst, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
				return
			}
			if p, ok := e.CIDR(s); ok {
				*dst = append(*dst, p)
			}
		})
	}
}

// AddrPort reads address:port to listen on; ":port" means every address, and
// each of the words the zero value.
func AddrPort(dst *netip.AddrPort, words ...string) func(Value) {
	return func(v Value) {
		s, ok := v.Text("address:port")
		if !ok {
			return
		}
		if slices.Contains(words, s) {
			*dst = netip.AddrPort{}
			return
		}
		full := s
		if strings.HasPrefix(s, ":") {
			full = "[::]" + s
		}
		ap, err := netip.ParseAddrPort(full)
		if err != nil || ap.Port() == 0 {
			v.Fail("%q is not address:port; use one such as 127.0.0.1:9179 or [::1]:9179", s)
			return
		}
		*dst = ap
	}
}

// HostPort reads host:port to connect to; the host may be a name.
func HostPort(dst *string) func(Value) {
	return func(v Value) {
		s, ok := v.Text("host:port")
		if !ok {
			return
		}
		host, port, err := net.SplitHostPort(s)
		n, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || host == "" || portErr != nil || n == 0 || strings.ContainsAny(host, " /\t\n") {
			v.Fail("%q is not host:port; use one such as 10.57.0.10:4790", s)
			return
		}
		*dst = s
	}
}

// Some reads one value or a list of them, each with one.
func Some(one func(Value)) func(Value) {
	return func(v Value) {
		if v.IsList() {
			v.List(one)
			return
		}
		one(v)
	}
}
