package addresses

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func all(string) bool { return true }

func free(netip.Addr) (string, netip.Prefix) { return "", netip.Prefix{} }

func pool(name, cidr string) Pool {
	return Pool{Name: name, CIDR: netip.MustParsePrefix(cidr), Serves: all}
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func service(name string, edit func(*Service)) Service {
	s := Service{Namespace: "ns", Name: name, IPv4: true, Ports: []Port{{"TCP", 80}}}
	if edit != nil {
		edit(&s)
	}
	return s
}

func TestAssign(t *testing.T) {
	four, six := pool("four", "192.0.2.0/29"), pool("six", "2001:db8::/120")
	manual := pool("manual", "198.51.100.0/30")
	manual.Manual = true
	disabled := pool("off", "203.0.113.0/24")
	disabled.Disabled = true
	reserved := pool("reserved", "198.51.100.8/29")
	reserved.Reserved = []netip.Prefix{netip.MustParsePrefix("198.51.100.8/30")}
	other := pool("other", "203.0.113.8/29")
	other.Serves = func(ns string) bool { return ns == "team" }
	tests := []struct {
		name     string
		pools    []Pool
		services []Service
		want     map[string]string // addresses, or "!" and a part of the problem, or both
	}{
		{"the lowest, without the edges", []Pool{four}, []Service{service("a", nil), service("b", nil)}, map[string]string{"a": "192.0.2.1", "b": "192.0.2.2"}},
		{
			"the older first",
			[]Pool{four},
			[]Service{service("a", func(s *Service) { s.Created = 2 }), service("b", func(s *Service) { s.Created = 1 })},
			map[string]string{"a": "192.0.2.2", "b": "192.0.2.1"},
		},
		{
			"a pool of two has no edges",
			[]Pool{pool("p", "192.0.2.0/31")},
			[]Service{service("a", nil), service("b", nil), service("c", nil)},
			map[string]string{"a": "192.0.2.0", "b": "192.0.2.1", "c": "!no free address in IPPool p"},
		},
		{"a pool of one", []Pool{pool("p", "192.0.2.7/32")}, []Service{service("a", nil)}, map[string]string{"a": "192.0.2.7"}},
		{"both families", []Pool{four, six}, []Service{service("a", func(s *Service) { s.IPv6 = true })}, map[string]string{"a": "192.0.2.1 2001:db8::1"}},
		{"both are preferred, and one is there", []Pool{four}, []Service{service("a", func(s *Service) { s.IPv6 = true })}, map[string]string{"a": "192.0.2.1"}},
		{
			"both are required, and one is there",
			[]Pool{four},
			[]Service{service("a", func(s *Service) { s.IPv6, s.All = true, true }), service("b", nil)},
			map[string]string{"a": "!IPv6", "b": "192.0.2.1"},
		},
		{
			"a second family later",
			[]Pool{four, six},
			[]Service{service("a", func(s *Service) { s.IPv6, s.All, s.Have = true, true, addrs("192.0.2.5") })},
			map[string]string{"a": "192.0.2.5 2001:db8::1"},
		},
		{"a family less", []Pool{four, six}, []Service{service("a", func(s *Service) { s.Have = addrs("192.0.2.5", "2001:db8::1") })}, map[string]string{"a": "192.0.2.5"}},
		{
			"what it has stays",
			[]Pool{four},
			[]Service{service("a", func(s *Service) { s.Have = addrs("192.0.2.5"); s.Created = 9 }), service("b", nil)},
			map[string]string{"a": "192.0.2.5", "b": "192.0.2.1"},
		},
		{"a pool that is gone takes nothing away", []Pool{four}, []Service{service("a", func(s *Service) { s.Have = addrs("10.9.9.9") })}, map[string]string{"a": "10.9.9.9"}},
		{
			"no pools at all take nothing away", nil,
			[]Service{service("a", func(s *Service) { s.Have = addrs("10.9.9.9") }), service("b", nil)},
			map[string]string{"a": "10.9.9.9", "b": "!no IPPool"},
		},
		{"two have one address", []Pool{four}, []Service{
			service("a", func(s *Service) { s.Have, s.Created = addrs("192.0.2.3"), 2 }), service("b", func(s *Service) { s.Have, s.Created = addrs("192.0.2.3"), 1 }),
		}, map[string]string{"a": "192.0.2.1 !not its address any more", "b": "192.0.2.3"}},
		{"a named address", []Pool{reserved}, []Service{service("a", func(s *Service) { s.Wanted = addrs("198.51.100.9") })}, map[string]string{"a": "198.51.100.9"}},
		{
			"a named address in place of another",
			[]Pool{four},
			[]Service{service("a", func(s *Service) { s.Wanted, s.Have = addrs("192.0.2.4"), addrs("192.0.2.1") })},
			map[string]string{"a": "192.0.2.4"},
		},
		{
			"a named address of another Service",
			[]Pool{four},
			[]Service{service("a", func(s *Service) { s.Have = addrs("192.0.2.4") }), service("b", func(s *Service) { s.Wanted = addrs("192.0.2.4") })},
			map[string]string{"a": "192.0.2.4", "b": "!Service ns/a has it"},
		},
		{"a named address that it cannot have, and another that it has", []Pool{four}, []Service{
			service("a", func(s *Service) { s.Have = addrs("192.0.2.4") }), service("b", func(s *Service) { s.Wanted, s.Have = addrs("192.0.2.4"), addrs("192.0.2.1") }),
		}, map[string]string{"a": "192.0.2.4", "b": "192.0.2.1 !Service ns/a has it"}},
		{"a named address in no pool", []Pool{four}, []Service{service("a", func(s *Service) { s.Wanted = addrs("10.0.0.1") })}, map[string]string{"a": "!no IPPool"}},
		{"a named edge", []Pool{four}, []Service{service("a", func(s *Service) { s.Wanted = addrs("192.0.2.7") })}, map[string]string{"a": "!first or last"}},
		{"a named address of the other family", []Pool{four, six}, []Service{service("a", func(s *Service) { s.Wanted = addrs("2001:db8::5") })}, map[string]string{"a": "!ipFamilies"}},
		{"reserved", []Pool{reserved}, []Service{service("a", nil)}, map[string]string{"a": "198.51.100.12"}},
		{
			"a manual pool",
			[]Pool{manual},
			[]Service{service("a", nil), service("b", func(s *Service) { s.Pools = []string{"manual"} })},
			map[string]string{"a": "!no IPPool", "b": "198.51.100.1"},
		},
		{
			"a disabled pool",
			[]Pool{disabled},
			[]Service{service("a", nil), service("b", func(s *Service) { s.Have = addrs("203.0.113.5") }), service("c", func(s *Service) { s.Wanted = addrs("203.0.113.6") })},
			map[string]string{"a": "!no IPPool", "b": "203.0.113.5", "c": "!disabled"},
		},
		{"pools in the order of the annotation", []Pool{four, reserved}, []Service{service("a", func(s *Service) { s.Pools = []string{"reserved", "four"} })}, map[string]string{"a": "198.51.100.12"}},
		{"a pool that does not exist", []Pool{four}, []Service{service("a", func(s *Service) { s.Pools = []string{"no"} })}, map[string]string{"a": `!"no"`}},
		{
			"a pool of other namespaces",
			[]Pool{other},
			[]Service{service("a", nil), service("b", func(s *Service) { s.Namespace = "team" })},
			map[string]string{"a": "!no IPPool", "team/b": "203.0.113.9"},
		},
		{"a shared address", []Pool{four}, []Service{
			service("a", func(s *Service) { s.Sharing = "k" }), service("b", func(s *Service) { s.Sharing = "k"; s.Ports = []Port{{"UDP", 80}} }),
			service("c", func(s *Service) { s.Sharing = "k" }), service("d", func(s *Service) { s.Sharing = "k"; s.Ports = []Port{{"TCP", 81}}; s.Selector = "x" }),
			service("e", func(s *Service) { s.Sharing = "k"; s.Ports = []Port{{"TCP", 82}}; s.Namespace = "team" }),
		}, map[string]string{"a": "192.0.2.1", "b": "192.0.2.1", "c": "192.0.2.2", "d": "192.0.2.3", "team/e": "192.0.2.4"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Assign(tt.pools, tt.services, free)
			if len(got) != len(tt.want) {
				t.Fatalf("%d results, want %d", len(got), len(tt.want))
			}
			for key, want := range tt.want {
				if !strings.Contains(key, "/") {
					key = "ns/" + key
				}
				list, problem, _ := strings.Cut(want, "!")
				r := got[key]
				var have []string
				for _, a := range r.Addresses {
					have = append(have, a.String())
				}
				if strings.Join(have, " ") != strings.TrimSpace(list) || !strings.Contains(r.Problem, problem) || problem == "" && r.Problem != "" {
					t.Errorf("%s: %v %q, want %q", key, have, r.Problem, want)
				}
			}
		})
	}
}

// TestAssignRanges: a pool of Services over a range of pods, or inside one, is no loop
// through 2^64 addresses.
func TestAssignRanges(t *testing.T) {
	pods := netip.MustParsePrefix("2001:db8:0:1::/64")
	use := func(a netip.Addr) (string, netip.Prefix) {
		if pods.Contains(a) {
			return "in IPPool pods", pods
		}
		return "", netip.PrefixFrom(a, a.BitLen())
	}
	six := func(s *Service) { s.IPv4, s.IPv6 = false, true }
	end := pool("p", "ffff:ffff:ffff:ffff::/64")
	end.Reserved = []netip.Prefix{end.CIDR}
	half := pool("p", "2001:db8::/63")
	half.Reserved = []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}
	for _, p := range []Pool{pool("p", "2001:db8:0:1::/64"), pool("p", "2001:db8:0:1:8000::/65"), half, end} {
		r := Assign([]Pool{p}, []Service{service("a", six)}, use)["ns/a"]
		if len(r.Addresses) > 0 || !strings.Contains(r.Problem, "no free address in IPPool p") {
			t.Errorf("pool %v: %v %q", p.CIDR, r.Addresses, r.Problem)
		}
	}
	around := pool("p", "2001:db8::/32")
	around.Reserved = []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}
	if r := Assign([]Pool{around}, []Service{service("a", six)}, use)["ns/a"]; !slices.Equal(r.Addresses, addrs("2001:db8:0:2::")) {
		t.Errorf("a pool around the range: %v %q", r.Addresses, r.Problem)
	}
}

func TestAssignInUse(t *testing.T) {
	node := netip.MustParseAddr("192.0.2.1")
	use := func(a netip.Addr) (string, netip.Prefix) {
		one := netip.PrefixFrom(a, a.BitLen())
		if a == node {
			return "an address of Node n1", one
		}
		return "", one
	}
	got := Assign([]Pool{pool("p", "192.0.2.0/29")}, []Service{
		service("a", nil), service("b", func(s *Service) { s.Wanted = []netip.Addr{node} }), service("c", func(s *Service) { s.Have = []netip.Addr{node} }),
	}, use)
	for key, r := range got {
		has := slices.Contains(r.Addresses, node)
		if has != (key == "ns/c") || (key != "ns/a") != strings.Contains(r.Problem, "Node n1") {
			t.Errorf("%s: %+v", key, r) // c had it before, and keeps it with a problem
		}
	}
}

// TestAssignProperties plays random Services that come, change and go: at every
// moment no address is given twice without a shared key, in one namespace and with
// ports apart; none is an edge or reserved; and what a Service has it keeps as long
// as it does not change.
func TestAssignProperties(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pools := []Pool{pool("a", "192.0.2.0/28"), pool("b", "198.51.100.0/30"), pool("c", "2001:db8::/124")}
	pools[0].Reserved = []netip.Prefix{netip.MustParsePrefix("192.0.2.4/31")}
	services := map[string]Service{}
	full := 0
	for step := range 3000 {
		name := fmt.Sprintf("s%d", rnd.IntN(30))
		switch rnd.IntN(3) {
		case 0:
			delete(services, name)
		default:
			s := service(name, func(s *Service) {
				s.Created, s.IPv6, s.All = int64(rnd.IntN(5)), rnd.IntN(3) == 0, rnd.IntN(2) == 0
				s.Sharing = []string{"", "k", "l"}[rnd.IntN(3)]
				s.Ports = []Port{{"TCP", int32(rnd.IntN(4))}}
				s.Namespace = []string{"ns", "team"}[rnd.IntN(2)]
			})
			s.Have = services[name].Have // an edit keeps the status
			services[name] = s
		}
		list := make([]Service, 0, len(services))
		for _, s := range services {
			list = append(list, s)
		}
		got := Assign(pools, list, free)
		owners := map[netip.Addr][]Service{}
		for n, s := range services {
			r := got[s.key()]
			if r.Problem != "" {
				full++
			}
			if s.All && s.IPv6 && len(r.Addresses) == 1 && len(s.Have) == 0 {
				t.Fatalf("step %d: %s got half of what it requires: %+v", step, n, r)
			}
			for _, addr := range r.Addresses {
				for _, o := range owners[addr] {
					if s.Sharing == "" || s.Sharing != o.Sharing || s.Namespace != o.Namespace || s.Ports[0] == o.Ports[0] {
						t.Fatalf("step %d: %v is of %+v and %+v", step, addr, s, o)
					}
				}
				owners[addr] = append(owners[addr], s)
				if edge(pools[0].CIDR, addr) || pools[0].Reserved[0].Contains(addr) || !s.wants(addr) {
					t.Fatalf("step %d: %s got %v", step, n, addr)
				}
			}
			s.Have = r.Addresses
			services[n] = s
		}
		list = list[:0]
		for _, s := range services {
			list = append(list, s)
		}
		for key, r := range Assign(pools, list, free) {
			if !slices.Equal(r.Addresses, got[key].Addresses) {
				t.Fatalf("step %d: %s had %v and has %v, and nothing changed", step, key, got[key].Addresses, r.Addresses)
			}
		}
	}
	if full == 0 {
		t.Fatal("the pools never were full: the test proves little")
	}
}
