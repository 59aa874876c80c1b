package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// Attachment is a network namespace on a node that the installed plugin attaches, as the
// container runtime attaches a pod.
type Attachment struct {
	Addr netip.Addr    // its first address
	Took time.Duration // the call of ADD, from the start of the plugin to its end

	node *Node
	id   string
	list pluginList
}

// pluginList is the conflist that the agent installed.
type pluginList struct {
	Version string           `json:"cniVersion"`
	Name    string           `json:"name"`
	Plugins []map[string]any `json:"plugins"`
}

// Attach makes a network namespace of a name and calls ADD.
func (n *Node) Attach(ctx context.Context, id string) (*Attachment, error) {
	text, err := n.Exec(ctx, "sh", "-c", "cat /etc/cni/net.d/*.conflist && ip netns add "+id)
	if err != nil {
		return nil, err
	}
	a := &Attachment{node: n, id: id}
	if err := json.Unmarshal([]byte(text), &a.list); err != nil || len(a.list.Plugins) != 1 {
		return nil, errors.Join(fmt.Errorf("attach %s: the conflist of %s has %d plugins, want onlink-cni alone", id, n.Name, len(a.list.Plugins)), err)
	}
	out, took, err := a.call(ctx, "ADD")
	if err != nil {
		return nil, err
	}
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal(out, &result); err != nil || len(result.IPs) == 0 {
		return nil, fmt.Errorf("attach %s: %s has no address: %w", id, out, err)
	}
	a.Addr, a.Took = result.IPs[0].Address.Addr(), took
	return a, nil
}

// Detach calls DEL and removes the network namespace.
func (a *Attachment) Detach(ctx context.Context) error {
	_, _, err := a.call(ctx, "DEL")
	_, gone := a.node.Exec(ctx, "ip", "netns", "del", a.id)
	return errors.Join(err, gone)
}

// call runs the plugin once.
func (a *Attachment) call(ctx context.Context, command string) (out []byte, took time.Duration, err error) {
	config := map[string]any{"cniVersion": a.list.Version, "name": a.list.Name}
	maps.Copy(config, a.list.Plugins[0])
	stdin, err := json.Marshal(config)
	if err != nil {
		return nil, 0, err
	}
	const folder = "/opt/cni/bin"
	env := append(a.node.env(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+a.id, "CNI_NETNS=/run/netns/"+a.id, "CNI_IFNAME=eth0", "CNI_PATH="+folder,
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME="+a.id)
	plugin := filepath.Join(folder, fmt.Sprint(a.list.Plugins[0]["type"]))
	machine := a.node.running()
	done := make(chan error, 1)
	var stdout, stderr bytes.Buffer
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends
		if machine == nil {
			done <- errOff
			return
		}
		if err := machine.enter("net", "uts", "mnt", "pid"); err != nil {
			done <- err
			return
		}
		cmd := exec.CommandContext(ctx, plugin)
		cmd.Env, cmd.Dir = env, "/"
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
		began := time.Now()
		err := cmd.Run()
		took = time.Since(began)
		done <- err
	}()
	if err := <-done; err != nil {
		return nil, 0, fmt.Errorf("%s of %s on %s: %w: %s%s", command, a.id, a.node.Name, errors.Join(err, ctx.Err()), stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), took, nil
}
