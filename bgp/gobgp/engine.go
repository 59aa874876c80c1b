package gobgp

import (
	"context"
	"errors"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// Engine is a running BGP engine.
type Engine struct {
	server    *server.BgpServer
	reporter  Reporter
	policies  uint64       // the number of policies installed so far
	installed *policyBuild // nil before the first policy
}

// Global is the engine's own configuration: its identity and its listeners.
type Global struct {
	ASN      uint32
	RouterID netip.Addr
	Port     uint16       // 0: it does not listen
	Listen   []netip.Addr // empty: all addresses
}

// Start runs an engine that reports to r. An error wraps that of the system call;
// no listener is left open then.
func Start(ctx context.Context, r Reporter, g Global) (*Engine, error) {
	e := &Engine{server: server.NewBgpServer(server.LoggerOption(&logger{to: r})), reporter: r}
	go e.server.Serve()
	if err := e.server.StartBgp(ctx, &api.StartBgpRequest{Global: g.api()}); err != nil {
		// A failed start keeps the listeners it opened.
		return nil, errors.Join(err, e.Stop())
	}
	return e, nil
}

// Stop closes the listeners, and all sessions with a CEASE.
func (e *Engine) Stop() error {
	return e.server.StopBgp(context.Background(), &api.StopBgpRequest{})
}

func (g Global) api() *api.Global {
	out := &api.Global{
		Asn: g.ASN, RouterId: g.RouterID.String(), ListenPort: -1,
		Families:         []uint32{0, 1}, // IPv4 and IPv6 unicast; all others would cost a table each
		UseMultiplePaths: true,
		// The older of two equal eBGP paths would win by default: after a
		// restart nodes would disagree.
		RouteSelectionOptions: &api.RouteSelectionOptionsConfig{ExternalCompareRouterId: true},
	}
	if g.Port != 0 {
		out.ListenPort = int32(g.Port)
		for _, a := range g.Listen {
			out.ListenAddresses = append(out.ListenAddresses, a.String())
		}
	}
	return out
}
