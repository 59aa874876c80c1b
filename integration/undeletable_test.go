package integration

import (
	"testing"
	"time"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestAnnotationKeepsNoPod adds pods whose annotations are nonsense, as anybody
// can write who may make a pod: ADD refuses them, and the DEL with the same
// configuration, which runtimes repeat until it succeeds, does not.
func TestAnnotationKeepsNoPod(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("undeletable"))
	n := l.Node("r1n1")
	must(t, l.StartToRs(ctx))
	labtest.StartNode(ctx, t, n)
	w := labtest.NewNetwork(t, n, "1.0.0", map[string]any{
		"type": "onlink-cni", "socket": n.CNISocket(), "capabilities": map[string]bool{"io.kubernetes.cri.pod-annotations": true},
	})
	for _, annotation := range [][2]string{
		{"onlink.io/ips", "10.244.300.1"},
		{"onlink.io/ips", "10.244.0.5/99"},
		{"onlink.io/ips", "192.0.2.9"},
		{"onlink.io/sysctls", "net.ipv4.tcp_rmem 4096"},
		{"onlink.io/sysctls", "kernel.shmmax=1"},
		{"onlink.io/pools", "none,of,these"},
	} {
		name, value := annotation[0], annotation[1]
		p, err := n.NewPod("annotated")
		must(t, err)
		rt := w.Runtime(p, map[string]any{"io.kubernetes.cri.pod-annotations": map[string]string{name: value}})
		if _, err := w.Add(ctx, rt); err == nil {
			t.Errorf("%s: %s: ADD took it", name, value)
		}
		for range 2 {
			if err := w.Del(ctx, rt); err != nil {
				t.Errorf("%s: %s: DEL: %v", name, value, err)
			}
		}
		must(t, p.Delete(ctx))
	}
	must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error { return labtest.Leftovers(ctx, n) }))
}
