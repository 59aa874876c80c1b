package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/client"
	"onlink/kube/node"
	onlinkv1 "onlink/proto/v1"
)

// seat is a place in the rack, with an address and a cable; machines come and go.
type seat struct {
	*lab.Node

	plugged   bool
	reflector bool

	mu sync.Mutex // guards m
	m  *gcMachine // nil: off
}

// machine returns the machine that is on in this place; nil: none.
func (s *seat) machine() *gcMachine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m
}

// gcMachine is a machine from its boot to its end: a network namespace with a real
// onlinkd, the real process beside it (it runs in the test's process, with its own
// connections), the part of kubelet that matters here (the Node, pods by CNI's
// protocol at the agent's socket), and pods, which are network namespaces too.
type gcMachine struct {
	bed    *gcBed
	seat   *seat
	name   string // of its Node
	boot   int
	disk   string // folder of the agent's state
	dir    string
	wire   *wire
	client *client.Client
	log    *slog.Logger
	conn   *grpc.ClientConn // CNI socket
	admin  *grpc.ClientConn

	stop context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex // guards all below
	agent   *lab.Process
	pods    map[*gcPod]bool
	pause   bool // kubelet starts and ends no pod
	attach  int  // pods that were attached
	refused int  // pods that were not
	last    error
}

// gcPod is a pod's network namespace.
type gcPod struct {
	*lab.Pod

	file *os.File // its namespace, as the agent gets it: it does not see /run of the host
}

// boot starts a machine in an empty place.
func (b *gcBed) boot(t *testing.T, s *seat, name, disk string) *gcMachine {
	t.Helper()
	if !s.plugged {
		must(t, s.Plug())
		s.plugged = true
	}
	b.serial++
	m := &gcMachine{bed: b, seat: s, name: name, boot: b.serial, disk: disk, wire: newWire(), pods: map[*gcPod]bool{}}
	m.client = m.wire.client(t, b.Server)
	m.dir = filepath.Join(b.dir, fmt.Sprintf("b%d", m.boot))
	for _, d := range []string{"run", "kube", "bin", "net.d"} {
		must(t, os.MkdirAll(filepath.Join(m.dir, d), 0o755))
	}
	must(t, os.MkdirAll(disk, 0o755))
	must(t, os.Symlink(disk, filepath.Join(m.dir, "state")))
	out, err := os.Create(filepath.Join(m.dir, "kube.log"))
	must(t, err)
	m.log = slog.New(slog.NewTextHandler(out, nil))
	m.conn = m.socket(t, "cni.sock")
	m.admin = m.socket(t, "admin.sock")
	ctx, stop := context.WithCancel(b.ctx)
	m.stop = stop
	m.work.Go(func() {
		defer out.Close()
		m.run(ctx)
	})
	s.mu.Lock()
	s.m = m
	s.mu.Unlock()
	return m
}

func (m *gcMachine) socket(t *testing.T, name string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+filepath.Join(m.dir, "run", name), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	return conn
}

func (m *gcMachine) id() string { return fmt.Sprintf("boot %d at %s", m.boot, m.seat.Name) }

// run is the life of a machine: kubelet registers the Node, the init container runs
// until it succeeds, then the agent and the process beside it, and pods.
func (m *gcMachine) run(ctx context.Context) {
	opt := node.InitOptions{Log: m.log, Client: m.client, Node: m.name, Namespace: namespace, State: m.disk, Certificates: filepath.Join(m.dir, "kube")}
	for _, step := range []func() error{
		func() error { return m.register(ctx) },
		func() error { return node.Init(ctx, opt) },
		m.startAgent,
	} {
		for {
			err := step()
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				break
			}
			m.note(err)
			if !pauseFor(ctx, 500*time.Millisecond) {
				return
			}
		}
	}
	m.work.Go(func() {
		for ctx.Err() == nil {
			err := node.Run(ctx, node.Options{
				Log: m.log, Client: m.client, Node: m.name, Namespace: namespace,
				AdminSocket: filepath.Join(m.dir, "run", "admin.sock"), RegistrySocket: filepath.Join(m.dir, "kube", "registry.sock"),
				Certificates: filepath.Join(m.dir, "kube"),
			})
			if err != nil {
				m.bed.fail(fmt.Errorf("node process of %s (%s): %w", m.name, m.id(), err))
				return
			}
		}
	})
	m.kubelet(ctx)
}

func (m *gcMachine) note(err error) {
	m.log.Warn("machine", "err", err)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = err
}

// pauseFor waits; false: ctx is over.
func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// register makes the Node as kubelet does when it starts.
func (m *gcMachine) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	nodes := m.client.CoreV1().Nodes()
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name, Labels: map[string]string{corev1.LabelHostname: m.name}}}
	if m.seat.reflector {
		o.Labels[v1alpha1.ReflectorLabel] = ""
	}
	_, err := nodes.Create(ctx, o, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	// The controller gives a new Node its taint meanwhile.
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		made, err := nodes.Get(ctx, m.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		made.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.seat.Addr.String()}, {Type: corev1.NodeHostName, Address: m.name}}
		_, err = nodes.UpdateStatus(ctx, made, metav1.UpdateOptions{})
		return err
	})
}

func (m *gcMachine) startAgent() error {
	p, err := m.seat.NS.Start("onlinkd", filepath.Join(m.dir, "onlinkd.log"), "unshare", "--mount", "sh", "-c", agentScript, "sh", m.dir, filepath.Join(labtest.Bin(), "onlinkd"))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agent = p
	return nil
}

// restartAgent kills the agent and starts it again, as kubelet does after a crash.
func (m *gcMachine) restartAgent() error {
	m.mu.Lock()
	p := m.agent
	m.mu.Unlock()
	if p == nil {
		return nil // it has not started yet
	}
	if err := p.Kill(); err != nil {
		return err
	}
	return m.startAgent()
}

// kubelet starts and ends pods until ctx ends: two to four run on each machine. It
// tries again what fails.
func (m *gcMachine) kubelet(ctx context.Context) {
	for n := 0; pauseFor(ctx, m.bed.podPause/2+rand.N(m.bed.podPause)); n++ { //nolint:gosec // it spreads load
		all := m.allPods()
		m.mu.Lock()
		pause := m.pause
		m.mu.Unlock()
		var err error
		switch {
		case pause:
		case len(all) < 2 || len(all) < 4 && n%3 != 0:
			err = m.startPod(ctx)
		default:
			err = m.endPod(ctx, all[n%len(all)])
		}
		if err != nil && ctx.Err() == nil {
			m.note(err)
		}
	}
}

func (m *gcMachine) allPods() (all []*gcPod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range m.pods {
		all = append(all, p)
	}
	return all
}

func (m *gcMachine) hasPod(p *gcPod) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pods[p]
}

// startPod is CNI ADD of a new pod, by the protocol that onlink-cni speaks.
func (m *gcMachine) startPod(ctx context.Context) error {
	raw, err := m.seat.NewPod(fmt.Sprintf("p%d", m.bed.pods.Add(1)))
	if err != nil {
		return err
	}
	p := &gcPod{Pod: raw}
	m.mu.Lock()
	m.pods[p] = true
	m.mu.Unlock()
	if p.file, err = os.Open(p.NS.Path()); err != nil {
		return errors.Join(err, m.drop(p))
	}
	err = m.call(ctx, p, onlinkv1.NewCNIClient(m.conn).Add)
	m.mu.Lock()
	if err == nil {
		m.attach++
	} else {
		m.refused++
	}
	m.mu.Unlock()
	if err == nil {
		return nil
	}
	// A runtime calls DEL after an ADD that failed, and ends the sandbox.
	return errors.Join(fmt.Errorf("CNI ADD: %w", err), m.call(ctx, p, onlinkv1.NewCNIClient(m.conn).Del), m.drop(p))
}

// endPod is CNI DEL, and the end of the pod when that succeeded.
func (m *gcMachine) endPod(ctx context.Context, p *gcPod) error {
	if err := m.call(ctx, p, onlinkv1.NewCNIClient(m.conn).Del); err != nil {
		return fmt.Errorf("CNI DEL: %w", err)
	}
	return m.drop(p)
}

func (m *gcMachine) call(ctx context.Context, p *gcPod, verb func(context.Context, *onlinkv1.CNIRequest, ...grpc.CallOption) (*onlinkv1.CNIReply, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	reply, err := verb(ctx, &onlinkv1.CNIRequest{
		ContainerId: p.ContainerID, Netns: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.file.Fd()), Ifname: "eth0", Path: "/opt/cni/bin",
		Args:   "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + p.Name + ";K8S_POD_INFRA_CONTAINER_ID=" + p.ContainerID,
		Config: []byte(`{"cniVersion":"1.0.0","name":"onlink","type":"onlink-cni"}`),
	})
	if err != nil {
		return err
	}
	if reply.GetExitCode() == 0 {
		return nil
	}
	var text struct {
		Code         int
		Msg, Details string
	}
	if err := json.Unmarshal(reply.GetStdout(), &text); err != nil {
		return fmt.Errorf("answer %q: %w", reply.GetStdout(), err)
	}
	return fmt.Errorf("code %d: %s %s", text.Code, text.Msg, text.Details)
}

// drop ends a pod's namespace.
func (m *gcMachine) drop(p *gcPod) error {
	m.mu.Lock()
	there := m.pods[p]
	delete(m.pods, p)
	m.mu.Unlock()
	if !there {
		return nil
	}
	if p.file != nil {
		_ = p.file.Close() // it was only read
	}
	return p.Drop()
}

// cutPower ends a machine at once: its cable first, so that no packet tells a peer of
// the end. Its disk stays.
func (m *gcMachine) cutPower(t *testing.T) {
	t.Helper()
	must(t, m.bed.lab.Racks[0].Switch.SetLink(m.seat.Name, false))
	m.end(t)
}

// shutDown ends the machine as an administrator does: the agent stops first.
func (m *gcMachine) shutDown(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	p := m.agent
	m.mu.Unlock()
	if p != nil {
		must(t, p.Stop())
	}
	m.end(t)
}

func (m *gcMachine) end(t *testing.T) {
	t.Helper()
	m.stop()
	m.wire.end()
	m.mu.Lock()
	p := m.agent
	m.mu.Unlock()
	if p != nil {
		must(t, p.Kill())
	}
	m.work.Wait()
	m.mu.Lock()
	p = m.agent // it may have started meanwhile
	m.mu.Unlock()
	if p != nil {
		must(t, p.Kill())
	}
	m.seat.mu.Lock()
	m.seat.m = nil
	m.seat.mu.Unlock()
	for _, p := range m.allPods() {
		must(t, m.drop(p))
	}
	must(t, errors.Join(m.conn.Close(), m.admin.Close()))
	must(t, m.seat.Unplug())
	m.seat.plugged = false
}

// deleteNode deletes a Node, and with it what goes with it: the garbage collector of
// kube-controller-manager, which these tests do not run, deletes the OnlinkNode.
func (b *gcBed) deleteNode(ctx context.Context, name string) error {
	err := b.Client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
	oerr := b.Client.Nodes.Delete(ctx, name, metav1.DeleteOptions{})
	for _, e := range []error{err, oerr} {
		if e != nil && !apierrors.IsNotFound(e) {
			return e
		}
	}
	return nil
}

// tell describes a machine for a failed test.
func (m *gcMachine) tell() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := fmt.Sprintf("%s, Node %s, %d pods, %d attached, %d refused, last error %v", m.id(), m.name, len(m.pods), m.attach, m.refused, m.last)
	if m.agent != nil {
		text += "\n" + m.agent.Tail(15)
	}
	if out, err := os.ReadFile(filepath.Join(m.dir, "kube.log")); err == nil {
		text += "\nkube:\n" + string(out[max(0, len(out)-2000):])
	}
	return text
}
