package lab

import (
	"fmt"
	"net/netip"
	"os"

	"go.yaml.in/yaml/v3"
)

// registryPort is where the first reflector serves the block registry.
const registryPort = 4790

// Config is the content of an onlinkd.yaml; tests change what they need.
type Config map[string]any

// Config returns the node's configuration as the lab starts it: its reflectors
// and ToRs as peers, the lab's pool, the registry of the first reflector, and
// every path in the node's own directory.
func (n *Node) Config() Config {
	return Config{
		"node":  map[string]any{"name": n.Name, "address": n.Addr.String(), "labels": map[string]any{"rack": fmt.Sprintf("r%d", n.Rack)}},
		"bgp":   n.bgpConfig(),
		"pools": n.lab.poolConfig(),
		"ipam":  map[string]any{"registry": n.registryConfig(), "cooldown": "60s"},
		"api": map[string]any{
			"admin":   map[string]any{"socket": n.AdminSocket()},
			"metrics": "127.0.0.1:9179",
		},
		"cni":   map[string]any{"socket": n.CNISocket()},
		"paths": map[string]any{"state": n.StateDir(), "run": n.path("run")},
	}
}

func (n *Node) bgpConfig() map[string]any {
	c := map[string]any{"asn": NodeASN}
	var peers []any
	for _, rr := range n.lab.Reflectors() {
		if rr != n {
			peers = append(peers, map[string]any{"name": rr.Name, "address": rr.Addr.String(), "asn": NodeASN, "connectRetry": "2s"})
		}
	}
	if n.Reflector {
		var clients []any
		for _, r := range n.lab.Racks {
			clients = append(clients, rackNet(r.Number).Masked().String())
		}
		c["reflector"] = map[string]any{"clients": clients}
	} else {
		for _, t := range n.lab.rack(n.Rack).ToRs {
			peers = append(peers, n.torConfig(t))
		}
		if len(n.lab.Reflectors()) == 0 {
			peers = append(peers, n.meshConfig()...)
		}
	}
	if peers != nil {
		c["peers"] = peers
	}
	return c
}

// torConfig is the eBGP session to a ToR: own blocks out, service prefixes in.
func (n *Node) torConfig(t *ToR) map[string]any {
	peer := map[string]any{"name": t.Name, "address": t.Addr.String(), "asn": t.ASN, "connectRetry": "2s"}
	if p := n.lab.Spec.Service; p.IsValid() {
		peer["import"] = map[string]any{"accept": []any{p.String()}}
	}
	return peer
}

// meshConfig is a session to every other node, for labs without reflector.
func (n *Node) meshConfig() []any {
	var peers []any
	for _, other := range n.lab.Nodes() {
		if other != n {
			peers = append(peers, map[string]any{"name": other.Name, "address": other.Addr.String(), "asn": NodeASN, "connectRetry": "2s"})
		}
	}
	return peers
}

// registryConfig: the first reflector, or the first node where there is none,
// serves the block registry to all.
func (n *Node) registryConfig() map[string]any {
	server := n.lab.Nodes()[0]
	if rr := n.lab.Reflectors(); len(rr) > 0 {
		server = rr[0]
	}
	endpoint := netip.AddrPortFrom(server.Addr, registryPort).String()
	if n == server {
		return map[string]any{"kind": "bolt", "listen": endpoint, "insecure": true}
	}
	return map[string]any{"kind": "grpc", "address": endpoint, "insecure": true}
}

func (l *Lab) poolConfig() []any {
	p := l.Spec.Pool
	pools := []any{map[string]any{
		"name": "default", "cidr": p.CIDR.String(), "encapsulation": p.Encap, "tunnel": p.Tunnel, "natOutgoing": p.NAT,
	}}
	if p.CIDR6.IsValid() {
		pools = append(pools, map[string]any{
			"name": "default6", "cidr": p.CIDR6.String(), "encapsulation": p.Encap, "tunnel": p.Tunnel, "natOutgoing": false,
		})
	}
	return pools
}

// WriteConfig writes a changed configuration to a file of the node's directory
// and returns its path.
func (n *Node) WriteConfig(name string, c Config) (string, error) {
	path := n.path(name)
	return path, n.writeConfig(path, c)
}

func (n *Node) writeConfig(path string, c Config) error {
	text, err := yaml.Marshal(map[string]any(c))
	if err != nil {
		return fmt.Errorf("write configuration of %s: %w", n.Name, err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("write configuration of %s: %w", n.Name, err)
	}
	return nil
}
