package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"onlink/bgp/hostile"
	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// hostileHarms are what others do to the site.
func hostileHarms() []harm {
	return []harm{
		{name: "second machine of one name", do: func(c *chaos, n *lab.Node) { c.impostor(n, false) }, brief: true},
		{name: "cloned machine", do: func(c *chaos, n *lab.Node) { c.impostor(n, true) }, brief: true},
		{name: "hostile ToR", do: (*chaos).hostileToR},
		{name: "hostile client", do: (*chaos).hostileClient},
	}
}

// impostor runs an agent on a machine outside the racks with the name of a node that
// lives, with a copy of its database or its own: it gives nothing out.
func (c *chaos) impostor(n *lab.Node, cloned bool) {
	c.t.Helper()
	dir := c.t.TempDir()
	f := n.Edited()
	f.Node.Address, f.BGP = c.stranger.Addr.String(), conf.Silent()
	f.API = conf.API{Admin: conf.Admin{Socket: filepath.Join(dir, "admin.sock")}, Metrics: "off"}
	f.CNI.Socket = filepath.Join(dir, "cni.sock")
	f.Paths = conf.Paths{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}
	for _, d := range []string{f.Paths.State, f.Paths.Run} {
		must(c.t, os.Mkdir(d, 0o755))
	}
	if cloned {
		text, err := os.ReadFile(c.copies[n][c.rnd.IntN(len(c.copies[n]))])
		must(c.t, err)
		must(c.t, os.WriteFile(filepath.Join(f.Paths.State, "onlink.db"), text, 0o600))
	}
	text, err := f.YAML()
	must(c.t, err)
	file, log := filepath.Join(dir, "onlinkd.yaml"), filepath.Join(dir, "log")
	must(c.t, os.WriteFile(file, text, 0o600))
	p, err := c.stranger.NS.Start("impostor of "+n.Name, log, filepath.Join(c.lab.Bin, "onlinkd"), "--config", file)
	must(c.t, err)
	conn, err := grpc.NewClient("unix:"+f.CNI.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(c.t, err)
	k := &crash{t: c.t, dir: dir, owners: c.owners, end: func() {}, conn: conn, client: onlinkv1.NewCNIClient(conn)}
	w := &crashWorker{crash: k, id: 99, rnd: c.rnd}
	for i := range 3 {
		pod := &crashPod{id: fmt.Sprintf("%064x", c.rnd.Uint64()), path: filepath.Join(dir, fmt.Sprint("pod", i))}
		must(c.t, labtest.MakeNetns(pod.path))
		if addrs, err := w.request(c.ctx, k.client.Add, pod); err == nil {
			c.t.Errorf("a second machine with the name of %s gave %v to a pod", n.Name, addrs)
			w.claim(pod.id, addrs)
		}
		_, err := w.request(c.ctx, k.client.Del, pod)
		must(c.t, err)
		w.drop(pod)
	}
	k.close()
	must(c.t, p.Kill())
	c.clear(c.stranger.NS)
}

// clear removes what an impostor left in its machine's kernel.
func (c *chaos) clear(ns *lab.NS) {
	c.t.Helper()
	devices, err := ns.Devices("onlink-")
	must(c.t, err)
	for _, d := range devices {
		must(c.t, ns.DeleteLink(d))
	}
}

// hostileToR has a ToR's program replaced by one that plays attacks, and claims what is
// others'. It may lose what goes through the ToR, and nothing that stays in a rack.
func (c *chaos) hostileToR(n *lab.Node) {
	c.t.Helper()
	tor := c.tor(n)
	s := hostile.Set{Self: n.Addr, Hop: tor.Addr, AS: uint16(tor.ASN), External: true} //nolint:gosec // of two octets
	c.losing("hostile "+tor.Name, between(n.Rack), chaosReturn, func() {
		must(c.t, tor.Kill())
		c.attack(tor.NS, s, tor.Addr, n.Addr)
		must(c.t, tor.Start(c.ctx))
	})
}

// hostileClient has a node's agent replaced by a program that plays attacks on a
// reflector, and claims what is others'.
func (c *chaos) hostileClient(n *lab.Node) {
	c.t.Helper()
	rr := c.lab.Reflectors()[c.rnd.IntN(2)]
	s := hostile.Set{Self: rr.Addr, Hop: n.Addr, AS: lab.NodeASN}
	c.losing("hostile "+n.Name, of(n), chaosReturn, func() {
		must(c.t, n.Kill())
		c.attack(n.NS, s, n.Addr, rr.Addr)
		must(c.t, n.Start(c.ctx))
		must(c.t, n.WaitReady(c.ctx))
	})
}

// attack plays attacks on a speaker, each in a session that first claims the blocks of
// others.
func (c *chaos) attack(from *lab.NS, s hostile.Set, local, speaker netip.Addr) {
	c.t.Helper()
	const attacks = 8
	all := s.All()
	for range attacks {
		a := all[c.rnd.IntN(len(all))]
		var p *hostile.Peer
		must(c.t, lab.Eventually(c.ctx, labtest.Patience, "a session from "+local.String(), func() error {
			return from.Do(func() (err error) {
				at := netip.AddrPortFrom(speaker, 179)
				if a.Open {
					p, err = hostile.Connect(c.ctx, local, at, labtest.Patience)
				} else {
					p, err = s.Establish(c.ctx, local, at, labtest.Patience)
				}
				return err
			})
		}))
		if !a.Open {
			for _, n := range c.lab.Workers() {
				block, err := labtest.PodOf(c.lab, n.Name).Addr().Prefix(26)
				must(c.t, err)
				p.Send(2, s.Announce(hostile.Claim{Prefix: block, NextHop: local, LocalPref: 1 << 20}))
			}
			p.Send(2, s.Announce(hostile.Claim{Prefix: labtest.DefaultRoute, NextHop: local}))
		}
		p.Play(a)
		c.wait(time.Duration(c.rnd.IntN(200)) * time.Millisecond)
		must(c.t, p.Conn.Close())
	}
}

var errNoTunnel = errors.New("a node without a vxlan device")

// rogue sends a node tunnelled packets from a machine that is no node, for its witness
// and from another one: the guard drops them.
func (c *chaos) rogue(n *lab.Node) {
	c.t.Helper()
	far := c.lab.Node(map[int]string{1: "r2n1", 2: "r1n1"}[n.Rack])
	inner := udpPacket(labtest.PodOf(c.lab, far.Name).Addr(), labtest.PodOf(c.lab, n.Name).Addr(), lab.MeshPort, lab.MeshForged)
	payload, port, err := vxlanFrame(n, inner)
	must(c.t, err)
	for range 50 {
		must(c.t, c.stranger.NS.SendUDP(netip.AddrPortFrom(n.Addr, port), payload))
		c.wait(2 * time.Millisecond)
	}
	if got := c.mesh.Forged(); got > 0 {
		c.t.Errorf("%d packets of a machine that is no node reached a pod through the tunnel", got)
	}
}

// vxlanFrame wraps a packet as the tunnel of a node receives it (RFC 7348).
func vxlanFrame(n *lab.Node, inner []byte) ([]byte, uint16, error) {
	names, err := n.NS.Devices("onlink-")
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		link, err := n.NS.Link.LinkByName(name)
		if err != nil {
			return nil, 0, err
		}
		if v, ok := link.(*netlink.Vxlan); ok {
			frame := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, uint32(v.VxlanId)<<8) //nolint:gosec // 24 bits
			frame = append(append(frame, v.HardwareAddr...), 2, 0, 0, 0, 0, 9, 8, 0)
			return append(frame, inner...), uint16(v.Port), nil //nolint:gosec // a port
		}
	}
	return nil, 0, errNoTunnel
}
