package gobgp

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/osrg/gobgp/v3/pkg/apiutil"

	"onlink/bgp/policy"
)

// TestRoutesSurviveTheEngine: a route that is announced is read unchanged from the
// attributes.
func TestRoutesSurviveTheEngine(t *testing.T) {
	pref, none := uint32(200), uint32(0)
	for name, r := range map[string]policy.Route{
		"plain": {
			Prefix: netip.MustParsePrefix("10.244.0.0/26"), NextHop: netip.MustParseAddr("10.0.0.2"), Origin: "igp",
		},
		"everything": {
			Prefix: netip.MustParsePrefix("10.244.0.0/26"), NextHop: netip.MustParseAddr("10.0.0.2"), Origin: "incomplete",
			ASPath: "65001 4200000000 {65003,65004} 65005", LocalPref: &pref, MED: &none,
			Communities: []string{"64512:100", "65535:0"}, LargeCommunities: []string{"64512:1:2"},
		},
		"IPv6": {
			Prefix: netip.MustParsePrefix("fd00:244::/64"), NextHop: netip.MustParseAddr("fd00::2"), Origin: "egp",
			ASPath: "{65003}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := pathOf(&r)
			if err != nil {
				t.Fatal(err)
			}
			attrs, err := apiutil.GetNativePathAttributes(p)
			if err != nil {
				t.Fatal(err)
			}
			equal := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
			if diff := cmp.Diff(r, Attributes(attrs).Route(r.Prefix), equal); diff != "" {
				t.Errorf("route (-announced +read):\n%s", diff)
			}
		})
	}
	if _, err := pathOf(&policy.Route{Prefix: netip.MustParsePrefix("10.244.0.0/26"), ASPath: "65001 x"}); err == nil {
		t.Error("an AS_PATH that is none was taken")
	}
}
