package integration

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// TestPeerThatHangsUp connects from an address that the ToR has no session
// for: BIRD takes the connection and closes it before OPEN. Peers, status and
// the log say so, the log once.
func TestPeerThatHangsUp(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("hangup"))
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	other := n.Addr.As4()
	other[3] += 100
	local := fmt.Sprintf("%d.%d.%d.%d", other[0], other[1], other[2], other[3])
	must(t, n.NS.AddAddr("eth0", netip.MustParsePrefix(local+"/24")))
	n.Edit = func(c *conf.Config) {
		for _, p := range c.BGP.Peers {
			p.LocalAddress = local
		}
	}
	must(t, n.Start(ctx))
	const want = "connection closed by the peer before OPEN: is this node configured there, with this address?"
	admin, err := n.Admin()
	must(t, err)
	attempts := map[time.Duration]bool{}
	must(t, lab.Eventually(ctx, 30*time.Second, "three attempts with their reason", func() error {
		r, err := admin.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
		if err != nil {
			return err
		}
		p := r.GetPeers()[0]
		if p.GetLastError() != want || p.GetLastErrorAge() == nil {
			return fmt.Errorf("last error %q of %v", p.GetLastError(), p.GetLastErrorAge())
		}
		attempts[(p.GetSince().AsDuration() - p.GetLastErrorAge().AsDuration()).Round(time.Second)] = true
		if len(attempts) < 3 {
			return fmt.Errorf("%d attempts seen", len(attempts))
		}
		return nil
	}))
	st, err := n.Status(ctx)
	must(t, err)
	if !slices.ContainsFunc(st.GetProblems(), func(p string) bool { return strings.HasSuffix(p, want) && strings.Contains(p, l.Racks[0].ToRs[0].Name) }) {
		t.Errorf("problems %q, want one that names the ToR and says: %s", st.GetProblems(), want)
	}
	log, err := os.ReadFile(n.LogFile())
	must(t, err)
	if got := strings.Count(string(log), want); got != 1 {
		t.Errorf("logged %d times after %d attempts, want once", got, len(attempts))
	}
}
