package bench

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"onlink/cni"
	onlinkv1 "onlink/proto/v1"
)

// memoryIPAM gives addresses from memory: what it costs is not in cni.wire.
type memoryIPAM struct {
	mu     sync.Mutex // guards leases
	leases map[string]cni.Lease
	next   int
}

// Assign implements cni.IPAM.
func (m *memoryIPAM) Assign(_ context.Context, a cni.Attachment, _ cni.Ask) (cni.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	l := cni.Lease{Addresses: []netip.Addr{offset(netip.MustParseAddr("10.65.0.0"), m.next)}}
	m.leases[a.ContainerID] = l
	return l, nil
}

// Release implements cni.IPAM.
func (m *memoryIPAM) Release(_ context.Context, a cni.Attachment) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.leases, a.ContainerID)
	return nil
}

// Lookup implements cni.IPAM.
func (m *memoryIPAM) Lookup(a cni.Attachment) (cni.Lease, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.leases[a.ContainerID]
	return l, ok
}

// Attachments implements cni.IPAM.
func (*memoryIPAM) Attachments() []cni.Attachment { return nil }

// noRoutes is a learn loop to which pods are no news.
type noRoutes struct{}

// SetPod implements cni.Routes.
func (noRoutes) SetPod(netip.Prefix, string) {}

// DeletePod implements cni.Routes.
func (noRoutes) DeletePod(netip.Prefix) {}

// wireServer wires every pod through the agent's own ADD, called in process
// and from a goroutine like gRPC's, and returns each call's milliseconds. The
// pods are disconnected afterwards.
func wireServer(ctx context.Context, s *cni.Server, pods []string) (took samples, err error) {
	done := make(chan struct{})
	go func() {
		took, err = serverWires(ctx, s, pods)
		close(done)
	}()
	<-done
	return took, err
}

func serverWires(ctx context.Context, s *cni.Server, pods []string) (took samples, err error) {
	request := func(i int) *onlinkv1.CNIRequest {
		return &onlinkv1.CNIRequest{
			ContainerId: fmt.Sprintf("%064x", i), Ifname: "eth0", Netns: pods[i], Path: "/opt/cni/bin",
			Args:   fmt.Sprintf("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-%d", i),
			Config: []byte(`{"cniVersion":"1.0.0","name":"onlink","type":"onlink-cni"}`),
		}
	}
	for i := range pods {
		begin := time.Now()
		reply, err := s.Add(ctx, request(i))
		took = append(took, time.Since(begin).Seconds()*1000)
		if err != nil || reply.GetExitCode() != 0 {
			return nil, fmt.Errorf("wire pod: %w: %s", errors.Join(err, errRefused), reply.GetStdout())
		}
	}
	for i := range pods {
		if _, err := s.Del(ctx, request(i)); err != nil {
			return nil, fmt.Errorf("disconnect pod: %w", err)
		}
	}
	for s.Stats().Ending > 0 { // removals must not slow the bare side
		if err := pause(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// errRefused is an answer with an exit code other than 0.
var errRefused = errors.New("the agent refused")

// Numbers of linux/veth.h and linux/ip.h that x/sys lacks.
const (
	vethInfoPeer     = 1
	devconfForward   = 1
	devconfSendRedir = 6
	devconfRPFilter  = 8
	devconfRouteLoc  = 26
	extSkipStats     = 1 << 3
)

// bareWire does what wiring a pod must do, with nothing around it: a veth with
// its peer in the pod, one address, two routes and two permanent neighbours,
// in two batches and one socket per pod, and the question whether the pod's end
// has its carrier, without which the pod loses its first packets. host is a
// socket of the namespace the calling thread is in; home is that namespace.
func bareWire(host *rtSocket, home int, path string, i int) error {
	pod, err := os.Open(path)
	if err != nil {
		return err
	}
	defer pod.Close()
	w := bareVeth{index: uint32(1<<21 + 2*i), i: i, home: home} //nolint:gosec // a few hundred pods
	s, err := w.inside(int(pod.Fd()))
	if err := errors.Join(err, unix.Setns(home, unix.CLONE_NEWNET)); err != nil {
		return err
	}
	defer s.close()
	if err := w.outside(host); err != nil {
		return err
	}
	return w.look(s)
}

// bareVeth is one pod's wiring.
type bareVeth struct {
	index uint32 // of the pod's end; the host's is the next
	i     int
	home  int // network namespace of the host's end
}

func (w bareVeth) addr() []byte { return offset(netip.MustParseAddr("10.67.0.0"), w.i).AsSlice() }

func (w bareVeth) mac(host byte) []byte {
	sum := sha256.Sum256([]byte{byte(w.i), byte(w.i >> 8), host})
	sum[0] = sum[0]&^1 | 2
	return sum[:6]
}

// gatewayAddr is every pod's gateway.
var gatewayAddr = []byte{169, 254, 1, 1}

// inside makes the veth from within the pod's namespace and furnishes the
// pod's end. It returns the socket it has used.
func (w bareVeth) inside(pod int) (*rtSocket, error) {
	if err := unix.Setns(pod, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	s, err := dialRoute()
	if err != nil {
		return nil, err
	}
	if err := w.furnish(s); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (w bareVeth) furnish(s *rtSocket) error {
	var m batch
	m.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(w.index, unix.IFF_UP)...)
	w.end(&m, "eth0", w.mac(0))
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("veth\x00")...)
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.nest(vethInfoPeer, func() {
				m.b = append(m.b, ifinfo(w.index+1, 0)...)
				w.end(&m, fmt.Sprintf("bare%d", w.i), w.mac(1))
				m.attr32(unix.IFLA_NET_NS_FD, uint32(w.home)) //nolint:gosec // a file descriptor
			})
		})
	})
	if err := s.send(&m); err != nil {
		return fmt.Errorf("create veth: %w", err)
	}
	m.begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append([]byte{unix.AF_INET, 32, 0, 0}, native32(w.index)...)...)
	m.attr(unix.IFA_LOCAL, w.addr()...)
	m.attr(unix.IFA_ADDRESS, w.addr()...)
	w.route(&m, gatewayAddr, nil, unix.RTPROT_BOOT, w.index)
	w.route(&m, nil, gatewayAddr, unix.RTPROT_BOOT, w.index)
	w.neighbour(&m, gatewayAddr, w.mac(1), w.index)
	if err := s.send(&m); err != nil {
		return fmt.Errorf("furnish pod: %w", err)
	}
	return nil
}

// outside furnishes the host's end.
func (w bareVeth) outside(s *rtSocket) error {
	var m batch
	m.begin(unix.RTM_NEWLINK, 0, ifinfo(w.index+1, unix.IFF_UP)...)
	m.attr(unix.IFLA_IFALIAS, []byte("bench default/web")...)
	m.nest(unix.IFLA_AF_SPEC, func() {
		m.nest(unix.AF_INET, func() {
			m.nest(unix.IFLA_INET_CONF, func() {
				m.attr32(devconfForward, 1)
				m.attr32(devconfRPFilter, 1)
				m.attr32(devconfRouteLoc, 0)
				m.attr32(devconfSendRedir, 0)
			})
		})
	})
	w.route(&m, w.addr(), nil, unix.RTPROT_STATIC, w.index+1)
	w.neighbour(&m, w.addr(), w.mac(0), w.index+1)
	if err := s.send(&m); err != nil {
		return fmt.Errorf("furnish host: %w", err)
	}
	return nil
}

// look asks for the pod's end, at which the kernel gives it its carrier.
func (w bareVeth) look(s *rtSocket) error {
	var m batch
	m.begin(unix.RTM_GETLINK, 0, ifinfo(w.index, 0)...)
	m.attr32(unix.IFLA_EXT_MASK, extSkipStats)
	if err := s.send(&m); err != nil {
		return fmt.Errorf("look at pod's end: %w", err)
	}
	return nil
}

func (w bareVeth) end(m *batch, name string, mac []byte) {
	m.attr(unix.IFLA_IFNAME, append([]byte(name), 0)...)
	m.attr(unix.IFLA_ADDRESS, mac...)
	m.attr32(unix.IFLA_NUM_TX_QUEUES, 1)
	m.attr32(unix.IFLA_NUM_RX_QUEUES, 1)
}

// route appends a route to dst (nil: default) through via (nil: the link).
func (w bareVeth) route(m *batch, dst, via []byte, protocol byte, index uint32) {
	scope, bits := byte(unix.RT_SCOPE_LINK), byte(8*len(dst))
	if via != nil {
		scope = unix.RT_SCOPE_UNIVERSE
	}
	m.begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.AF_INET, bits, 0, 0,
		unix.RT_TABLE_MAIN, protocol, scope, unix.RTN_UNICAST, 0, 0, 0, 0)
	if dst != nil {
		m.attr(unix.RTA_DST, dst...)
	}
	if via != nil {
		m.attr(unix.RTA_GATEWAY, via...)
	}
	m.attr32(unix.RTA_OIF, index)
}

func (w bareVeth) neighbour(m *batch, addr, mac []byte, index uint32) {
	fixed := append([]byte{unix.AF_INET, 0, 0, 0}, native32(index)...)
	m.begin(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, append(fixed, unix.NUD_PERMANENT, 0, 0, 0)...)
	m.attr(unix.NDA_DST, addr...)
	m.attr(unix.NDA_LLADDR, mac...)
}

// remove disconnects the pod again.
func (w bareVeth) remove(s *rtSocket) error {
	var m batch
	m.begin(unix.RTM_DELLINK, 0, ifinfo(w.index+1, 0)...)
	return s.send(&m)
}

// wireBare wires every pod the bare way and returns each one's milliseconds.
func wireBare(pods []string, home *os.File) (took samples, err error) {
	host, err := dialRoute()
	if err != nil {
		return nil, err
	}
	defer host.close()
	for i, path := range pods {
		begin := time.Now()
		if err := bareWire(host, int(home.Fd()), path, i); err != nil {
			return nil, fmt.Errorf("wire pod by hand: %w", err)
		}
		took = append(took, time.Since(begin).Seconds()*1000)
	}
	for i := range pods {
		w := bareVeth{index: uint32(1<<21 + 2*i)} //nolint:gosec // a few hundred pods
		if err := w.remove(host); err != nil {
			return nil, fmt.Errorf("disconnect pod: %w", err)
		}
	}
	return took, nil
}

// serveCNI runs the server, whose wiring threads come with that; stop ends it.
func serveCNI(ctx context.Context, s *cni.Server, socket string) (stop func() error, err error) {
	l, err := cni.Listen(socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	return func() error {
		cancel()
		return <-done
	}, nil
}

// wireFigure: the agent's ADD without shim, wire and disk, next to the bare
// messages.
func wireFigure(ctx context.Context, r *run) (err error) {
	// Few at a time, in turns: a slow moment of the machine must hit both sides.
	const count, turns = 16, 8
	pods, err := newPodSpaces(r.dir, count)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pods.close()) }()
	// Others: the agent may remove a pod's device after its answer to DEL.
	others, err := newPodSpaces(r.dir, count)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, others.close()) }()
	var ours, bare samples
	err = inFresh(func(*pair) (err error) {
		s, err := cni.NewServer(cni.Config{IPAM: &memoryIPAM{leases: map[string]cni.Lease{}}, Routes: noRoutes{}})
		if err != nil {
			return err
		}
		stop, err := serveCNI(ctx, s, filepath.Join(r.sockets, "wire.sock"))
		if err != nil {
			return errors.Join(err, s.Close())
		}
		defer func() { err = errors.Join(err, stop(), s.Close()) }()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer home.Close()
		return r.rounds(ctx, func(ctx context.Context) error {
			var with, without samples
			for range turns {
				took, err := wireServer(ctx, s, pods.paths)
				if err != nil {
					return err
				}
				with = append(with, took...)
				if took, err = wireBare(others.paths, home); err != nil {
					return err
				}
				without = append(without, took...)
			}
			ours, bare = append(ours, with.median()), append(bare, without.median())
			return nil
		})
	})
	if err != nil {
		return err
	}
	r.report("cni.wire", "ms", ours, versus{name: "bare batched rtnetlink", samples: bare})
	return nil
}
