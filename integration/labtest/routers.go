package labtest

import (
	"context"
	"strings"
	"testing"

	"onlink/integration/interop"
	"onlink/integration/lab"
)

// SetupOf returns a router's half of its session to a node, over IPv4; it
// announces nothing.
func SetupOf(tor *lab.ToR, n *lab.Node) interop.Setup {
	return interop.Setup{ASN: tor.ASN, RemoteASN: lab.NodeASN, RouterID: tor.Addr, Local: tor.Addr, Remote: n.Addr, IPv4: true, HopIPv4: tor.Addr}
}

// StartRouter starts an implementation of BGP in the place of a router of the
// lab, which must not run. It is killed at the test's end.
func StartRouter(ctx context.Context, t *testing.T, l *lab.Lab, kind interop.Kind, tor *lab.ToR, s interop.Setup) *interop.Router {
	t.Helper()
	r := interop.New(kind, tor.NS, l.Dir, strings.ToLower(string(kind))+"-"+tor.Name)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", r.Name, r.Logs(20))
		}
		if err := r.Kill(); err != nil {
			t.Error(err)
		}
	})
	Must(t, r.Start(ctx, s))
	return r
}
