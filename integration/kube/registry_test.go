package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/integration/kube/api"
	"onlink/integration/lab"
	"onlink/ipam"
	"onlink/ipam/ipamtest"
	"onlink/ipam/remote"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/client"
	"onlink/kube/registry"
)

// fleet is the registries of all nodes of a cluster as one: a call goes to that of
// its caller's node, as in a cluster.
type fleet struct {
	c         *client.Client
	namespace string
	log       *slog.Logger

	mu    sync.Mutex
	nodes map[string]*registry.Server
}

func newFleet(t *testing.T, s *api.Server) *fleet {
	t.Helper()
	ns, err := s.Client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "onlink-"}}, metav1.CreateOptions{})
	must(t, err)
	must(t, s.Client.Blocks.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	return &fleet{c: s.Client, namespace: ns.Name, log: slog.New(slog.NewTextHandler(t.Output(), nil)), nodes: map[string]*registry.Server{}}
}

// on returns the registry of a node.
func (f *fleet) on(node string) *registry.Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nodes[node] == nil {
		f.nodes[node] = registry.New(registry.Options{
			Client: f.c, Node: node, Namespace: f.namespace, Log: f.log, ListAge: 1,
			All:      func() bool { return true },
			Pool:     func(context.Context, string) (*v1alpha1.IPPool, error) { return nil, nil }, //nolint:nilnil // none has fromNodePodCIDR
			PodCIDRs: func(context.Context) ([]string, error) { return nil, nil },                 // and no Node has one
		})
	}
	return f.nodes[node]
}

func (f *fleet) Claim(ctx context.Context, r ipam.ClaimRequest) (ipam.Block, error) {
	return f.on(r.Node).Claim(ctx, r)
}

func (f *fleet) Release(ctx context.Context, by ipam.Caller, b ipam.Block) error {
	return f.on(by.Node).Release(ctx, by, b)
}

func (f *fleet) Assert(ctx context.Context, by ipam.Caller, held []ipam.Block) ([]ipam.Block, error) {
	return f.on(by.Node).Assert(ctx, by, held)
}

// List asks a registry that has seen nothing, so that the objects answer.
func (f *fleet) List(ctx context.Context, node string) ([]ipam.Block, error) {
	return f.stranger("none").List(ctx, node)
}

func (f *fleet) Nodes(ctx context.Context) ([]ipam.Node, error) { return f.stranger("none").Nodes(ctx) }

func (f *fleet) TakeOver(ctx context.Context, by ipam.Caller, from string, force bool) ([]ipam.Block, error) {
	return f.on(by.Node).TakeOver(ctx, by, from, force)
}

func (f *fleet) ForceRelease(ctx context.Context, node string, force bool) ([]ipam.Block, error) {
	return f.stranger("none").ForceRelease(ctx, node, force)
}

func (f *fleet) stranger(node string) *registry.Server {
	return registry.New(registry.Options{Client: f.c, Node: node, Namespace: f.namespace, Log: f.log, ListAge: 1, All: func() bool { return true }})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRegistryContract plays the contract of every block registry against Block
// objects and Leases of a real API server, each node with a registry of its own.
func TestRegistryContract(t *testing.T) {
	t.Parallel()
	s := api.Start(t)
	ipamtest.RegistryContract(t, func(t *testing.T) ipam.Registry {
		t.Helper()
		return newFleet(t, s)
	})
}

// TestRegistrySocket plays the agent's end: the client of ipam/remote over the Unix
// socket, and what it makes of the answers.
func TestRegistrySocket(t *testing.T) {
	t.Parallel()
	s := api.Start(t)
	f := newFleet(t, s)
	machine := func(instance, address string) ipam.Caller {
		return ipam.Caller{Node: "n1", Instance: instance, Address: netip.MustParseAddr(address), Period: time.Minute}
	}
	first, second := machine("i1", "192.0.2.1"), machine("i2", "192.0.2.2")
	serve := func(o registry.Options) *remote.Registry {
		t.Helper()
		o.Namespace, o.Log = f.namespace, f.log
		if o.Client == nil {
			o.Client = s.Client
		}
		path := filepath.Join(t.TempDir(), "registry.sock")
		lis, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- registry.New(o).Serve(ctx, lis) }()
		t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				t.Errorf("serve: %v", err)
			}
		})
		r, err := remote.Open(remote.ClientConfig{Target: "unix://" + path})
		must(t, err)
		t.Cleanup(func() { must(t, r.Close()) })
		return r
	}
	r := serve(registry.Options{Node: "n1"})
	req := ipamtest.Request("n1")
	req.Caller = first
	b, err := r.Claim(t.Context(), req)
	must(t, err)

	t.Run("a name that another machine holds", func(t *testing.T) {
		_, err := r.Assert(t.Context(), second, nil)
		var held *ipam.HeldError
		if !errors.As(err, &held) || held.Holder.Address != first.Address || held.Holder.Instance != "i1" || held.By.Address != second.Address {
			t.Fatalf("assert of a second machine: %v, want a HeldError with both addresses", err)
		}
	})
	t.Run("another node", func(t *testing.T) {
		other := first
		other.Node = "n2"
		if _, err := r.Assert(t.Context(), other, nil); !errors.Is(err, ipam.ErrInvalidRequest) {
			t.Fatalf("assert for another node: %v", err)
		}
	})
	t.Run("lists of all nodes only on reflectors", func(t *testing.T) {
		if got, err := r.List(t.Context(), "n1"); err != nil || len(got) != 1 || got[0] != b {
			t.Fatalf("own blocks: %v %v, want %v", got, err, b)
		}
		if _, err := r.List(t.Context(), ""); !errors.Is(err, ipam.ErrUnlisted) {
			t.Fatalf("list of all on a node that is no reflector: %v", err)
		}
		if nodes, err := r.Nodes(t.Context()); err != nil || nodes != nil {
			t.Fatalf("nodes on a node that is no reflector: %v %v", nodes, err)
		}
	})
	t.Run("an API server that forbids", func(t *testing.T) {
		c, err := client.New(s.User(t, "stranger"))
		must(t, err)
		r := serve(registry.Options{Node: "n1", Client: c})
		for what, err := range map[string]error{
			"assert": errorOf(r.Assert(t.Context(), first, []ipam.Block{b})), "release": r.Release(t.Context(), first, b),
			"claim": errorOf(r.Claim(t.Context(), req)), "list": errorOf(r.List(t.Context(), "n1")),
		} {
			wantOutage(t, what, err, "forbids")
		}
	})
	t.Run("CRDs are gone", func(t *testing.T) {
		must(t, s.DeleteCRD(t.Context(), "blocks"))
		for what, err := range map[string]error{
			"assert": errorOf(r.Assert(t.Context(), first, []ipam.Block{b})), "release": r.Release(t.Context(), first, b),
		} {
			wantOutage(t, what, err, "apply the CRDs")
		}
		must(t, s.RestoreCRD(t.Context(), "blocks"))
		if lost, err := r.Assert(t.Context(), first, []ipam.Block{b}); err != nil || len(lost) != 0 {
			t.Fatalf("assert after the CRD came back: lost %v, %v", lost, err)
		}
		if got, err := r.List(t.Context(), "n1"); err != nil || len(got) != 1 || got[0] != b {
			t.Fatalf("the block was not recorded again: %v %v", got, err)
		}
		// Other nodes have not asserted theirs yet.
		if other, err := r.Claim(t.Context(), req); !errors.Is(err, ipam.ErrSettling) {
			t.Fatalf("claimed %v just after all Blocks were lost: %v", other, err)
		}
	})
	t.Run("an API server that does not answer", func(t *testing.T) {
		must(t, s.Pause())
		defer func() { must(t, s.Continue()) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Assert(ctx, first, []ipam.Block{b})
		wantOutage(t, "assert", err, "")
	})
}

func errorOf[T any](_ T, err error) error { return err }

// wantOutage wants the error of a registry that does not answer, which leaves a node
// its blocks.
func wantOutage(t *testing.T, what string, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Fatalf("%s: %v, want %q", what, err, words)
	}
	for _, answer := range []error{
		ipam.ErrRefused, ipam.ErrNotOwner, ipam.ErrBlockTaken, ipam.ErrPoolExhausted, ipam.ErrInvalidRequest, ipam.ErrSettling,
	} {
		if errors.Is(err, answer) {
			t.Fatalf("%s: %v is an answer of a registry, want an outage", what, err)
		}
	}
}

// TestRegistryPodCIDR: the block of a node is its Node.spec.podCIDR where the pool
// says so.
func TestRegistryPodCIDR(t *testing.T) {
	t.Parallel()
	s := api.Start(t)
	f := newFleet(t, s)
	ctx := t.Context()
	_, err := s.Client.Pools.Create(ctx, &v1alpha1.IPPool{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec:       v1alpha1.IPPoolSpec{CIDR: "10.244.0.0/16", FromNodePodCIDR: true},
	}, metav1.CreateOptions{})
	must(t, err)
	for name, cidrs := range map[string][]string{"n1": {"10.244.7.0/24", "fd00:244:0:7::/64"}, "n2": nil, "n3": {"10.99.0.0/24"}} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if len(cidrs) > 0 {
			n.Spec.PodCIDR, n.Spec.PodCIDRs = cidrs[0], cidrs
		}
		_, err := s.Client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
		must(t, err)
	}
	claim := func(node string) (ipam.Block, error) {
		r := registry.New(registry.Options{Client: s.Client, Node: node, Namespace: f.namespace, Log: f.log})
		return r.Claim(ctx, ipam.ClaimRequest{
			Caller: ipam.Caller{Node: node}, Pool: "default", PoolCIDR: netip.MustParsePrefix("10.244.0.0/16"), BlockSize: 24,
		})
	}
	if b, err := claim("n1"); err != nil || b.CIDR != netip.MustParsePrefix("10.244.7.0/24") {
		t.Fatalf("claim of n1: %v %v, want its podCIDR", b, err)
	}
	if _, err := claim("n1"); !errors.Is(err, ipam.ErrPoolExhausted) {
		t.Fatalf("second claim of n1: %v, want the pool to be exhausted", err)
	}
	_, err = claim("n2")
	wantOutage(t, "claim of a node without podCIDR", err, "--allocate-node-cidrs")
	_, err = claim("n3")
	wantOutage(t, "claim of a node with another podCIDR", err, "10.99.0.0/24")
}

// TestRegistryFullPool: in a pool of 1,024 blocks of which 1,000 are owned or freed,
// a node finds what is left with a bounded number of calls, and the freed ones too.
func TestRegistryFullPool(t *testing.T) {
	t.Parallel()
	s := api.Start(t)
	f := newFleet(t, s)
	req := ipamtest.Request("late")
	req.PoolCIDR = netip.MustParsePrefix("10.244.0.0/16")
	req.Reserved = []netip.Prefix{netip.MustParsePrefix("10.244.128.0/18")}
	free := 0
	var g errgroup.Group
	g.SetLimit(16)
	for n := range req.Count() {
		p := req.At(n)
		node := "early"
		switch {
		case req.Reserved[0].Contains(p.Addr()):
			continue
		case n%128 == 5:
			node, free = "", free+1
		case n%128 == 77:
			free++
			continue
		}
		o := &v1alpha1.Block{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.BlockName(p)}}
		o.Labels = map[string]string{"onlink.io/size4": "26"}
		if node != "" {
			o.Labels[v1alpha1.NodeLabel] = node
		}
		o.Spec = v1alpha1.BlockSpec{CIDR: v1alpha1.CIDR(p.String()), Pool: "default", Node: node, Epoch: 9}
		g.Go(func() error {
			_, err := s.Client.Blocks.Create(t.Context(), o, metav1.CreateOptions{})
			return err
		})
	}
	must(t, g.Wait())
	seen := map[netip.Prefix]bool{}
	for range free {
		b, err := f.Claim(t.Context(), req)
		must(t, err)
		if seen[b.CIDR] || req.Reserved[0].Contains(b.CIDR.Addr()) || b.Epoch <= 9 {
			t.Fatalf("claimed %+v of %v", b, seen)
		}
		seen[b.CIDR] = true
	}
	if b, err := f.Claim(t.Context(), req); !errors.Is(err, ipam.ErrPoolExhausted) {
		t.Fatalf("claimed %v of a full pool: %v", b, err)
	}
}

// TestRegistryDoubt: an assert and the controller, which frees a block in two writes
// with a look at the Lease in between, never both succeed.
func TestRegistryDoubt(t *testing.T) {
	t.Parallel()
	s := api.Start(t)
	f := newFleet(t, s)
	ctx := t.Context()
	req := ipamtest.Request("n1")
	req.Caller = ipam.Caller{Node: "n1", Instance: "i1", Address: netip.MustParseAddr("192.0.2.1"), Period: time.Minute}
	b, err := f.Claim(ctx, req)
	must(t, err)
	name := v1alpha1.BlockName(b.CIDR)
	lease := func() string {
		l, err := s.Client.CoordinationV1().Leases(f.namespace).Get(ctx, registry.LeaseName("n1"), metav1.GetOptions{})
		must(t, err)
		return l.ResourceVersion
	}
	doubt := func() *v1alpha1.Block {
		o, err := s.Client.Blocks.Get(ctx, name, metav1.GetOptions{})
		must(t, err)
		metav1.SetMetaDataAnnotation(&o.ObjectMeta, registry.DoubtedAnnotation, "true")
		o, err = s.Client.Blocks.Update(ctx, o, metav1.UpdateOptions{})
		must(t, err)
		return o
	}
	free := func(o *v1alpha1.Block) error {
		o = o.DeepCopy()
		o.Spec.Node, o.Spec.Epoch = "", o.Spec.Epoch+1
		delete(o.Labels, v1alpha1.NodeLabel)
		_, err := s.Client.Blocks.Update(ctx, o, metav1.UpdateOptions{})
		return err
	}
	before := lease()
	for what, call := range map[string]func() error{
		"an assert": func() error {
			lost, err := f.Assert(ctx, req.Caller, []ipam.Block{b})
			if err == nil && len(lost) > 0 {
				err = fmt.Errorf("lost %v", lost)
			}
			return err
		},
		"an assert of a machine without its database": func() error { return errorOf(f.Assert(ctx, req.Caller, nil)) },
		"a claim of the own block": func() error {
			again := req
			again.Block = b.CIDR
			got, err := f.Claim(ctx, again)
			if err == nil && got != b {
				err = fmt.Errorf("got %v, want %v", got, b)
			}
			return err
		},
	} {
		doubted := doubt()
		must(t, call())
		if after := lease(); after == before {
			t.Errorf("%s did not renew the Lease: the controller's look would show a silent machine", what)
		} else {
			before = after
		}
		if err := free(doubted); !apierrors.IsConflict(err) {
			t.Fatalf("the controller freed the block after %s: %v", what, err)
		}
	}
	must(t, free(doubt()))
	if lost, err := f.Assert(ctx, req.Caller, []ipam.Block{b}); err != nil || len(lost) != 1 {
		t.Fatalf("assert of a freed block: lost %v, %v, want the block", lost, err)
	}
}

// TestRegistryLost: where Blocks are lost no node claims before every node had time for
// an assert, also a node that has not asserted since, and one without a block.
func TestRegistryLost(t *testing.T) {
	t.Parallel()
	s := api.Start(t)
	f := newFleet(t, s)
	ctx := t.Context()
	req := func(node string, last byte) ipam.ClaimRequest {
		r := ipamtest.Request(node)
		r.Caller = ipam.Caller{Node: node, Instance: "i-" + node, Address: netip.AddrFrom4([4]byte{192, 0, 2, last}), Period: time.Second}
		return r
	}
	blocks := map[string]ipam.Block{}
	for i, node := range []string{"b", "c"} {
		b, err := f.Claim(ctx, req(node, byte(i)))
		must(t, err)
		_, err = f.Assert(ctx, req(node, byte(i)).Caller, []ipam.Block{b})
		must(t, err)
		blocks[node] = b
	}
	must(t, s.Client.Blocks.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	for i, node := range []string{"b", "new"} {
		if got, err := f.Claim(ctx, req(node, byte(2*i))); !errors.Is(err, ipam.ErrSettling) {
			t.Fatalf("node %s claimed %v after all Blocks were lost: %v", node, got, err)
		}
	}
	must(t, lab.Eventually(ctx, 30*time.Second, "claims after every node asserted", func() error {
		for i, node := range []string{"b", "c"} {
			if lost, err := f.Assert(ctx, req(node, byte(i)).Caller, []ipam.Block{blocks[node]}); err != nil || len(lost) > 0 {
				return fmt.Errorf("assert of %s: lost %v, %w", node, lost, err)
			}
		}
		got, err := f.Claim(ctx, req("new", 2))
		if err == nil && (got.CIDR == blocks["b"].CIDR || got.CIDR == blocks["c"].CIDR) {
			t.Fatalf("new claimed %v, which is another's", got)
		}
		return err
	}))
}
