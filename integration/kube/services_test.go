package kube

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// announceTime bounds how long a change may take to be in the routers; the test
// reports how long each one took.
const announceTime = 30 * time.Second

// The ranges of the addresses of services: those of the form "one" are announced to
// one router, those of the form "two" to both.
var (
	ranges = map[string][]netip.Prefix{
		"one": {netip.MustParsePrefix("203.0.113.0/25"), netip.MustParsePrefix("fd00:203:1::/112")},
		"two": {netip.MustParsePrefix("203.0.113.128/25"), netip.MustParsePrefix("fd00:203:2::/112")},
	}
	// Inside those of cluster IPs, in their first 256: the API server gives those to no
	// Service that names none.
	innerRanges = map[string][]netip.Prefix{
		"one": {netip.MustParsePrefix("10.96.0.0/25"), netip.MustParsePrefix("fd00:96::/121")},
		"two": {netip.MustParsePrefix("10.96.0.128/25"), netip.MustParsePrefix("fd00:96::80/121")},
	}
	forms = []string{"one", "two"}
)

// services is a cluster of three nodes with two ToRs: the first of another AS, the
// second of the nodes' own.
type services struct {
	t       *testing.T
	c       *cluster.Cluster
	api     *kubernetes.Clientset
	routers []*cluster.Router
}

// TestServices: which address is announced from which node, to which router, and
// who answers there, for every row of the table in docs/kubernetes.md; and what a
// rolling restart under load loses.
func TestServices(t *testing.T) {
	ctx, c := startOnlink(t, cluster.Options{Name: "svc", NodesPerRack: 3, ToRsPerRack: 2, DualStack: true})
	s := &services{t: t, c: c}
	s.start(ctx)
	t.Run("matrix", func(t *testing.T) { newMatrix(t, s).run(ctx) })
	t.Run("rolling restart", func(t *testing.T) { s.on(t).rollingRestart(ctx) })
}

// on returns the same cluster for a part of the test.
func (s *services) on(t *testing.T) *services {
	next := *s
	next.t = t
	return &next
}

// start starts the routers, and makes the objects that every part uses.
func (s *services) start(ctx context.Context) {
	s.t.Helper()
	var err error
	s.api, err = s.c.Clientset()
	labtest.Must(s.t, err)
	var accept []netip.Prefix
	for _, form := range forms {
		accept = append(append(accept, ranges[form]...), innerRanges[form]...)
	}
	tors := s.c.Lab.ToRs()
	for i, asn := range []uint32{tors[0].ASN, lab.NodeASN} {
		r, err := s.c.StartRouter(ctx, tors[i], asn, accept...)
		labtest.Must(s.t, err)
		s.routers = append(s.routers, r)
	}
	// Flows, and not pairs of addresses, are spread: all are of one client.
	for _, ns := range []*lab.NS{tors[0].NS, tors[1].NS, s.c.Client.NS} {
		for _, family := range []string{"ipv4", "ipv6"} {
			labtest.Must(s.t, ns.Sysctl("net/"+family+"/fib_multipath_hash_policy", "1"))
		}
	}
	for _, p := range append(slices.Clone(ranges["one"]), innerRanges["one"]...) {
		labtest.Must(s.t, s.c.Client.Through(p, tors[0]))
	}
	for _, p := range append(slices.Clone(ranges["two"]), innerRanges["two"]...) {
		labtest.Must(s.t, s.c.Client.Through(p, tors...))
	}
	labtest.Must(s.t, s.c.Apply(ctx, s.objects()))
}

// objects are peers, pools and advertisements. A Service chooses its advertisement
// by the label "advertise".
func (s *services) objects() string {
	var b strings.Builder
	object := func(kind, name, spec string) {
		fmt.Fprintf(&b, "---\napiVersion: onlink.io/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, spec)
	}
	eBGP, iBGP := s.routers[0], s.routers[1]
	object("BGPPeer", eBGP.ToR.Name, fmt.Sprintf("{address: %s, asn: %d}", eBGP.ToR.Addr, eBGP.ASN))
	object("BGPPeer", iBGP.ToR.Name, fmt.Sprintf("{address: %s, includeExcludedNodes: true}", iBGP.ToR.Addr))
	peers := map[string]string{"one": eBGP.ToR.Name, "two": eBGP.ToR.Name + ", " + iBGP.ToR.Name}
	for _, form := range forms {
		for _, p := range ranges[form] {
			family := map[bool]string{true: "v4", false: "v6"}[p.Addr().Is4()]
			object("IPPool", form+"-"+family, fmt.Sprintf("{cidr: %q, uses: [LoadBalancer], manual: true}", p))
		}
		advertise := func(name, more string) {
			object("ServiceAdvertisement", name, fmt.Sprintf("{serviceSelector: {matchLabels: {advertise: %s}}, peers: [%s], %s}", name, peers[form], more))
		}
		advertise(form, "addresses: [LoadBalancer, External]")
		advertise(form+"-inner", "addresses: [Cluster]")
		advertise(form+"-bare", "withoutEndpoints: true")
		advertise(form+"-group", "aggregate: {ipv4: 29, ipv6: 125}")
	}
	return b.String()
}
