package lab

import (
	"fmt"
	"net/netip"
	"os"

	"onlink/integration/conf"
)

// registryPort is where the first reflector serves the block registry.
const registryPort = 4790

// connectRetry of every session of a lab: a test that ends one does not wait
// longer than that for the next.
const connectRetry = "2s"

// Config returns the node's configuration as the lab starts it: its reflectors
// and ToRs as peers, the lab's pool, the registry of the first reflector, and
// every path in the node's own directory.
func (n *Node) Config() *conf.Config {
	return &conf.Config{
		Node:  conf.Node{Name: n.Name, Address: n.Addr.String(), Labels: map[string]string{"rack": fmt.Sprintf("r%d", n.Rack)}},
		BGP:   n.bgpConfig(),
		Pools: n.lab.poolConfig(),
		IPAM:  conf.IPAM{Registry: n.registryConfig(), Cooldown: "60s"},
		API:   conf.API{Admin: conf.Admin{Socket: n.AdminSocket()}, Metrics: "127.0.0.1:9179"},
		CNI:   conf.CNI{Socket: n.CNISocket()},
		Paths: conf.Paths{State: n.StateDir(), Run: n.path("run")},
	}
}

// Edited returns the configuration that the next [Node.Start] writes.
func (n *Node) Edited() *conf.Config {
	c := n.Config()
	if n.Edit != nil {
		n.Edit(c)
	}
	return c
}

// Peer is another node's entry for its session to this one.
func (n *Node) Peer() *conf.Peer {
	return &conf.Peer{Name: n.Name, Address: n.Addr.String(), ASN: NodeASN, ConnectRetry: connectRetry}
}

// Peer is a node's entry for its session to the router; nothing is accepted.
func (t *ToR) Peer() *conf.Peer {
	return &conf.Peer{Name: t.Name, Address: t.Addr.String(), ASN: t.ASN, ConnectRetry: connectRetry}
}

func (n *Node) bgpConfig() conf.BGP {
	c := conf.BGP{ASN: NodeASN}
	for _, rr := range n.lab.Reflectors() {
		if rr != n {
			c.Peers = append(c.Peers, rr.Peer())
		}
	}
	if n.Reflector {
		c.Reflector = &conf.Reflector{}
		for _, r := range n.lab.Racks {
			c.Reflector.Clients = append(c.Reflector.Clients, rackNet(r.Number).Masked().String())
		}
		return c
	}
	for _, t := range n.lab.rack(n.Rack).ToRs {
		c.Peers = append(c.Peers, n.torConfig(t))
	}
	if len(n.lab.Reflectors()) == 0 {
		c.Peers = append(c.Peers, n.meshConfig()...)
	}
	return c
}

// torConfig is the eBGP session to a ToR: own blocks out, service prefixes in.
func (n *Node) torConfig(t *ToR) *conf.Peer {
	peer := t.Peer()
	if p := n.lab.Spec.Service; p.IsValid() {
		peer.Import.Accept = conf.Rules(p)
	}
	return peer
}

// meshConfig is a session to every other node, for labs without reflector.
func (n *Node) meshConfig() []*conf.Peer {
	var peers []*conf.Peer
	for _, other := range n.lab.Nodes() {
		if other != n {
			peers = append(peers, other.Peer())
		}
	}
	return peers
}

// registryConfig: the first reflector, or the first node where there is none,
// serves the block registry to all.
func (n *Node) registryConfig() conf.Registry {
	server := n.lab.Nodes()[0]
	if rr := n.lab.Reflectors(); len(rr) > 0 {
		server = rr[0]
	}
	endpoint := netip.AddrPortFrom(server.Addr, registryPort).String()
	if n == server {
		return conf.Registry{Kind: "bolt", Listen: endpoint, Insecure: true}
	}
	return conf.Registry{Kind: "grpc", Address: []string{endpoint}, Insecure: true}
}

func (l *Lab) poolConfig() []conf.Pool {
	p := l.Spec.Pool
	pools := []conf.Pool{{Name: "default", CIDR: p.CIDR.String(), Encapsulation: p.Encap, Tunnel: p.Tunnel, NATOutgoing: new(p.NAT)}}
	if p.CIDR6.IsValid() {
		pools = append(pools, conf.Pool{Name: "default6", CIDR: p.CIDR6.String(), Encapsulation: p.Encap, Tunnel: p.Tunnel, NATOutgoing: new(false)})
	}
	return pools
}

// WriteConfig writes a configuration to a file of the node's directory and
// returns its path.
func (n *Node) WriteConfig(name string, c *conf.Config) (string, error) {
	text, err := c.YAML()
	if err != nil {
		return "", err
	}
	return n.WriteText(name, text)
}

// WriteText writes a file to the node's directory and returns its path: a
// configuration that has what [conf.Config] cannot.
func (n *Node) WriteText(name string, text []byte) (string, error) {
	path := n.path(name)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return "", fmt.Errorf("write %s of %s: %w", name, n.Name, err)
	}
	return path, nil
}
