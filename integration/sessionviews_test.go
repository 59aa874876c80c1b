package integration

import (
	"fmt"
	"strings"
	"testing"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestSessionViews: an operator looks into a session of a reflector: its capabilities and
// its routes, why one is not announced, all paths to a prefix, a refresh. A client that
// leaves stays in the list with its routes until it is forgotten.
func TestSessionViews(t *testing.T) {
	ctx, l := labtest.Start(t, labtest.InRack("sessions"))
	rr, n := l.Reflectors()[0], l.Node("r1n1")
	client, block := n.Addr.String(), labtest.BlockOf(ctx, t, n).String()
	shows := func(want []string, args ...string) {
		t.Helper()
		must(t, lab.Eventually(ctx, labtest.Patience, strings.Join(args, " "), func() error {
			out, err := rr.Ctl(ctx, args...)
			if err != nil {
				return err
			}
			for _, part := range want {
				if !strings.Contains(out.Stdout, part) {
					return fmt.Errorf("exit code %d, no %q in\n%s%s", out.Code, part, out.Stdout, out.Stderr)
				}
			}
			return nil
		}))
	}
	shows([]string{"Established for", "negotiated hold time", "Group ipv4:", "graceful restart", "ROUTE-REFRESH"}, "peers", client)
	shows([]string{`"prefix":"` + block + `"`, `"state":"accepted"`, `"rule":"pools"`}, "peers", client, "received", "-o", "json")
	shows([]string{"not announced", "the peer announced the best path itself"}, "peers", client, "advertised", block)
	shows([]string{"best", client}, "routes", block)
	shows([]string{"ROUTE-REFRESH for ipv4"}, "peers", client, "refresh", "in")

	alone := n.Config()
	alone.BGP.Peers = nil
	labtest.Reload(ctx, t, n, alone)
	shows([]string{"received NOTIFICATION", "it had ", block}, "peers", client)
	shows([]string{", 1 gone"}, "status")
	shows([]string{"forgotten"}, "peers", client, "forget")
	out, err := rr.Ctl(ctx, "peers", client)
	must(t, err)
	if out.Code == 0 {
		t.Errorf("a forgotten peer is listed:\n%s", out.Stdout)
	}
	labtest.Reload(ctx, t, n, n.Config())
	shows([]string{"Established for"}, "peers", client)
}
