package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/internal/identity"
	onlinkv1 "onlink/proto/v1"
)

// registryRounds is how long TestRegistries runs: how often everything happens
// to each registry.
//
//	go test ./integration -run TestRegistries -timeout 30m -args -registry.rounds=5
var registryRounds = flag.Int("registry.rounds", 1, "rounds of trouble of TestRegistries")

// Numbers of TestRegistries.
const (
	registryNodes   = 8
	registryWorkers = 4
	registryPods    = 5               // a worker has at most
	registryAssert  = time.Second     // how often nodes assert
	registryLimit   = 2 * time.Minute // for what must come about at last
	etcdProgram     = "/usr/bin/etcd" // where Debian has it
)

// registryCase is one way to keep the block registry.
type registryCase struct {
	name    string
	servers int                               // agents that serve it, on nodes of their own
	config  func(*registrySite) conf.Registry // of a node that does not serve it
	// open and close are the registry as a whole; trouble happens to it while
	// it is used.
	open    func(*registrySite)
	close   func(*registrySite)
	trouble []func(*registrySite)
	// edit, when not nil, changes the configuration of a node.
	edit func(*lab.Node, *conf.Config)
}

// TestRegistries has eight agents with four runtimes each start and end pods
// all the time, over mutual TLS, while the block registry restarts, is killed,
// loses its file, and nodes are cut off from it. At every moment a block is
// announced by one node at most, pods start from held blocks while there is no
// registry, and in the end every address is one pod's, in a block that the
// registry gives to its node.
func TestRegistries(t *testing.T) {
	for _, tc := range registryCases() {
		t.Run(tc.name, func(t *testing.T) { newRegistrySite(t, tc).siege() })
	}
}

// registryCases are all ways to keep the block registry.
func registryCases() []registryCase {
	grpc := func(s *registrySite) conf.Registry {
		var addresses []string
		for _, n := range s.servers {
			addresses = append(addresses, s.endpoint(n))
		}
		return s.secured(conf.Registry{Kind: "grpc", Address: addresses})
	}
	agents := func(name string, n int) registryCase {
		return registryCase{
			name: name, servers: n, config: grpc, open: (*registrySite).openAgents, close: (*registrySite).closeAgents,
			trouble: []func(*registrySite){(*registrySite).restartAgent, (*registrySite).loseFile, (*registrySite).cutNode, (*registrySite).killNode},
		}
	}
	return []registryCase{
		agents("served", 1),
		agents("split", 2),
		{
			name: "etcd", config: func(s *registrySite) conf.Registry {
				return s.secured(conf.Registry{Kind: "etcd", Address: []string{s.endpoint(s.etcdHost())}})
			},
			open: (*registrySite).openEtcd, close: (*registrySite).closeEtcd,
			trouble: []func(*registrySite){(*registrySite).restartEtcd, (*registrySite).cutNode, (*registrySite).killNode},
		},
	}
}

// registrySite is a rack of agents and what they have in common.
type registrySite struct {
	t       *testing.T
	ctx     context.Context
	lab     *lab.Lab
	servers []*lab.Node // that serve the registry; they have no pods
	workers []*lab.Node
	config  func(*registrySite) conf.Registry
	tc      registryCase
	certs   map[*lab.Node]conf.TLS
	rnd     *rand.Rand
	etcd    *exec.Cmd
	running map[*lab.Node]*lab.Process

	crash map[*lab.Node]*crash // what the runtimes of a node know
	all   []*crashWorker
	done  atomic.Bool // the workers come to an end
}

func newRegistrySite(t *testing.T, tc registryCase) *registrySite {
	t.Helper()
	return newRegistrySiteOf(t, tc, "reg", registryNodes, 10*time.Minute)
}

// newRegistrySiteOf is newRegistrySite with so many nodes, for so long.
func newRegistrySiteOf(t *testing.T, tc registryCase, name string, nodes int, limit time.Duration) *registrySite {
	t.Helper()
	if tc.name == "etcd" {
		if _, err := os.Stat(etcdProgram); err != nil {
			t.Skip("needs program: etcd (Debian package etcd-server)")
		}
	}
	ctx, l := labtest.Build(t, lab.Spec{
		Name: name + "-" + tc.name, Racks: 1, NodesPerRack: nodes, Reflectors: max(tc.servers, 1), Pool: lab.Pool{Tunnel: "none"},
	})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	t.Cleanup(cancel)
	s := &registrySite{
		t: t, ctx: ctx, lab: l, tc: tc, config: tc.config, rnd: rand.New(rand.NewPCG(8, 8)),
		running: map[*lab.Node]*lab.Process{}, crash: map[*lab.Node]*crash{}, workers: l.Workers(),
	}
	if tc.servers > 0 {
		s.servers = l.Reflectors()[:tc.servers]
	}
	s.certify()
	return s
}

// certify gives each node a certificate of a new authority.
func (s *registrySite) certify() {
	s.t.Helper()
	ca := labtest.NewAuthority(s.t)
	s.certs = map[*lab.Node]conf.TLS{}
	for _, n := range s.lab.Nodes() {
		s.certs[n] = ca.Issue(s.t, identity.Node, n.Name, n.Addr)
	}
}

// etcdHost is the node beside whose agent etcd would run.
func (s *registrySite) etcdHost() *lab.Node { return s.lab.Reflectors()[0] }

func (s *registrySite) endpoint(n *lab.Node) string { return n.Addr.String() + ":4790" }

// secured is a registry with TLS: each node is given its own files when it starts.
func (s *registrySite) secured(c conf.Registry) conf.Registry {
	c.Assert = registryAssert.String()
	return c
}

// start starts a node's agent, which speaks no BGP: this is about blocks.
func (s *registrySite) start(n *lab.Node, args ...string) {
	s.t.Helper()
	c := n.Config()
	reg := s.config(s)
	if !reg.Insecure {
		reg.TLS = s.certs[n]
	}
	if slices.Contains(s.servers, n) {
		reg.Kind, reg.Listen = "bolt", s.endpoint(n)
		if len(s.servers) == 1 {
			reg.Address = nil
		}
	}
	c.BGP = conf.Silent()
	c.API.Metrics = "off"
	c.Pools = []conf.Pool{{Name: "small", CIDR: "10.244.0.0/22", BlockSize: 28, Tunnel: "none"}}
	c.IPAM = conf.IPAM{Cooldown: "0s", Registry: reg}
	if s.tc.edit != nil {
		s.tc.edit(n, c)
	}
	file, err := n.WriteConfig("registry.yaml", c)
	must(s.t, err)
	p, err := n.Run("onlinkd of "+n.Name, n.LogFile(), "onlinkd", append([]string{"--config", file}, args...)...)
	must(s.t, err)
	s.running[n] = p
}

func (s *registrySite) kill(n *lab.Node) {
	s.t.Helper()
	must(s.t, s.running[n].Kill())
}

func (s *registrySite) openAgents() {
	for _, n := range s.servers {
		s.start(n)
	}
}

func (s *registrySite) closeAgents() {
	for _, n := range s.servers {
		s.kill(n)
	}
}

// restartAgent kills one agent that serves the registry, and starts it.
func (s *registrySite) restartAgent() {
	n := s.servers[s.rnd.IntN(len(s.servers))]
	s.kill(n)
	s.start(n)
}

// loseFile is restartAgent without the database.
func (s *registrySite) loseFile() {
	n := s.servers[s.rnd.IntN(len(s.servers))]
	s.kill(n)
	must(s.t, os.Remove(filepath.Join(n.StateDir(), "onlink.db")))
	s.start(n, "--repair-database")
}

// cutNode takes a node off the network for a while.
func (s *registrySite) cutNode() {
	n := s.workers[s.rnd.IntN(len(s.workers))]
	must(s.t, n.NS.SetLink("eth0", false))
	s.progress("a node is cut off", n)
	must(s.t, n.NS.SetLink("eth0", true))
}

// killNode kills the agent of a node with pods, and starts it.
func (s *registrySite) killNode() {
	n := s.workers[s.rnd.IntN(len(s.workers))]
	s.kill(n)
	s.start(n)
}

// openEtcd starts etcd with TLS, asking for clients' certificates, in the
// namespace of a node.
func (s *registrySite) openEtcd() {
	s.t.Helper()
	n := s.etcdHost()
	url := "https://" + s.endpoint(n)
	log, err := os.OpenFile(filepath.Join(n.StateDir(), "etcd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(s.t, err)
	defer log.Close()
	cmd := exec.Command(etcdProgram, "--data-dir", filepath.Join(n.StateDir(), "etcd"),
		"--cert-file", s.certs[n].Cert, "--key-file", s.certs[n].Key, "--trusted-ca-file", s.certs[n].CA, "--client-cert-auth",
		"--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:2380")
	cmd.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH="+runtime.GOARCH)
	cmd.Stdout, cmd.Stderr = log, log
	must(s.t, n.NS.Do(cmd.Start))
	s.etcd = cmd
}

func (s *registrySite) closeEtcd() {
	s.t.Helper()
	must(s.t, s.etcd.Process.Kill())
	_ = s.etcd.Wait() // killed
	s.etcd = nil
}

func (s *registrySite) restartEtcd() {
	s.closeEtcd()
	s.openEtcd()
}

// siege is the test.
func (s *registrySite) siege() {
	s.tc.open(s)
	s.t.Cleanup(func() {
		if s.etcd != nil {
			s.closeEtcd()
		}
	})
	for _, n := range s.workers {
		s.start(n)
		c := &crash{t: s.t, node: n, dir: s.t.TempDir(), owners: newOwners()}
		c.connect()
		c.end = func() {}
		s.crash[n] = c
		defer c.close()
	}
	var work sync.WaitGroup
	for i, n := range s.workers {
		for w := range registryWorkers {
			worker := &crashWorker{crash: s.crash[n], id: i*registryWorkers + w, rnd: rand.New(rand.NewPCG(uint64(i), uint64(w)))}
			s.all = append(s.all, worker)
			work.Go(func() { s.work(worker) })
		}
	}
	defer s.dropPods()
	watching, stop := context.WithCancel(s.ctx)
	var watch sync.WaitGroup
	watch.Go(func() { s.watchOwners(watching) })
	s.progress("all nodes work", s.workers...)
	for round := range *registryRounds {
		for _, i := range s.rnd.Perm(len(s.tc.trouble)) {
			s.tc.trouble[i](s)
			s.progress(fmt.Sprintf("trouble %d of round %d", i, round), s.workers...)
		}
	}
	s.tc.close(s)
	s.progress("there is no registry", s.workers...)
	s.tc.open(s)
	s.progress("the registry is back", s.workers...)
	s.done.Store(true)
	work.Wait()
	s.agree()
	stop()
	watch.Wait()
	var pods, requests int
	for _, w := range s.all {
		pods += len(w.pods)
	}
	for _, c := range s.crash {
		requests += int(c.ops.Load())
	}
	s.t.Logf("%d requests, %d pods left", requests, pods)
}

// work is one runtime.
func (s *registrySite) work(w *crashWorker) {
	for !s.done.Load() && s.ctx.Err() == nil {
		if len(w.pods) < registryPods && (len(w.pods) == 0 || w.rnd.IntN(2) == 0) {
			w.add(s.ctx)
			continue
		}
		i := w.rnd.IntN(len(w.pods))
		p := w.pods[i]
		w.pods = slices.Delete(w.pods, i, i+1)
		w.remove(s.ctx, p)
	}
}

// progress waits until the runtimes of each node have got some more addresses.
func (s *registrySite) progress(when string, nodes ...*lab.Node) {
	s.t.Helper()
	begin := time.Now()
	defer func() { s.t.Logf("%s: %v", when, time.Since(begin).Round(time.Millisecond)) }()
	for _, n := range nodes {
		c := s.crash[n]
		want := c.given() + 2*registryWorkers
		err := lab.Eventually(s.ctx, registryLimit, when+": pods start on "+n.Name, func() error {
			if got := c.given(); got < want {
				return fmt.Errorf("%d addresses given, want %d", got, want)
			}
			return nil
		})
		if err != nil {
			s.t.Fatalf("%v\n%s", err, n.Logs(15))
		}
	}
}

// watchOwners looks for a block that two agents announce. Two looks at one
// frame one at the other, so a block that moves is not seen twice.
func (s *registrySite) watchOwners(ctx context.Context) {
	looks := 0
	for ctx.Err() == nil {
		owner := map[string]*lab.Node{}
		for _, n := range s.workers {
			for cidr, epoch := range s.announced(ctx, n) {
				o := owner[cidr]
				if o == nil {
					owner[cidr] = n
					continue
				}
				first := s.announced(ctx, o)[cidr]
				if again := s.announced(ctx, n)[cidr]; first != 0 && again == epoch {
					s.t.Errorf("%s is announced by %s (epoch %d) and by %s (epoch %d)", cidr, o.Name, first, n.Name, epoch)
				}
			}
		}
		looks++
	}
	s.t.Logf("%d looks at all owners", looks)
}

// announced returns the blocks that a node announces, with their epochs; none
// when its agent does not answer.
func (s *registrySite) announced(ctx context.Context, n *lab.Node) map[string]uint64 {
	out := map[string]uint64{}
	blocks, err := n.Blocks(ctx)
	if err != nil {
		return out
	}
	for _, b := range blocks {
		if b.GetAnnounced() {
			out[b.GetCidr()] = b.GetEpoch()
		}
	}
	return out
}

// agree compares pods, agents and registry in the end.
func (s *registrySite) agree() {
	s.t.Helper()
	seen := map[netip.Addr]string{}
	want := map[*lab.Node]map[string]*crashPod{}
	for i, w := range s.all {
		n := s.workers[i/registryWorkers]
		if want[n] == nil {
			want[n] = map[string]*crashPod{}
		}
		for _, p := range w.pods {
			want[n][p.id] = p
			for _, a := range p.addrs {
				if o := seen[a]; o != "" {
					s.t.Errorf("%v is %.8s's and %.8s's", a, o, p.id)
				}
				seen[a] = p.id
			}
		}
	}
	for _, n := range s.workers {
		err := lab.Eventually(s.ctx, registryLimit, "database, kernel and pods of "+n.Name+" agree", func() error {
			if err := s.crash[n].agree(s.ctx, want[n]); err != nil {
				return err
			}
			return s.inOwnBlocks(n, want[n])
		})
		if err != nil {
			s.t.Errorf("%v\n%s", err, n.Logs(15))
		}
	}
}

// inOwnBlocks wants every pod's address in a block that the registry gives to
// the pod's node, and the registry to name no other blocks of it.
func (s *registrySite) inOwnBlocks(n *lab.Node, pods map[string]*crashPod) error {
	admin, err := n.Admin()
	if err != nil {
		return err
	}
	reply, err := admin.ListBlocks(s.ctx, &onlinkv1.ListBlocksRequest{All: true})
	if err != nil {
		return err
	}
	held := s.announced(s.ctx, n)
	var mine []netip.Prefix
	for _, b := range reply.GetBlocks() {
		if b.GetNode() != n.Name {
			continue
		}
		if held[b.GetCidr()] != b.GetEpoch() {
			return fmt.Errorf("the registry gives %s to %s with epoch %d, announced is %d", b.GetCidr(), n.Name, b.GetEpoch(), held[b.GetCidr()])
		}
		mine = append(mine, netip.MustParsePrefix(b.GetCidr()))
	}
	if len(mine) != len(held) {
		return fmt.Errorf("%s announces %d blocks, the registry has %d of it", n.Name, len(held), len(mine))
	}
	for _, p := range pods {
		if !slices.ContainsFunc(mine, func(b netip.Prefix) bool { return b.Contains(p.addrs[0]) }) {
			return fmt.Errorf("%v of pod %.8s is in no block of %s: %v", p.addrs[0], p.id, n.Name, mine)
		}
	}
	return nil
}

// dropPods ends what is left, so that the folders can go.
func (s *registrySite) dropPods() {
	s.done.Store(true)
	for _, c := range s.crash {
		c.dropLeft()
	}
}

// TestRegistryStranger starts agents whose certificate is missing or of another
// authority: they get no block, say why, and the registry has none of theirs.
func TestRegistryStranger(t *testing.T) {
	s := newRegistrySite(t, registryCase{name: "tls", servers: 1, config: func(s *registrySite) conf.Registry {
		return s.secured(conf.Registry{Kind: "grpc", Address: []string{s.endpoint(s.servers[0])}})
	}})
	s.openAgents()
	known, stranger, plain := s.workers[0], s.workers[1], s.workers[2]
	s.start(known)
	must(t, lab.Eventually(s.ctx, registryLimit, "the node with a certificate has a block", func() error {
		if len(s.announced(s.ctx, known)) == 0 {
			return errors.New("none yet")
		}
		return nil
	}))
	own := s.certs[stranger]
	s.certify()
	other := s.certs[stranger]
	other.CA = own.CA // it trusts the registry, which does not trust it
	s.certs[stranger] = other
	s.start(stranger)
	s.config = func(s *registrySite) conf.Registry {
		return conf.Registry{Kind: "grpc", Address: []string{s.endpoint(s.servers[0])}, Insecure: true}
	}
	s.start(plain)
	for _, n := range []*lab.Node{stranger, plain} {
		must(t, lab.Eventually(s.ctx, registryLimit, "status of "+n.Name+" tells of the registry", func() error { return labtest.Problem(s.ctx, n, "registry:") }))
		if got := s.announced(s.ctx, n); len(got) != 0 {
			t.Errorf("%s has blocks: %v", n.Name, got)
		}
	}
	out, err := known.Ctl(s.ctx, "blocks", "--all")
	must(t, err)
	for _, n := range []*lab.Node{stranger, plain} {
		if strings.Contains(out.Stdout, n.Name) {
			t.Errorf("the registry has blocks of %s:\n%s", n.Name, out.Stdout)
		}
	}
	must(t, syscall.Kill(s.running[known].Pid(), 0)) // it lives
}
