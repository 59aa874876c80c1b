package preflight

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"

	"onlink/agent/config"
	"onlink/agent/node"
	"onlink/agent/rooms"
	"onlink/bgp"
	"onlink/fib/underlay"
	"onlink/nft"
	"onlink/tunnel"
)

// Machine returns the mistakes that the file, or the file and this machine show.
// What this process may not open it cannot judge: run it as root. The error is
// that of reading the kernel's state.
func Machine(ctx context.Context, c *config.Config, s Setup) (config.Errors, error) {
	m := &machine{report: report{Config: c}, Setup: s, watch: underlay.New(slog.New(slog.DiscardHandler), s.OwnDevice)}
	if err := m.watch.Load(); err != nil {
		return nil, err
	}
	m.file()
	m.runs = answers(c.API.Admin.Socket) || answers(c.CNI.Socket)
	m.paths()
	m.groups()
	m.keys()
	m.certificates()
	m.plugin()
	m.sockets()
	m.addresses()
	m.links()
	m.neighbours()
	m.guard()
	err := m.resolve(ctx)
	return m.sorted(), err
}

// resolve finds the node's identity and the meaning of the file there, as the start
// does, and has the speaker judge the sessions.
func (m *machine) resolve(ctx context.Context) error {
	id, err := node.IdentifySoon(ctx, m.Config, m.watch)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		m.fail("node.address", "%s", strings.TrimPrefix(err.Error(), "node.address: "))
		return nil
	}
	m.ownPeers(func(a netip.Addr) bool { return own(m.watch.Addresses())(a) })
	facts := node.Surroundings{Host: m.watch, ID: id}.Facts()
	facts.Routers = node.RoutersNow(m.BGP.Peers)
	effective, err := config.Resolve(m.Config, facts)
	mistakes, ok := errors.AsType[config.Errors](err)
	if err != nil && !ok {
		return err
	}
	for _, e := range mistakes {
		m.fail(e.Field, "%s", e.Text)
	}
	if len(m.errs) == 0 { // else the sessions are judged when the rest is right
		m.speaker(ctx, effective, id)
	}
	return nil
}

// speaker has the speaker judge its configuration, as at the start.
func (m *machine) speaker(ctx context.Context, c *config.Effective, id node.Identity) {
	s, err := sessions(ctx, c, id)
	if errors.Is(err, fs.ErrPermission) {
		return
	}
	var origins []bgp.Origin
	for _, p := range c.BGP.Originate {
		if id.Reaches(p) {
			origins = append(origins, bgp.Origin{Prefix: p})
		}
	}
	if err == nil {
		err = s.SetOrigins(ctx, origins)
	}
	if err != nil {
		m.fail("bgp", "%v", err)
	}
}

// sessions returns a speaker that was not started, with the sessions of a configuration:
// a reload has it judge as much.
func sessions(ctx context.Context, c *config.Effective, id node.Identity) (*bgp.Speaker, error) {
	peers, dynamic, err := rooms.Peers(c)
	if err != nil {
		return nil, err
	}
	conf := rooms.BGP(c, id, false, slog.New(slog.DiscardHandler))
	conf.AllowUnpatched = true
	s, err := bgp.New(conf)
	if err != nil {
		return nil, err
	}
	return s, s.SetPeers(ctx, peers, dynamic)
}

// guard requires nftables where the file does.
func (m *machine) guard() {
	if m.Tunnel.Guard != tunnel.GuardRequired {
		return
	}
	if err := nft.Supported(); errors.Is(err, nft.ErrUnsupported) {
		m.fail("tunnel.guard", "is required, and this kernel cannot have it: %v; load nf_tables, or set auto", err)
	}
}
