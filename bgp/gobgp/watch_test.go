package gobgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// best makes one path of a best-path event of an unpatched engine.
func best(t *testing.T, prefix, peer, hop string, withdraw bool, communities ...uint32) *api.Path {
	t.Helper()
	attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeNextHop(hop)}
	if len(communities) > 0 {
		attrs = append(attrs, bgp.NewPathAttributeCommunities(communities))
	}
	p, err := apiutil.NewPath(nlriOf(netip.MustParsePrefix(prefix)), withdraw, attrs, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.SourceAsn, p.NeighborIp = 64512, peer
	if peer == "" {
		p.NeighborIp = "<nil>" // how the engine prints the neighbour of our own paths
	}
	return p
}

// TestBestPathsBecomeSets: the paths of an unpatched engine's event become the
// sets of their prefixes.
func TestBestPathsBecomeSets(t *testing.T) {
	const a, b = "10.244.0.0/26", "10.244.1.0/26"
	one, two := best(t, a, "10.0.0.9", "10.0.0.2", false, 7, 8), best(t, a, "10.0.0.8", "10.0.0.3", false)
	gone, own := best(t, a, "10.0.0.9", "10.0.0.2", true), best(t, a, "", "10.0.0.1", false)
	other := best(t, b, "10.0.0.9", "10.0.0.2", false)
	broken := best(t, b, "10.0.0.9", "10.0.0.2", false)
	broken.Nlri = nil
	const path1, path2 = " 10.0.0.9/64512>10.0.0.2[7 8]", " 10.0.0.8/64512>10.0.0.3[]"
	for _, tt := range []struct {
		name  string
		event []*api.Path
		want  []string
	}{
		{"two paths", []*api.Path{one, two}, []string{a + path1 + path2, "flush"}},
		{"withdrawn", []*api.Path{gone}, []string{a, "flush"}},
		{"our own", []*api.Path{own}, []string{a, "flush"}},
		{"two prefixes", []*api.Path{one, two, other}, []string{a + path1 + path2, b + " 10.0.0.9/64512>10.0.0.2[]", "flush"}},
		{"none", nil, []string{"flush"}},
		{"one that is not understood", []*api.Path{broken, two}, []string{"fault", a + path2, "flush"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			h := Handler{
				Set: func(prefix netip.Prefix, paths []Path) {
					text := []string{prefix.String()}
					for _, p := range paths {
						text = append(text, fmt.Sprintf("%s/%d>%s%v", p.Peer, p.PeerAS, p.NextHop, p.Communities))
					}
					got = append(got, strings.Join(text, " "))
				},
				Flush: func() { got = append(got, "flush") },
				Fault: func(error) { got = append(got, "fault") },
			}
			h.best(tt.event)
			if !slices.Equal(got, tt.want) {
				t.Errorf("told %q, want %q", got, tt.want)
			}
		})
	}
}
