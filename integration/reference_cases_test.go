package integration

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"onlink/integration/labtest"
)

// referenceCase is one line of the table: run says what a side does, and why
// says why the two do not do the same; empty: they do.
type referenceCase struct {
	name string
	run  func(ctx context.Context, s side) string
	why  string
}

// life is a container from ADD to DEL.
func life(w want) func(context.Context, side) string {
	return func(ctx context.Context, s side) string {
		b := s.box()
		r, err := s.add(ctx, b, "eth0", w)
		if err != nil {
			return "ADD " + outcome(err)
		}
		said := []string{describe(r), s.reaches(b, r), "CHECK " + outcome(s.check(ctx, b, "eth0", w)), "DEL " + outcome(s.del(ctx, b, "eth0", w))}
		return strings.Join(said, "; ")
	}
}

// failing is an ADD into a namespace that is none.
func failing(path func(b box) string) func(context.Context, side) string {
	return func(ctx context.Context, s side) string {
		b := s.box()
		b.path = path(b)
		_, err := s.add(ctx, b, "eth0", want{kind: kind4})
		return "ADD " + outcome(err) + "; DEL " + outcome(s.del(ctx, b, "eth0", want{kind: kind4}))
	}
}

// after is ADD and then a DEL under another condition.
func after(spoil func(s side, b *box)) func(context.Context, side) string {
	return func(ctx context.Context, s side) string {
		b := s.box()
		if _, err := s.add(ctx, b, "eth0", want{kind: kind4}); err != nil {
			return "ADD " + outcome(err)
		}
		spoil(s, &b)
		return "DEL " + outcome(s.del(ctx, b, "eth0", want{kind: kind4})) + "; again " + outcome(s.del(ctx, b, "eth0", want{kind: kind4}))
	}
}

// asking is an ADD that asks for addresses, and a second one that asks for the
// same.
func asking(address string) func(context.Context, side) string {
	return func(ctx context.Context, s side) string {
		w := want{kind: kind4, ips: []string{address}}
		b, other := s.box(), s.box()
		r, err := s.add(ctx, b, "eth0", w)
		if err != nil {
			return "ADD " + outcome(err)
		}
		said := "another one"
		if len(r.IPs) == 1 && r.IPs[0].Address.IP.String() == strings.TrimSuffix(address, "/24") {
			said = "this one"
		}
		_, err = s.add(ctx, other, "eth0", w)
		return said + "; a second pod: " + outcome(err) + "; DEL " + outcome(s.del(ctx, b, "eth0", w)) + ", " + outcome(s.del(ctx, other, "eth0", w))
	}
}

// chosenMAC is the MAC address that a case asks for.
const chosenMAC = "02:00:00:00:00:77"

// The reasons that more than one line gives.
const (
	whySingle = "an onlink pod has single addresses, without a subnet of its own"
	whyCode   = "onlink's errors have the specification's codes"
)

// Neither side sees the other's; each is one network of its own.
var referenceCases = []referenceCase{
	{"IPv4", life(want{kind: kind4}), whySingle + ": the node routes each one"},
	{"IPv6", life(want{kind: kind6}), whySingle},
	{"dual stack", life(want{kind: kindDual}), whySingle},
	{"two ranges of a family, one after the other", fillRanges, "onlink answers \"try again later\" (11) when all are taken: an address may be released. Every address of a block is used, none is kept for a gateway or a broadcast"},
	{"two independent ranges of a family", life(want{kind: kindSets}), "a pod has one address of each family; for more it has more interfaces"},
	{"nowhere to take addresses from", life(want{kind: kindNone}), whyCode},
	{"MTU of 1300", func(ctx context.Context, s side) string {
		b, w := s.box(), want{kind: kind4, mtu: 1300}
		if _, err := s.add(ctx, b, "eth0", w); err != nil {
			return "ADD " + outcome(err)
		}
		mtu := 0
		must(s.t, b.in(func() error {
			link, err := netlink.LinkByName("eth0")
			if err == nil {
				mtu = link.Attrs().MTU
			}
			return err
		}))
		return "MTU " + strconv.Itoa(mtu) + "; DEL " + outcome(s.del(ctx, b, "eth0", w))
	}, ""},
	{"an address by the capability `ips`", asking("10.66.0.50/24"), "a taken address may be released: \"try again later\" (11)"},
	{"an address outside all ranges", asking("192.0.2.9/24"), whyCode},
	{"a MAC address by the capability `mac`", func(ctx context.Context, s side) string {
		b, w := s.box(), want{kind: kind4, mac: chosenMAC}
		if _, err := s.add(ctx, b, "eth0", w); err != nil {
			return "ADD " + outcome(err)
		}
		said := "another one"
		must(s.t, b.in(func() error {
			link, err := netlink.LinkByName("eth0")
			if err == nil && link.Attrs().HardwareAddr.String() == chosenMAC {
				said = "this one"
			}
			return err
		}))
		return said + "; DEL " + outcome(s.del(ctx, b, "eth0", w))
	}, "ptp does not support the capability"},
	{"namespace that is not there", failing(func(b box) string { return b.path + "-none" }), whyCode},
	{"a file in place of the namespace", failing(func(b box) string {
		path := filepath.Join(filepath.Dir(b.path), "file")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			panic(err)
		}
		return path
	}), whyCode + "; its DEL needs no namespace"},
	{"ADD twice", func(ctx context.Context, s side) string {
		b, w := s.box(), want{kind: kind4}
		first, err := s.add(ctx, b, "eth0", w)
		if err != nil {
			return "ADD " + outcome(err)
		}
		second, err := s.add(ctx, b, "eth0", w)
		said := "again " + outcome(err)
		if err == nil && first.IPs[0].Address.String() == second.IPs[0].Address.String() {
			said += " with the same address"
		}
		return said + "; then " + s.reaches(b, first) + "; DEL " + outcome(s.del(ctx, b, "eth0", w))
	}, "a runtime without an answer may call again"},
	{"a second interface of the same container", func(ctx context.Context, s side) string {
		b, w := s.box(), want{kind: kind4}
		r, err := s.add(ctx, b, "eth0", w)
		if err != nil {
			return "ADD " + outcome(err)
		}
		_, err = s.add(ctx, b, "net1", w)
		return "ADD " + outcome(err) + "; the first " + s.reaches(b, r) + "; DEL " + outcome(s.del(ctx, b, "net1", w)) + ", " + outcome(s.del(ctx, b, "eth0", w))
	}, "onlink's second default route has a metric behind the first one's, and rules send answers back the way they came"},
	{"an interface name that another container has there", func(ctx context.Context, s side) string {
		b, w := s.box(), want{kind: kind4}
		if _, err := s.add(ctx, b, "eth0", w); err != nil {
			return "ADD " + outcome(err)
		}
		other := s.box()
		other.path = b.path
		_, err := s.add(ctx, other, "eth0", w)
		return "ADD " + outcome(err) + "; DEL " + outcome(s.del(ctx, other, "eth0", w)) + "; the first is " + map[bool]string{true: "there", false: "gone"}[b.has("eth0")]
	}, "ptp removes any interface of the name; onlink removes its own"},
	{"DEL twice", after(func(side, *box) {}), ""},
	{"DEL of a namespace that is gone", after(func(s side, b *box) { must(s.t, labtest.DropNetns(b.path)) }), ""},
	{"DEL without CNI_NETNS", after(func(_ side, b *box) { b.path = "" }), ""},
	{"DEL of what was never added", func(ctx context.Context, s side) string {
		return "DEL " + outcome(s.del(ctx, s.box(), "eth0", want{kind: kind4}))
	}, ""},
	{"CHECK of a pod whose address was removed", func(ctx context.Context, s side) string {
		b, w := s.box(), want{kind: kind4}
		r, err := s.add(ctx, b, "eth0", w)
		if err != nil {
			return "ADD " + outcome(err)
		}
		must(s.t, b.in(func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return netlink.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: r.IPs[0].Address.IP, Mask: r.IPs[0].Address.Mask}})
		}))
		return "CHECK " + outcome(s.check(ctx, b, "eth0", w)) + "; DEL " + outcome(s.del(ctx, b, "eth0", w))
	}, whyCode},
	{"the address after DEL", func(ctx context.Context, s side) string {
		w := want{kind: kind4}
		var seen [2]string
		for i := range seen {
			b := s.box()
			r, err := s.add(ctx, b, "eth0", w)
			if err != nil {
				return "ADD " + outcome(err)
			}
			seen[i] = r.IPs[0].Address.IP.String()
			must(s.t, s.del(ctx, b, "eth0", w))
		}
		return map[bool]string{true: "the next pod has it", false: "the next pod has another"}[seen[0] == seen[1]]
	}, ""},
	{"a result of version 0.3.1", life(want{kind: kind4, version: "0.3.1"}), "as above; CHECK is new in 0.4.0, and libcni calls neither"},
	{"version 1.1.0", life(want{kind: kind4, version: "1.1.0"}), "Debian's reference plugins are older than 1.1.0"},
	{"an unknown key in CNI_ARGS", life(want{kind: kind4, args: [][2]string{{"NONSENSE", "1"}}}), whyCode},
	{"the same with IgnoreUnknown", life(want{kind: kind4, args: [][2]string{{"NONSENSE", "1"}, {"IgnoreUnknown", "1"}}}), whySingle},
	{"no container ID", func(ctx context.Context, s side) string {
		return s.raw(ctx, s.conf(), "CNI_COMMAND=ADD", "CNI_IFNAME=eth0", "CNI_NETNS="+s.box().path)
	}, ""},
	{"no interface name", func(ctx context.Context, s side) string {
		return s.raw(ctx, s.conf(), "CNI_COMMAND=ADD", "CNI_CONTAINERID=x", "CNI_NETNS="+s.box().path)
	}, ""},
	{"a configuration that is no JSON", func(ctx context.Context, s side) string {
		return s.raw(ctx, "{", "CNI_COMMAND=ADD", "CNI_CONTAINERID=x", "CNI_IFNAME=eth0", "CNI_NETNS="+s.box().path)
	}, ""},
	{"an unknown CNI_COMMAND", func(ctx context.Context, s side) string { return s.raw(ctx, s.conf(), "CNI_COMMAND=FLY") }, "an unknown command is an invalid variable (4); there is no container (3) to speak of"},
}

// fillRanges takes every address of two small ranges.
func fillRanges(ctx context.Context, s side) string {
	w := want{kind: kindSmall}
	nets := map[string]bool{}
	var boxes []box
	said := ""
	for said == "" {
		b := s.box()
		r, err := s.add(ctx, b, "eth0", w)
		switch {
		case err != nil:
			said = "full: ADD " + outcome(err)
		case len(boxes) == 20:
			said = "never full"
		default:
			nets[r.IPs[0].Address.IP.Mask(net.CIDRMask(30, 32)).String()] = true
			boxes = append(boxes, b)
		}
	}
	for _, b := range boxes {
		must(s.t, s.del(ctx, b, "eth0", w))
	}
	return strconv.Itoa(len(boxes)) + " pods from " + strconv.Itoa(len(nets)) + " ranges of 4; " + said
}
