package labtest

import (
	"context"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"onlink/integration/lab"
)

// ReferencePlugins is Debian's folder of the reference plugins.
const ReferencePlugins = "/usr/lib/cni"

// Network calls the plugins of a configuration list on a node, as a container
// runtime does.
type Network struct {
	Node *lab.Node
	cni  *libcni.CNIConfig
	List *libcni.NetworkConfigList
}

// NewNetwork returns a list of these plugins, found among the programs under test
// and the reference plugins.
func NewNetwork(t *testing.T, n *lab.Node, version string, plugins ...map[string]any) *Network {
	t.Helper()
	text, err := json.Marshal(map[string]any{"cniVersion": version, "name": "onlink", "plugins": plugins})
	Must(t, err)
	list, err := libcni.ConfListFromBytes(text)
	Must(t, err)
	return NetworkOf(t, n, list, Bin(), ReferencePlugins)
}

// NetworkOf returns a network that finds the plugins of a list in these folders.
func NetworkOf(t *testing.T, n *lab.Node, list *libcni.NetworkConfigList, folders ...string) *Network {
	t.Helper()
	return &Network{n, libcni.NewCNIConfigWithCacheDir(folders, t.TempDir(), nil), list}
}

// AlsoIn adds a folder of plugins.
func (w *Network) AlsoIn(dir string) { w.cni.Path = append(w.cni.Path, dir) }

// Runtime returns the arguments of a call for a pod's eth0.
func (w *Network) Runtime(p *lab.Pod, capabilities map[string]any) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: p.ContainerID, NetNS: p.NS.Path(), IfName: "eth0", CapabilityArgs: capabilities}
}

// Add attaches a pod and returns its addresses.
func (w *Network) Add(ctx context.Context, rt *libcni.RuntimeConf) (addrs []netip.Addr, err error) {
	result, err := w.Result(ctx, rt)
	if err != nil {
		return nil, err
	}
	for _, ip := range result.IPs {
		a, _ := netip.AddrFromSlice(ip.Address.IP)
		addrs = append(addrs, a.Unmap())
	}
	return addrs, nil
}

// Result attaches a pod and returns the last plugin's result.
func (w *Network) Result(ctx context.Context, rt *libcni.RuntimeConf) (result *types100.Result, err error) {
	err = w.Node.NS.Do(func() error {
		got, err := w.cni.AddNetworkList(ctx, w.List, rt)
		if err != nil {
			return err
		}
		result, err = types100.NewResultFromResult(got)
		return err
	})
	return result, err
}

// Check calls CHECK.
func (w *Network) Check(ctx context.Context, rt *libcni.RuntimeConf) error {
	return w.Node.NS.Do(func() error { return w.cni.CheckNetworkList(ctx, w.List, rt) })
}

// Del calls DEL.
func (w *Network) Del(ctx context.Context, rt *libcni.RuntimeConf) error {
	return w.Node.NS.Do(func() error { return w.cni.DelNetworkList(ctx, w.List, rt) })
}

// Status calls STATUS.
func (w *Network) Status(ctx context.Context) error {
	return w.Node.NS.Do(func() error { return w.cni.GetStatusNetworkList(ctx, w.List) })
}
