package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/labtest"
)

// TestReloadSysctls changes which extra sysctls pods may have in a running
// agent: the pods added afterwards get them, and a list that is wrong changes
// nothing and is named.
func TestReloadSysctls(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("sysctls"))
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	labtest.StartNode(ctx, t, n)
	w := labtest.NewNetwork(t, n, "1.0.0", map[string]any{
		"type": "onlink-cni", "socket": n.CNISocket(), "sysctls": map[string]string{"net.core.somaxconn": "500"},
	})
	const refused = "net.core.somaxconn is not in the agent's cni.sysctls"
	if err := tryPod(ctx, t, w, "before"); err == nil || !strings.Contains(err.Error(), refused) {
		t.Errorf("a sysctl that Kubernetes does not call safe, without a list of the agent's: %v", err)
	}

	with := func(list ...string) *conf.Config {
		c := n.Config()
		c.CNI.Sysctls = list
		return c
	}
	labtest.Reload(ctx, t, n, with("net.core.*"))
	must(t, tryPod(ctx, t, w, "allowed"))

	for _, wrong := range []string{`["net.ipv4.tcp_rmem", "kernel.msgmax"]`, "net.core.somaxconn", `["net.[core"]`} {
		c := n.Config()
		c.CNI = conf.CNI{}
		labtest.RefuseReload(ctx, t, n, c, fmt.Sprintf("cni: {socket: %s, sysctls: %s}\n", n.CNISocket(), wrong))
		text, err := os.ReadFile(n.LogFile())
		must(t, err)
		refusal := string(text[bytes.LastIndex(text, []byte("configuration rejected")):])
		if refusal, _, _ = strings.Cut(refusal, "\n"); !strings.Contains(refusal, "cni.sysctls") {
			t.Errorf("%v is refused without naming cni.sysctls: %s", wrong, refusal)
		}
		must(t, tryPod(ctx, t, w, "still"))
	}

	labtest.Reload(ctx, t, n, with("net.ipv4.tcp_rmem"))
	if err := tryPod(ctx, t, w, "after"); err == nil || !strings.Contains(err.Error(), refused) {
		t.Errorf("a sysctl that was taken from the list: %v", err)
	}
}

// tryPod adds a pod, looks for its sysctl, and removes it again.
func tryPod(ctx context.Context, t *testing.T, w *labtest.Network, name string) error {
	t.Helper()
	p, err := w.Node.NewPod(name)
	must(t, err)
	defer func() { must(t, p.Delete(ctx)) }()
	rt := w.Runtime(p, nil)
	if _, err := w.Add(ctx, rt); err != nil {
		return err
	}
	must(t, p.NS.Do(func() error {
		have, err := os.ReadFile("/proc/sys/net/core/somaxconn")
		if got := strings.TrimSpace(string(have)); err == nil && got != "500" {
			t.Errorf("somaxconn of pod %s is %s, want 500", name, got)
		}
		return err
	}))
	return w.Del(ctx, rt)
}
