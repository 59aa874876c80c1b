package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"onlink/integration/lab"
)

// hosts' numbers on the switch between the ToRs.
const (
	controlNumber = 250
	clientNumber  = 251
)

// Start starts a cluster. It returns when the API server serves and every node has
// registered, and with a network of its own when every node is Ready. On an error
// nothing is left but what the error says.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("start cluster: namespaces need root")
	}
	spec := lab.Spec{
		Name: o.Name, Racks: o.Racks, NodesPerRack: o.NodesPerRack, ToRsPerRack: o.ToRsPerRack,
		Reflectors: -1, DualStack: o.DualStack, Pool: lab.Pool{Tunnel: "none"},
	}
	if o.DualStack {
		spec.Pool.CIDR6 = o.Pods[len(o.Pods)-1]
	}
	began := time.Now()
	c := &Cluster{Options: o, programs: map[string]*lab.Process{}, serving: make(chan struct{})}
	if c.Lab, err = lab.Build(ctx, spec, lab.Options{}); err != nil {
		return nil, err
	}
	// The name is ours now: what a killed cluster of that name left can go.
	err = errors.Join(removeCgroups(clusterCgroup(o.Name)), c.start(ctx))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster %s: %w", o.Name, err), errors.New(c.Logs(20)), c.Stop())
	}
	o.Progress("cluster %s is up after %s: %d nodes", o.Name, time.Since(began).Round(100*time.Millisecond), len(c.Nodes))
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	c.own = filepath.Join(c.Lab.Dir, "programs")
	var building errgroup.Group
	building.Go(func() error { return c.build(ctx) })
	if err := errors.Join(c.wire(), c.makeCredentials()); err != nil {
		return errors.Join(err, building.Wait())
	}
	c.configure()
	starting, starts := errgroup.WithContext(ctx)
	starting.Go(func() error {
		began := time.Now()
		if err := c.startControl(starts); err != nil {
			return err
		}
		close(c.serving)
		c.Options.Progress("control plane serves after %s", time.Since(began).Round(100*time.Millisecond))
		return nil
	})
	if err := building.Wait(); err != nil {
		return errors.Join(err, starting.Wait())
	}
	for _, n := range c.Nodes {
		starting.Go(func() error {
			began := time.Now()
			if err := n.boot(starts); err != nil {
				return err
			}
			c.Options.Progress("%s (%s) runs after %s", n.Name, n.Addr, time.Since(began).Round(100*time.Millisecond))
			return nil
		})
	}
	if err := starting.Wait(); err != nil {
		return err
	}
	return c.waitNodes(ctx)
}

// wire connects the hosts, and adds the routes that no routing protocol brings.
func (c *Cluster) wire() error {
	var err error
	if c.Control, err = c.Lab.AddHost("control", controlNumber); err != nil {
		return err
	}
	if c.Client, err = c.Lab.AddHost("client", clientNumber); err != nil {
		return err
	}
	for _, n := range c.Lab.Nodes() {
		c.Nodes = append(c.Nodes, &Node{Node: n, cluster: c})
	}
	return errors.Join(c.routeRacks(), c.routePods())
}

// build makes the harness's own programs and images.
func (c *Cluster) build(ctx context.Context) error {
	if c.Options.Own != "" {
		c.own = c.Options.Own
	} else if err := Programs(ctx, c.own); err != nil {
		return err
	}
	return errors.Join(
		writeImage(c.ownImages()[0], PauseImage, c.program("pause")),
		writeImage(c.ownImages()[1], HelloImage, c.program("hello")))
}

// program names one of the harness's own programs.
func (c *Cluster) program(name string) string { return filepath.Join(c.own, name) }

func (c *Cluster) ownImages() []string {
	return []string{filepath.Join(c.Lab.Dir, "pause.tar"), filepath.Join(c.Lab.Dir, "hello.tar")}
}

// images are the archives that every new node loads.
func (c *Cluster) images() []string { return append(c.ownImages(), c.Options.Images...) }

// LoadImages loads archives of images into every node's containerd.
func (c *Cluster) LoadImages(ctx context.Context, archives ...string) error {
	var all errgroup.Group
	for _, n := range c.Nodes {
		all.Go(func() error { return n.LoadImages(ctx, archives...) })
	}
	return all.Wait()
}

// Node returns the node of that name; it panics when there is none, which is a
// mistake in the caller's program.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n
		}
	}
	panic("cluster: no node " + name)
}

// Stop ends the cluster and removes everything that it made. It is idempotent.
func (c *Cluster) Stop() error {
	var errs []error
	if c.forward != nil {
		errs = append(errs, c.forward.Close())
		c.forward = nil
	}
	var ending sync.WaitGroup
	ends := make([]error, len(c.Nodes))
	for i, n := range c.Nodes {
		ending.Go(func() { ends[i] = n.end() })
	}
	ending.Wait()
	errs = append(errs, ends...)
	for _, p := range c.programs {
		errs = append(errs, p.Kill())
	}
	return errors.Join(append(errs, removeCgroups(clusterCgroup(c.Options.Name)), c.Lab.Close())...)
}

// Remove removes what a killed cluster of that name left; of a running one it
// returns [lab.ErrInUse].
func Remove(name string) error {
	if err := lab.Remove(name); err != nil {
		return err
	}
	return removeCgroups(clusterCgroup(name))
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
