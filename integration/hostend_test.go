package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"onlink/cni"
	"onlink/integration/lab"
)

// TestHostEndDown sets a pod's host end down by hand, while the agent runs and
// while it does not: the pod is reached again within seconds, and status says
// what happened.
func TestHostEndDown(t *testing.T) {
	ctx, l := build(t, alone("hostend"))
	n, tor := l.Node("r1n1"), l.Racks[0].ToRs[0]
	must(t, l.StartToRs(ctx))
	up(ctx, t, n)
	p, err := n.AddPod(ctx, "web")
	must(t, err)
	device := cni.HostDevice(p.ContainerID, "eth0")
	reached := func() error {
		_, err := tor.NS.Ping(ctx, p.Addr(), 1, time.Second)
		return err
	}
	told := func() error {
		status, err := n.Status(ctx)
		if err != nil {
			return err
		}
		want := "its host end " + device + " was set down by somebody"
		if text := strings.Join(status.GetProblems(), "\n"); !strings.Contains(text, want) {
			return fmt.Errorf("status does not say %q: %s", want, text)
		}
		return nil
	}
	must(t, lab.Eventually(ctx, back, "the pod is reached", reached))

	must(t, n.NS.SetLink(device, false))
	must(t, lab.Eventually(ctx, back, "status tells of it", told))
	must(t, lab.Eventually(ctx, back, "the pod is reached again", reached))
	must(t, p.Check(ctx))

	must(t, n.Stop())
	must(t, n.NS.SetLink(device, false))
	must(t, n.Start(ctx))
	must(t, lab.Eventually(ctx, patience, "status tells of it after a restart", told))
	must(t, lab.Eventually(ctx, back, "the pod is reached again after a restart", reached))
	must(t, p.Check(ctx))
	must(t, p.Delete(ctx))
	must(t, n.WaitClean(ctx))
}
