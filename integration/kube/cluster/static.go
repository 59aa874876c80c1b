package cluster

import (
	"context"
	"fmt"
	"os"
)

// StaticPods is the folder of the static pods of a node.
const StaticPods = "/etc/kubernetes/manifests"

// AddStaticPod makes a static pod of a node: kubelet runs it without an API server.
func (n *Node) AddStaticPod(ctx context.Context, name, manifest string) error {
	file := n.file("static-" + name + ".yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o644); err != nil {
		return fmt.Errorf("write static pod: %w", err)
	}
	// Kubelet reads no file whose name begins with a dot: it sees the whole one.
	_, err := n.Exec(ctx, "sh", "-c", fmt.Sprintf("mkdir -p %[1]s && cp %[2]s %[1]s/.%[3]s && mv %[1]s/.%[3]s %[1]s/%[3]s.yaml", StaticPods, file, name))
	return err
}

// RemoveStaticPod ends a static pod.
func (n *Node) RemoveStaticPod(ctx context.Context, name string) error {
	_, err := n.Exec(ctx, "rm", StaticPods+"/"+name+".yaml")
	return err
}

// StaticHello is the manifest of a static hello pod; more are more fields of its spec.
func StaticHello(name, more string) string {
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default, labels: {static: hello}}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: hello, image: "%s", imagePullPolicy: Never}]%s}
`, name, HelloImage, more)
}

// RuntimeSocket is the path of the node's container runtime, for this process.
func (n *Node) RuntimeSocket() string {
	return fmt.Sprintf("/proc/%d/root/run/containerd/containerd.sock", n.PID())
}

// Restart starts a daemon again when it has ended, as an init process does.
func (n *Node) Restart(ctx context.Context, name string) error {
	if d := n.Running(name); d != nil && !d.Exited() {
		return nil
	}
	return n.StartDaemon(ctx, name)
}
