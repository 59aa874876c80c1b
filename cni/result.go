package cni

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"onlink/cni/pod"
)

// result returns the text that ADD prints: the result of the plugins before us in
// the list, then our two interfaces and addresses, in the version of the call.
func (r *request) result(w *pod.Wiring) ([]byte, error) {
	if !r.hasPrevious() && r.conf.DNS.IsEmpty() {
		return r.ownResult(w), nil
	}
	return r.chainResult(w)
}

// chainResult returns a result that holds more than our own.
func (r *request) chainResult(w *pod.Wiring) ([]byte, error) {
	out, err := r.previous()
	if err != nil {
		return nil, err
	}
	first := len(out.Interfaces)
	out.Interfaces = append(out.Interfaces,
		&types100.Interface{Name: w.HostDevice(), Mac: pod.HostMAC().String(), Mtu: r.since110(w.MTU)},
		&types100.Interface{Name: r.IfName, Mac: w.MAC.String(), Mtu: r.since110(w.MTU), Sandbox: r.Netns},
	)
	for _, a := range w.Addresses {
		out.IPs = append(out.IPs, &types100.IPConfig{
			Interface: new(first + 1),
			Address:   hostNet(a),
			Gateway:   pod.GatewayOf(a).AsSlice(),
		})
	}
	for _, g := range w.Gateways() {
		out.Routes = append(out.Routes, &types.Route{
			Dst: net.IPNet{IP: make(net.IP, g.BitLen()/8), Mask: net.CIDRMask(0, g.BitLen())},
			GW:  g.AsSlice(),
		})
	}
	if !r.conf.DNS.IsEmpty() {
		out.DNS = r.conf.DNS
	}
	return encodeResult(out, r.version())
}

// hasPrevious reports whether there are plugins before us.
func (r *request) hasPrevious() bool {
	return len(r.conf.PrevResult) > 0 && string(r.conf.PrevResult) != "null"
}

// previous returns the result of the plugins before us, empty when we are the
// first.
func (r *request) previous() (*types100.Result, error) {
	if !r.hasPrevious() {
		return &types100.Result{CNIVersion: types100.ImplementedSpecVersion}, nil
	}
	// Results of old versions need not carry their version.
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(r.conf.PrevResult, &fields); err != nil {
		return nil, fmt.Errorf("%w: prevResult: %w", ErrConfig, err)
	}
	delete(fields, "CNIVersion")
	fields["cniVersion"], _ = json.Marshal(r.version())
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("%w: prevResult: %w", ErrConfig, err)
	}
	prev, err := create.Create(r.version(), text)
	if err != nil {
		return nil, fmt.Errorf("%w: prevResult: %w", ErrConfig, err)
	}
	out, err := types100.NewResultFromResult(prev)
	if err != nil {
		return nil, fmt.Errorf("%w: prevResult: %w", ErrConfig, err)
	}
	return out, nil
}

// since110 returns v in an answer of version 1.1.0 or later: the library would
// put newer fields into a 1.0.0 result.
func (r *request) since110(v int) int {
	if !r.speaks("1.1.0") {
		return 0
	}
	return v
}

// speaks reports whether the answer is in a version or a later one.
func (r *request) speaks(version string) bool {
	return slices.Index(versions, r.version()) >= slices.Index(versions, version)
}

func encodeResult(r *types100.Result, version string) ([]byte, error) {
	out, err := r.GetAsVersion(version)
	if err != nil {
		return nil, fmt.Errorf("convert result to %s: %w", version, err)
	}
	text, err := json.MarshalIndent(out, "", "    ")
	if err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	return append(text, '\n'), nil
}

// missingFromPrevious returns the addresses of the lease that prevResult, as
// CHECK gets it, does not show on our interface.
func (r *request) missingFromPrevious(addresses []netip.Addr) ([]netip.Addr, error) {
	prev, err := r.previous()
	if err != nil {
		return nil, err
	}
	var missing []netip.Addr
	for _, a := range addresses {
		want := hostNet(a)
		if !slices.ContainsFunc(prev.IPs, func(c *types100.IPConfig) bool { return c.Address.String() == want.String() }) {
			missing = append(missing, a)
		}
	}
	return missing, nil
}

func hostNet(a netip.Addr) net.IPNet {
	return net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
