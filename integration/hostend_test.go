package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"onlink/cni/pod"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestHostEndDown sets a pod's host end down by hand, while the agent runs and
// while it does not: the pod is reached again within seconds, and status says
// what happened.
func TestHostEndDown(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("hostend"))
	n, tor := l.Node("r1n1"), l.Racks[0].ToRs[0]
	must(t, l.StartToRs(ctx))
	labtest.StartNode(ctx, t, n)
	p, err := n.AddPod(ctx, "web")
	must(t, err)
	device := pod.HostDevice(p.ContainerID, "eth0")
	reached := func() error {
		_, err := tor.NS.Ping(ctx, p.Addr(), 1, time.Second)
		return err
	}
	told := func() error {
		status, err := n.Status(ctx)
		if err != nil {
			return err
		}
		want := "its host end " + device + " was set down by another program"
		if text := strings.Join(status.GetProblems(), "\n"); !strings.Contains(text, want) {
			return fmt.Errorf("status does not say %q: %s", want, text)
		}
		return nil
	}
	must(t, lab.Eventually(ctx, labtest.Back, "the pod is reached", reached))

	must(t, n.NS.SetLink(device, false))
	must(t, lab.Eventually(ctx, labtest.Back, "status tells of it", told))
	must(t, lab.Eventually(ctx, labtest.Back, "the pod is reached again", reached))
	must(t, p.Check(ctx))

	must(t, n.Stop())
	must(t, n.NS.SetLink(device, false))
	must(t, n.Start(ctx))
	must(t, lab.Eventually(ctx, labtest.Patience, "status tells of it after a restart", told))
	must(t, lab.Eventually(ctx, labtest.Back, "the pod is reached again after a restart", reached))
	must(t, p.Check(ctx))
	must(t, p.Delete(ctx))
	must(t, n.WaitClean(ctx))
}
