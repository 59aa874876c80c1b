package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"onlink/agent/config"
	"onlink/agent/endpoint"
	"onlink/agent/hold"
	"onlink/agent/logs"
	"onlink/agent/node"
	"onlink/agent/pods"
	"onlink/agent/reload"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/internal/version"
)

// ErrRestart is returned by [Run] when the agent must begin anew, because the
// node's address has changed, or the file with a change that needs it. Routes and
// pods stay, the sessions restart gracefully (RFC 4724): the caller executes the
// program again.
var ErrRestart = errors.New("the agent begins anew")

// Run runs one agent until ctx ends or a part of it fails. Routes, tunnels and
// pods stay in the kernel: the next run adopts them. The error of a failed start
// is one line that names the setting to change; [ErrRestart] requires another
// run.
func Run(ctx context.Context, cfg *config.Config, opt Options) error {
	lines := logs.New(os.Stderr, cfg.Log.Level, cfg.Log.Format == config.LogJSON)
	log := lines.Logger()
	a := &agent{log: log, logs: lines, started: time.Now(), opt: opt, board: state.NewBoard(), held: hold.New(log.With("part", "hold"))}
	log.Info("starting", "version", version.Get().Version, "engine", bgp.Engine(), "node", cfg.Node.Name)
	if err := os.MkdirAll(cfg.Paths.Run, 0o755); err != nil {
		return fmt.Errorf("paths.run: %w", err)
	}
	if err := os.MkdirAll(cfg.Paths.State, 0o700); err != nil {
		return fmt.Errorf("paths.state: %w", err)
	}
	defer a.close()
	if err := a.open(ctx, cfg); err != nil {
		return err
	}
	socks, err := a.listen()
	if err != nil {
		return err
	}
	defer socks.Close()
	return a.serve(ctx, socks)
}

// serve runs every long-lived part; the first that fails ends the others.
func (a *agent) serve(ctx context.Context, socks *endpoint.Set) error {
	for _, note := range a.current().IPAM.Registry.Notes() {
		a.log.Warn("configured with a consequence", "note", note)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.watch.Run(ctx) })
	g.Go(func() error { return a.alloc.Run(ctx) })
	g.Go(func() error { return a.speaker.Run(ctx) })
	g.Go(func() error { return a.learn.Run(ctx) })
	g.Go(func() error { return a.survey(ctx) })
	g.Go(func() error { return a.owners.Run(ctx) })
	g.Go(func() error { return a.orig.Run(ctx) })
	mtu := &pods.MTU{Log: a.log.With("part", "pods"), Now: a.learn.plane.PodMTU, Moved: a.learn.plane.MTUMoved(), Store: a.store, Assignments: a.alloc.Assignments}
	g.Go(func() error { return mtu.Run(ctx) })
	g.Go(func() error { return a.bfd.Run(ctx) })
	g.Go(func() error { return a.live.Run(ctx) })
	g.Go(func() error { return a.stations.Run(ctx) })
	g.Go(func() error { return a.reload.Run(ctx) })
	near := &node.Unnumbered{Log: a.log.With("part", "unnumbered"), Config: a.reload, IsUp: a.speaker.IsUp}
	g.Go(func() error { return near.Run(ctx) })
	g.Go(func() error { return a.follow.Run(ctx) })
	g.Go(func() error { return a.host.Run(ctx) })
	g.Go(func() error { return a.garbage.Run(ctx) })
	g.Go(func() error { return a.glass.Run(ctx) })
	cfg := a.current()
	if a.installer != nil {
		g.Go(func() error { return a.installer.Run(ctx) })
	}
	socks.Serve(ctx, g)
	a.log.Info("ready", "address", a.id.Primary(), "asn", cfg.BGP.ASN, "cni_socket", cfg.CNI.Socket, "admin_socket", cfg.API.Admin.Socket)
	err := g.Wait()
	a.log.Info("stopped, routes and pods stay as they are")
	if errors.Is(err, node.ErrMoved) || errors.Is(err, reload.ErrAnew) {
		return fmt.Errorf("%w: %w", ErrRestart, err)
	}
	return err
}

// close releases the resources of open; rooms that open did not reach are nil.
func (a *agent) close() {
	if a.learn != nil {
		if err := a.learn.fib.Close(); err != nil {
			a.log.Warn("close route sockets", "err", err)
		}
	}
	if a.registry != nil {
		if err := a.registry.Close(); err != nil {
			a.log.Warn("close connections to the block registry", "err", err)
		}
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			a.log.Warn("close database", "err", err)
		}
	}
}
