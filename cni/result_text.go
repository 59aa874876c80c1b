package cni

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"

	"onlink/cni/pod"
)

// ownResult returns the result of a plugin that is the first of its list, and
// whose configuration adds nothing to it.
func (r *request) ownResult(w *pod.Wiring) []byte {
	j := jsonText{b: make([]byte, 0, 1<<10)}
	j.open("", '{')
	j.text("cniVersion", r.version())
	j.open("interfaces", '[')
	j.device(w.HostDevice(), pod.HostMAC().String(), r.since110(w.MTU), "")
	j.device(r.IfName, w.MAC.String(), r.since110(w.MTU), r.Netns)
	j.close(']')
	j.open("ips", '[')
	for _, a := range w.Addresses {
		j.address(a, !r.speaks("1.0.0"))
	}
	j.close(']')
	j.open("routes", '[')
	for _, g := range w.Gateways() {
		j.open("", '{')
		j.text("dst", anywhere(g).String())
		j.text("gw", g.String())
		j.close('}')
	}
	j.close(']')
	j.close('}')
	return append(j.b, '\n')
}

// anywhere returns the prefix of all addresses of a's family.
func anywhere(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// jsonText is JSON under construction, indented as the reference plugins print
// it. With encoding/json and the CNI library's types a result takes as long as
// a tenth of the wiring of the pod.
type jsonText struct {
	b     []byte
	depth int
	more  bool // a value stands before the next one in its object or list
}

// next begins a value; one in a list has no key.
func (j *jsonText) next(key string) {
	if j.more {
		j.b = append(j.b, ',')
	}
	j.more = true
	if j.depth > 0 {
		j.newline()
	}
	if key != "" {
		j.quote(key)
		j.b = append(j.b, ": "...)
	}
}

func (j *jsonText) newline() {
	j.b = append(j.b, '\n')
	for range j.depth {
		j.b = append(j.b, "    "...)
	}
}

// open begins an object or a list, which must not remain empty.
func (j *jsonText) open(key string, bracket byte) {
	j.next(key)
	j.b = append(j.b, bracket)
	j.depth++
	j.more = false
}

func (j *jsonText) close(bracket byte) {
	j.depth--
	j.newline()
	j.b = append(j.b, bracket)
	j.more = true
}

func (j *jsonText) text(key, value string) {
	j.next(key)
	j.quote(value)
}

func (j *jsonText) number(key string, value int) {
	j.next(key)
	j.b = strconv.AppendInt(j.b, int64(value), 10)
}

func (j *jsonText) quote(s string) {
	odd := func(c rune) bool { return c < ' ' || c > '~' || strings.ContainsRune(`"\<>&`, c) }
	if strings.ContainsFunc(s, odd) {
		text, _ := json.Marshal(s) // a string always can be
		j.b = append(j.b, text...)
		return
	}
	j.b = append(j.b, '"')
	j.b = append(j.b, s...)
	j.b = append(j.b, '"')
}

// device appends one end of the veth; the host's has no sandbox.
func (j *jsonText) device(name, mac string, mtu int, sandbox string) {
	j.open("", '{')
	j.text("name", name)
	j.text("mac", mac)
	if mtu != 0 {
		j.number("mtu", mtu)
	}
	if sandbox != "" {
		j.text("sandbox", sandbox)
	}
	j.close('}')
}

// address appends an address of the pod's end, the second interface. Versions
// before 1.0.0 require its family.
func (j *jsonText) address(a netip.Addr, family bool) {
	j.open("", '{')
	if family {
		version := "6"
		if a.Is4() {
			version = "4"
		}
		j.text("version", version)
	}
	j.number("interface", 1)
	j.text("address", hostPrefix(a).String())
	j.text("gateway", pod.GatewayOf(a).String())
	j.close('}')
}
