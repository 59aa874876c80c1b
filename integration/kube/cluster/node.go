package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"onlink/integration/kube/machine"
	"onlink/integration/lab"
)

// PID returns the node's first process, as this machine numbers it; 0 when its
// power is off.
func (n *Node) PID() int {
	if m := n.running(); m != nil {
		return m.pid
	}
	return 0
}

// Running returns a daemon that was started last, nil when none was.
func (n *Node) Running(name string) *Daemon {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.daemons[name]
}

// boot starts the machine and its daemons. It returns when they run; the node is
// not Ready then.
func (n *Node) boot(ctx context.Context) error {
	if err := n.power(); err != nil {
		return fmt.Errorf("boot %s: %w", n.Name, err)
	}
	if !n.used {
		if err := n.install(ctx); err != nil {
			return fmt.Errorf("install %s: %w", n.Name, err)
		}
	}
	if err := n.StartDaemon(ctx, Containerd); err != nil {
		return err
	}
	if !n.used {
		if err := n.LoadImages(ctx, n.cluster.images()...); err != nil {
			return err
		}
	}
	n.used = true
	select { // a kubelet that finds no API server comes back after seconds
	case <-n.cluster.serving:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := n.StartDaemon(ctx, Kubelet); err != nil {
		return err
	}
	if n.cluster.Options.Proxy == ProxyNone {
		return nil
	}
	return n.StartDaemon(ctx, KubeProxy)
}

// power starts the machine, with nothing running in it.
func (n *Node) power() error {
	program := n.cluster.program("box")
	var err error
	if n.disk == nil {
		if n.disk, err = startDisk(program, n.file("disk"), n.file("box.log")); err != nil {
			return err
		}
	}
	if err := errors.Join(makeCgroup(n.daemonCgroup()), weigh(allCgroups, weight), weigh(clusterCgroup(n.cluster.Options.Name), weight)); err != nil {
		return err
	}
	m := machine.Machine{Hostname: n.Name, Disk: n.file("disk"), Share: n.cluster.Lab.Dir, Blank: !n.used}
	started, err := startMachine(n.disk, n.NS, program, n.file("box.log"), m)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.machine, n.daemons = started, map[string]*Daemon{}
	return nil
}

// install puts files on the new disk, as packages do.
func (n *Node) install(ctx context.Context) error {
	plugins := []string{"loopback"} // containerd's own need
	if n.cluster.Options.CNI == CNIPTP {
		plugins = append(plugins, "ptp", "host-local")
	}
	for _, p := range plugins {
		if _, err := n.Exec(ctx, "cp", filepath.Join(n.cluster.Options.Bin, p), "/opt/cni/bin/"); err != nil {
			return err
		}
	}
	files := map[string]string{"containerd.toml": containerdConfig, "kubelet.yaml": n.kubeletConfig(), "kube-proxy.yaml": n.proxyConfig()}
	if n.cluster.Options.CNI == CNIPTP {
		files["10-ptp.conflist"] = n.conflist()
	}
	for name, text := range files {
		if err := os.WriteFile(n.file(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if n.cluster.Options.CNI != CNIPTP {
		return nil
	}
	_, err := n.Exec(ctx, "cp", n.file("10-ptp.conflist"), "/etc/cni/net.d/")
	return err
}

// StartDaemon starts one of the node's own daemons, also after it was stopped.
func (n *Node) StartDaemon(ctx context.Context, name string) error {
	argv := map[string][]string{
		Containerd: {Containerd, "--config", n.file("containerd.toml")},
		KubeProxy:  {KubeProxy, "--config", n.file("kube-proxy.yaml")},
		Kubelet: {
			Kubelet, "--config", n.file("kubelet.yaml"), "--kubeconfig", n.cluster.credentials.file(n.Name + ".conf"),
			"--hostname-override", n.Name, "--node-ip", n.cluster.Options.families(n.Addr.String(), n.Addr6.String()),
		},
	}[name]
	if argv == nil {
		return fmt.Errorf("start %s on %s: no such daemon; use %s, %s or %s", name, n.Name, Containerd, Kubelet, KubeProxy)
	}
	if taints := n.cluster.Options.Taints; name == Kubelet && len(taints) > 0 {
		argv = append(argv, "--register-with-taints", strings.Join(taints, ","))
	}
	d, err := n.Daemon(name, argv...)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.daemons[name] = d
	n.mu.Unlock()
	if name != Containerd {
		return nil
	}
	err = lab.Eventually(ctx, startTime, "containerd of "+n.Name, func() error {
		if d.Exited() {
			return fmt.Errorf("it has ended:\n%s", d.Tail(20))
		}
		_, err := n.Exec(ctx, "ctr", "version")
		return err
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, d.Tail(20))
	}
	return nil
}

// LoadImages loads archives of images into the node's containerd; the node need
// not see their folder.
func (n *Node) LoadImages(ctx context.Context, archives ...string) error {
	for _, path := range archives {
		name := path
		if filepath.Dir(path) != n.cluster.Lab.Dir { // which every node sees
			name = n.file(filepath.Base(path)) // its own: nodes load at the same time
			if err := copyFile(path, name); err != nil {
				return fmt.Errorf("load image: %w", err)
			}
		}
		if _, err := n.Exec(ctx, "ctr", "--namespace", "k8s.io", "images", "import", name); err != nil {
			return err
		}
	}
	return nil
}

// Cut cuts the node's power: its processes, devices, routes and rules are gone at
// once, what it wrote to its disk is kept.
func (n *Node) Cut() error {
	m := n.running()
	if m == nil {
		return fmt.Errorf("cut power of %s: %w", n.Name, errOff)
	}
	if err := errors.Join(m.kill(), n.Unplug()); err != nil {
		return fmt.Errorf("cut power of %s: %w", n.Name, err)
	}
	n.mu.Lock()
	n.machine = nil
	n.mu.Unlock()
	// Kubelet takes three seconds over each that it finds at its start.
	return removeCgroups(n.cgroup())
}

// Boot starts a node that has no power, with the disk that it had and another boot
// ID.
func (n *Node) Boot(ctx context.Context) error {
	if n.running() != nil {
		return fmt.Errorf("boot %s: it is running", n.Name)
	}
	if err := n.Plug(); err != nil {
		return err
	}
	return errors.Join(n.addRoutes(), n.boot(ctx))
}

// end ends the machine and its disk.
func (n *Node) end() error {
	var err error
	if m := n.running(); m != nil {
		err = m.kill()
	}
	if n.disk != nil {
		err = errors.Join(err, n.disk.kill())
	}
	return err
}

// Addresses returns the node's addresses, IPv4 first.
func (n *Node) Addresses() []netip.Addr {
	if n.Addr6.IsValid() {
		return []netip.Addr{n.Addr, n.Addr6}
	}
	return []netip.Addr{n.Addr}
}
