package bench

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"

	"onlink/integration/conf"
	"onlink/internal/ours"
)

// asn is everybody's AS: all sessions are iBGP.
const asn = 64512

// receiver is one side of a comparison: something that takes BGP routes into
// the kernel.
type receiver struct {
	name     string
	protocol int // of its routes in the kernel
	start    func(r *run, s *space) (*program, error)
}

var (
	onlinkReceiver = receiver{"onlink", ours.Protocol, func(r *run, s *space) (*program, error) {
		return r.startAgent(s, agentConfig{peers: []*conf.Peer{feederPeer()}})
	}}
	birdReceiver = receiver{"BIRD 2", 12, func(r *run, s *space) (*program, error) {
		return r.startBIRD(s, birdRoutes, nil)
	}}
)

// agentConfig is what differs between the agents of the figures.
type agentConfig struct {
	node      conf.Node // default: near, nearAddr
	peers     []*conf.Peer
	reflector *conf.Reflector
	registry  conf.Registry
	pools     []conf.Pool // besides fedNet
}

// feederPeer is the agent's half of the session to the feeder.
func feederPeer() *conf.Peer {
	return &conf.Peer{Name: "feeder", Address: farAddr.String(), Passive: true, HoldTime: "180s"}
}

// startAgent starts onlinkd with empty state.
func (r *run) startAgent(s *space, c agentConfig) (*program, error) {
	dir, err := os.MkdirTemp(r.dir, "agent-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	// Disabled: routes inside the pool are learned, and no block is claimed
	// where a fed one could be.
	if c.node.Name == "" {
		c.node = conf.Node{Name: "near", Address: nearAddr.String()}
	}
	fed := conf.Pool{Name: "fed", CIDR: fedNet.String(), Encapsulation: "Never", Tunnel: "none", NATOutgoing: new(false), Disabled: true}
	file := conf.Config{
		Node:  c.node,
		BGP:   conf.BGP{ASN: asn, Reflector: c.reflector, Peers: c.peers},
		Pools: append([]conf.Pool{fed}, c.pools...),
		IPAM:  conf.IPAM{Registry: c.registry},
		API:   conf.API{Admin: conf.Admin{Socket: filepath.Join(r.sockets, c.node.Name+"-admin.sock")}, Metrics: "off"},
		CNI:   conf.CNI{Socket: r.cniSocket(c.node.Name)},
		Paths: conf.Paths{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")},
		Log:   conf.Log{Level: "warn"},
	}
	text, err := file.YAML()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "onlinkd.yaml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return launch(s, filepath.Join(r.bin, "onlinkd"), "--config", path)
}

func (r *run) cniSocket(node string) string { return filepath.Join(r.sockets, node+"-cni.sock") }

// birdRoutes is BIRD as Calico configures it: learn, a kernel scan every two
// seconds, merged paths, recursive next hops.
var birdRoutes = template.Must(template.New("bird.conf").Parse(`log stderr { warning, error, fatal };
router id {{.Near}};
protocol device { scan time 2; }
protocol direct { ipv4; }
protocol kernel {
  learn; persist; scan time 2; merge paths on;
  ipv4 { import all; export where source = RTS_BGP; };
}
protocol bgp feeder {
  local {{.Near}} as {{.ASN}}; neighbor {{.Far}} as {{.ASN}}; multihop; passive on; hold time 180;
  ipv4 { import all; export where source = RTS_BGP; gateway recursive; };
}
`))

// startBIRD starts bird with a configuration of ours.
func (r *run) startBIRD(s *space, conf *template.Template, clients []string) (*program, error) {
	return r.startBIRDAt(s, nearAddr, farAddr, conf, clients)
}

// startBIRDAt is startBIRD on another wire than the first.
func (r *run) startBIRDAt(s *space, near, far netip.Addr, conf *template.Template, clients []string) (*program, error) {
	bird, err := lookPath("bird")
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	in := map[string]any{"Near": near, "Far": far, "ASN": asn, "Clients": clients}
	if err := conf.Execute(&text, in); err != nil {
		return nil, fmt.Errorf("write bird.conf: %w", err)
	}
	path := filepath.Join(r.dir, "bird-"+near.String()+".conf")
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		return nil, fmt.Errorf("write bird.conf: %w", err)
	}
	return launch(s, bird, "-f", "-c", path, "-s", filepath.Join(r.sockets, "bird-"+near.String()+".ctl"))
}

// lookPath finds a program in the system's sbin folders, which are missing
// from the PATH of many users.
func lookPath(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"} {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("find program %s: %w; run make deps", name, os.ErrNotExist)
}
