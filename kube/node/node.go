package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/certificate"
	"onlink/kube/client"
	"onlink/kube/registry"
)

// Options describe the process of one node.
type Options struct {
	Log    *slog.Logger
	Client *client.Client
	// Version is that of the program, for the metrics.
	Version string
	// Node is the name of this machine's Node.
	Node string
	// Namespace is onlink's, where Secrets and Leases are.
	Namespace string
	// AdminSocket is the agent's.
	AdminSocket string
	// RegistrySocket is served to the agent.
	RegistrySocket string
	// Certificates is the folder that has the agent's certificate.
	Certificates string
	// Health is the address and port of /healthz and /metrics; empty: none.
	Health string
}

// validate names the flags: the caller has them from there.
func (o *Options) validate() error {
	for _, f := range []struct{ flag, value string }{
		{"--node-name", o.Node},
		{"--namespace", o.Namespace},
		{"--admin-socket", o.AdminSocket},
		{"--registry-socket", o.RegistrySocket},
		{"--certificates", o.Certificates},
	} {
		if strings.TrimSpace(f.value) == "" {
			return fmt.Errorf("%s is empty: set it", f.flag)
		}
	}
	return nil
}

// Run is the process beside an agent, until ctx ends; it returns nil then. Neither
// an API server nor an agent that is away ends it.
func Run(ctx context.Context, opt Options) error {
	if err := opt.validate(); err != nil {
		return err
	}
	desired, status, drained, reported, certified := newBell(), newBell(), newBell(), newBell(), newBell()
	gone, m := newDeletions(), newMeter(opt.Version)
	o := newObjects(opt.Client, opt.Log, opt.Node, opt.Namespace, gone.add, desired, drained, reported, certified)
	agent, err := dial(opt.AdminSocket, opt.Log, status, drained, reported)
	if err != nil {
		return fmt.Errorf("--admin-socket: %w", err)
	}
	out := &outcomes{bells: []bell{reported}}
	dr := &drainer{log: opt.Log, objects: o, link: agent, wake: drained, bells: []bell{desired, reported}, at: serving}
	d := &desire{
		log: opt.Log, objects: o, link: agent, gone: gone, drain: dr, out: out, meter: m,
		input: desired, status: status, used: map[string]bool{}, holds: map[string]holding{}, proxy: newProxy(opt.Log),
	}
	ca := &certifier{
		log: opt.Log, client: opt.Client, objects: o, node: opt.Node, folder: certificate.Folder(opt.Certificates), wake: certified, show: reported,
	}
	ev := newEvents(opt.Log, opt.Client, opt.Node)
	r := &reporter{log: opt.Log, objects: o, link: agent, drain: dr, out: out, ca: ca, events: ev, meter: m, wake: reported}
	m.watch(o, agent, out, ca)

	lis, err := listen(opt.RegistrySocket)
	if err != nil {
		return fmt.Errorf("--registry-socket: %w", err)
	}
	reg := registry.New(registry.Options{
		Client: opt.Client, Node: opt.Node, Namespace: opt.Namespace, Log: opt.Log,
		All: func() bool {
			s, _, _ := agent.last()
			return out.get().everyNode || s.GetReflector()
		},
		Pool:     func(_ context.Context, name string) (*v1alpha1.IPPool, error) { return o.pool(name) },
		PodCIDRs: func(context.Context) ([]string, error) { return o.podCIDRs() },
	})

	g, ctx := errgroup.WithContext(ctx)
	o.start(ctx)
	g.Go(func() error { return reg.Serve(ctx, lis) })
	g.Go(func() error { return agent.run(ctx) })
	g.Go(func() error { return d.run(ctx) })
	g.Go(func() error { return dr.run(ctx) })
	g.Go(func() error { return r.run(ctx) })
	g.Go(func() error { return ca.run(ctx) })
	g.Go(func() error { return ev.run(ctx) })
	if opt.Health != "" {
		g.Go(func() error { return m.serve(ctx, opt.Health) })
	}
	err = g.Wait()
	o.wait()
	return err
}

// watch registers what the metrics read from others.
func (m *meter) watch(o *objects, l *link, out *outcomes, ca *certifier) {
	m.add("onlink_kube_problems", "Faults that a person has to mend, such as no OnlinkConfig, or a kind that the API server does not have.", false, func() float64 {
		lines, _ := o.troubles()
		return float64(len(lines) + len(out.get().problems) + len(ca.problems()))
	})
	m.add("onlink_kube_watch_failures_total", "Requests of watches that the API server did not answer or rejected.", true, func() float64 {
		return float64(o.failedWatches())
	})
	m.add("onlink_kube_watch_restarts_total", "Lists after the first of the watches of configuration objects.", true, func() float64 { return float64(o.relists()) })
	m.add("onlink_kube_api_server_up", "1 while the API server answers the watches.", false, func() float64 {
		_, away := o.troubles()
		return truth(!away)
	})
	m.add("onlink_kube_agent_up", "1 while the agent's status is received.", false, func() float64 {
		_, _, up := l.last()
		return truth(up)
	})
	m.add("onlink_kube_held_changes", "Changes that the agent holds until they are confirmed.", false, func() float64 {
		s, _, _ := l.last()
		return float64(len(s.GetHeld()))
	})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// listen opens a unix socket of which group and mode admit the agent: it is root
// without the capability to pass modes over, and has this process's group. A
// leftover file of a killed process is replaced.
func listen(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close() // only a probe
		return nil, fmt.Errorf("%s is served by another process: stop it or choose another path", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	lis, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // the agent's group
		lis.Close() // the error that matters is err
		return nil, err
	}
	return lis, nil
}
