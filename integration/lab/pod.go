package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// Pod is a network namespace that was attached through CNI.
type Pod struct {
	NS          *NS
	Name        string
	Node        *Node
	Addrs       []netip.Addr // IPv4 first
	ContainerID string       // 64 hex digits, as containerd makes them
}

// Addr returns the pod's first address.
func (p *Pod) Addr() netip.Addr { return p.Addrs[0] }

// AddPod makes a namespace and attaches it with CNI ADD, as a container
// runtime on the node would.
func (n *Node) AddPod(ctx context.Context, name string) (*Pod, error) {
	ns, err := n.lab.namespace(n.Name + "." + name)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256([]byte(ns.Name))
	p := &Pod{NS: ns, Name: name, Node: n, ContainerID: hex.EncodeToString(id[:])}
	if err := p.Attach(ctx); err != nil {
		return nil, errors.Join(err, n.lab.dropNamespace(ns))
	}
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	n.lab.pods = append(n.lab.pods, p)
	return p, nil
}

// Attach is CNI ADD of the pod's namespace; a second one must change nothing.
func (p *Pod) Attach(ctx context.Context) error {
	var addrs []netip.Addr
	err := p.cni(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		res, err := c.AddNetworkList(ctx, list, rt)
		if err != nil {
			return err
		}
		result, err := types100.NewResultFromResult(res)
		if err != nil {
			return err
		}
		for _, ip := range result.IPs {
			a, ok := netip.AddrFromSlice(ip.Address.IP)
			if !ok {
				return fmt.Errorf("result has no address: %v", ip)
			}
			addrs = append(addrs, a.Unmap())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cni ADD of %s on %s: %w\n%s", p.Name, p.Node.Name, err, p.Node.Logs(10))
	}
	if len(addrs) == 0 {
		return fmt.Errorf("cni ADD of %s on %s: result has no address", p.Name, p.Node.Name)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	p.Addrs = addrs
	return nil
}

// Check is CNI CHECK.
func (p *Pod) Check(ctx context.Context) error {
	err := p.cni(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		return c.CheckNetworkList(ctx, list, rt)
	})
	if err != nil {
		return fmt.Errorf("cni CHECK of %s on %s: %w", p.Name, p.Node.Name, err)
	}
	return nil
}

// Detach is CNI DEL; the namespace stays.
func (p *Pod) Detach(ctx context.Context) error {
	err := p.cni(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		return c.DelNetworkList(ctx, list, rt)
	})
	if err != nil {
		return fmt.Errorf("cni DEL of %s on %s: %w\n%s", p.Name, p.Node.Name, err, p.Node.Logs(10))
	}
	return nil
}

// Delete is CNI DEL, then the end of the namespace.
func (p *Pod) Delete(ctx context.Context) error {
	if err := p.Detach(ctx); err != nil {
		return err
	}
	l := p.Node.lab
	l.mu.Lock()
	l.pods = slices.DeleteFunc(l.pods, func(o *Pod) bool { return o == p })
	l.mu.Unlock()
	return l.dropNamespace(p.NS)
}

// Pods returns the attached pods in the order of their making.
func (l *Lab) Pods() []*Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.pods)
}

// dropNamespace removes one namespace before the lab's end.
func (l *Lab) dropNamespace(ns *NS) error {
	l.mu.Lock()
	l.namespaces = slices.DeleteFunc(l.namespaces, func(o *NS) bool { return o == ns })
	l.mu.Unlock()
	return ns.close()
}

// cni runs f with libcni set up for the pod, on a thread inside the node's
// namespace: the plugin is its child and inherits the namespace, as it would
// from a runtime of that node.
func (p *Pod) cni(f func(*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf) error) error {
	list, err := p.Node.conflist()
	if err != nil {
		return err
	}
	c := libcni.NewCNIConfigWithCacheDir([]string{p.Node.lab.Bin}, p.Node.path("cni-cache"), nil)
	rt := &libcni.RuntimeConf{
		ContainerID: p.ContainerID, NetNS: p.NS.Path(), IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", "lab"},
			{"K8S_POD_NAME", p.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.ContainerID},
		},
	}
	return p.Node.NS.Do(func() error { return f(c, list, rt) })
}

// conflist is the network configuration a runtime on the node would read. Its
// version is 1.0.0 because containerd 1.6 refuses results of 1.1.0.
func (n *Node) conflist() (*libcni.NetworkConfigList, error) {
	text, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": "onlink",
		"plugins": []any{map[string]any{"type": "onlink-cni", "socket": n.CNISocket()}},
	})
	if err != nil {
		return nil, fmt.Errorf("write conflist: %w", err)
	}
	list, err := libcni.ConfListFromBytes(text)
	if err != nil {
		return nil, fmt.Errorf("read conflist: %w", err)
	}
	return list, nil
}

// CNIPlugin returns the path of the plugin under test.
func (l *Lab) CNIPlugin() string { return filepath.Join(l.Bin, "onlink-cni") }
