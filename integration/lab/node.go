package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"onlink/bgp"
	"onlink/integration/conf"
	onlinkv1 "onlink/proto/v1"
)

// agentReady bounds how long an agent may take from its start to ready, and
// the cluster to agree: seconds on a quiet machine, with room for user-mode
// Linux on a busy one, and more where QEMU interprets the kernel.
var agentReady = readyTime()

func readyTime() time.Duration {
	if os.Getenv("ONLINK_BED") == "vm" {
		return 5 * time.Minute
	}
	return time.Minute
}

// callTime bounds one call of the agent's API.
const callTime = 15 * time.Second

// phaseReady is Status.Phase of an agent that is up and in sync.
const phaseReady = "ready"

// Node is one host that runs an agent.
type Node struct {
	NS        *NS
	Name      string
	Rack      int
	Addr      netip.Addr
	Addr6     netip.Addr // valid only with DualStack
	Reflector bool
	// Edit, when not nil, changes the configuration that every Start writes.
	Edit func(*conf.Config)
	// Under is a program and its arguments that takes the agent's command line
	// behind them and becomes it (execve), for agents with fewer rights or
	// another root.
	Under []string
	// Args follow the arguments of the agent's command line, from the next Start on.
	Args []string

	lab  *Lab
	mac  net.HardwareAddr // of eth0 before Unplug; nil before the first
	proc *Process
	conn *grpc.ClientConn
}

// addNode makes a node's namespace and plugs it into its rack.
func (l *Lab) addNode(rack *Rack, name string, host int, reflector bool) error {
	n := &Node{Name: name, Rack: rack.Number, Addr: rackAddr(rack.Number, host), Reflector: reflector, lab: l}
	if l.Spec.DualStack {
		n.Addr6 = rackAddr6(rack.Number, host)
	}
	if err := n.Plug(); err != nil {
		return err
	}
	rack.Nodes = append(rack.Nodes, n)
	s := steps{}
	s.do(func() error { return os.MkdirAll(n.path("run"), 0o755) })
	s.do(func() error { return os.MkdirAll(n.path("state"), 0o755) })
	return s.err
}

// Plug makes the node's namespace, with its address and default routes: a new
// [NS], the kernel of a machine that was booted.
func (n *Node) Plug() error {
	rack := n.lab.rack(n.Rack)
	var err error
	if n.NS, err = n.lab.namespace(n.Name); err != nil {
		return err
	}
	var gateways, gateways6 []netip.Addr
	for _, t := range rack.ToRs {
		gateways, gateways6 = append(gateways, t.Addr), append(gateways6, t.Addr6)
	}
	s := steps{}
	s.do(func() error { return plug(rack.Switch, n.Name, n.NS, "eth0") })
	s.do(n.restoreMAC)
	s.do(func() error { return n.NS.AddAddr("eth0", netip.PrefixFrom(n.Addr, 24)) })
	s.do(func() error { return n.NS.addRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateways...) })
	if n.lab.Spec.DualStack {
		s.do(func() error { return n.NS.AddAddr("eth0", netip.PrefixFrom(n.Addr6, 64)) })
		s.do(func() error { return n.NS.addRoute(netip.PrefixFrom(netip.IPv6Unspecified(), 0), gateways6...) })
	}
	return s.err
}

// restoreMAC gives the device the MAC address that it had before it was unplugged,
// as a machine's has: a neighbour's entry with the former one would be wrong.
func (n *Node) restoreMAC() error {
	if n.mac == nil {
		return nil
	}
	s := steps{}
	s.do(func() error { return n.NS.SetLink("eth0", false) }) // the link-local address is made of it
	s.do(func() error {
		return n.NS.change("set MAC address of", "eth0", func(l netlink.Link) error { return n.NS.Link.LinkSetHardwareAddr(l, n.mac) })
	})
	s.do(func() error { return n.NS.SetLink("eth0", true) })
	return s.err
}

// Unplug removes the node's namespace with every device, route, rule and setting
// in it, as a power cut does; the processes in it must have ended. [Node.Plug]
// makes the next one.
func (n *Node) Unplug() error {
	eth0, err := n.NS.link("eth0")
	if err != nil {
		return fmt.Errorf("unplug %s: %w", n.Name, err)
	}
	n.mac = eth0.Attrs().HardwareAddr
	s := steps{}
	// The kernel frees a namespace later, and the far end of its cable with it: the
	// next Plug would find the port's name in use.
	s.all(func() error { return n.lab.rack(n.Rack).Switch.DeleteLink(n.Name) })
	s.all(func() error { return n.lab.dropNamespace(n.NS) })
	if s.err != nil {
		return fmt.Errorf("unplug %s: %w", n.Name, s.err)
	}
	return nil
}

// path names a file in the node's own directory.
func (n *Node) path(name string) string { return filepath.Join(n.lab.Dir, n.Name, name) }

// configName is the file that the agent reads.
const configName = "onlinkd.yaml"

// ConfigFile is the node's onlinkd.yaml.
func (n *Node) ConfigFile() string { return n.path(configName) }

// AdminSocket is where onlinkctl reaches the agent.
func (n *Node) AdminSocket() string { return n.path("run/admin.sock") }

// CNISocket is where onlink-cni reaches the agent.
func (n *Node) CNISocket() string { return n.path("run/cni.sock") }

// StateDir is the folder with the agent's database.
func (n *Node) StateDir() string { return n.path("state") }

// LogFile holds the agent's output, of all its starts.
func (n *Node) LogFile() string { return n.path("onlinkd.log") }

// Logs returns the end of the agent's output.
func (n *Node) Logs(lines int) string { return tail(n.LogFile(), lines) }

// Process returns the running agent, nil when none was started.
func (n *Node) Process() *Process { return n.proc }

// Start writes onlinkd.yaml and starts the agent; [Node.WaitReady] waits.
func (n *Node) Start(ctx context.Context) error {
	if n.proc != nil && !n.proc.Exited() {
		return fmt.Errorf("start agent of %s: it is running already (pid %d)", n.Name, n.proc.Pid())
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := n.WriteConfig(configName, n.Edited()); err != nil {
		return err
	}
	argv := append(slices.Clone(n.Under), filepath.Join(n.lab.Bin, "onlinkd"), "--config", n.ConfigFile())
	if !bgp.Patched() {
		argv = append(argv, "--allow-unpatched-engine") // programs and tests are built alike
	}
	p, err := start(n.NS, "onlinkd of "+n.Name, n.LogFile(), append(argv, n.Args...)...)
	if err != nil {
		return err
	}
	n.proc = p
	return nil
}

// Run starts one of onlink's programs inside the node's namespace.
func (n *Node) Run(name, log, program string, args ...string) (*Process, error) {
	return start(n.NS, name, log, append([]string{filepath.Join(n.lab.Bin, program)}, args...)...)
}

// Stop ends the agent with SIGTERM.
func (n *Node) Stop() error {
	if n.proc == nil {
		return nil
	}
	return n.proc.Stop()
}

// Kill ends the agent with SIGKILL.
func (n *Node) Kill() error {
	var err error
	if n.conn != nil {
		err = n.conn.Close()
		n.conn = nil
	}
	if n.proc != nil {
		err = errors.Join(err, n.proc.Kill())
	}
	return err
}

// Admin returns a client of the agent's admin API. It may be called before the
// agent runs; calls then fail with code Unavailable.
func (n *Node) Admin() (onlinkv1.AdminClient, error) {
	if n.conn == nil {
		conn, err := grpc.NewClient("unix:"+n.AdminSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, fmt.Errorf("open admin API of %s: %w", n.Name, err)
		}
		n.conn = conn
	}
	return onlinkv1.NewAdminClient(n.conn), nil
}

// Status asks the agent how it is.
func (n *Node) Status(ctx context.Context) (*onlinkv1.Status, error) {
	admin, err := n.Admin()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	st, err := admin.GetStatus(ctx, &onlinkv1.GetStatusRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask status of %s: %w", n.Name, err)
	}
	return st, nil
}

// Routes asks the agent for all its decided routes.
func (n *Node) Routes(ctx context.Context) ([]*onlinkv1.Route, error) {
	admin, err := n.Admin()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	reply, err := admin.ListRoutes(ctx, &onlinkv1.ListRoutesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list routes of %s: %w", n.Name, err)
	}
	return reply.GetRoutes(), nil
}

// Blocks asks the agent for its own blocks.
func (n *Node) Blocks(ctx context.Context) ([]*onlinkv1.Block, error) {
	admin, err := n.Admin()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	reply, err := admin.ListBlocks(ctx, &onlinkv1.ListBlocksRequest{})
	if err != nil {
		return nil, fmt.Errorf("list blocks of %s: %w", n.Name, err)
	}
	return reply.GetBlocks(), nil
}

// WaitReady waits until the agent says that it is ready; the end of its log is
// part of the error.
func (n *Node) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, agentReady)
	defer cancel()
	err := poll(ctx, "agent of "+n.Name+" becomes ready", n.proc, func() error {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		if st.GetPhase() != phaseReady {
			return fmt.Errorf("phase %q, %d of %d peers up, problems %q", st.GetPhase(), st.GetPeersEstablished(), st.GetPeersTotal(), st.GetProblems())
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrExited) {
		return fmt.Errorf("%w\n%s", err, n.Logs(20))
	}
	return err
}

// StartNodes starts all agents, reflectors first, and waits until every one is
// ready.
func (l *Lab) StartNodes(ctx context.Context) error {
	nodes := append(l.Reflectors(), l.Workers()...)
	for _, n := range nodes {
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// WaitConverged waits until every node has an installed route to every other
// node's blocks and every BGP session is up.
func (l *Lab) WaitConverged(ctx context.Context) error {
	for _, n := range l.Nodes() {
		err := Eventually(ctx, agentReady, "routes of "+n.Name, func() error { return l.converged(ctx, n) })
		if err != nil {
			return fmt.Errorf("%w\n%s", err, n.Logs(20))
		}
	}
	return nil
}

// converged says what node n still lacks.
func (l *Lab) converged(ctx context.Context, n *Node) error {
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	if st.GetPeersEstablished() < st.GetPeersTotal() {
		return fmt.Errorf("%d of %d BGP sessions up", st.GetPeersEstablished(), st.GetPeersTotal())
	}
	routes, err := n.Routes(ctx)
	if err != nil {
		return err
	}
	installed := map[string]bool{}
	for _, r := range routes {
		installed[r.GetPrefix()] = r.GetInstalled()
	}
	for _, other := range l.Nodes() {
		blocks, err := other.Blocks(ctx)
		if err != nil {
			return err
		}
		if len(blocks) == 0 {
			return fmt.Errorf("%s has no block", other.Name)
		}
		for _, b := range blocks {
			if !installed[b.GetCidr()] {
				return fmt.Errorf("no installed route to %s of %s", b.GetCidr(), other.Name)
			}
		}
	}
	return nil
}
