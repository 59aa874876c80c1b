package gobgp

import (
	"context"
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"

	"onlink/bgp/session"
)

// Options are the parameters of a session. Durations have a resolution of one
// second.
type Options struct {
	// Options are the operator's. A Range ignores AllowOwnAS.
	session.Options

	ASN      uint32
	Password string // TCP MD5 key (RFC 2385); "": none
	Device   string // device that the session is bound to; "": none
	// Cluster makes the peer a client that we reflect to, with this CLUSTER_ID
	// (RFC 4456); invalid: it is none.
	Cluster     netip.Addr
	Restart     Restart
	Families    []Family
	MaxPrefixes uint32 // of each family; 0: no limit
	// StaleRoutes bounds how long routes of a peer that restarts are kept; 0: only
	// the peer's restart time does.
	StaleRoutes time.Duration
	// SendPaths is how many paths of an IPv4 prefix may be announced to the peer
	// (RFC 7911); 0: one.
	SendPaths uint8
}

// Restart is how a session takes part in graceful restart (RFC 4724).
type Restart struct {
	Time       time.Duration // how long the peer keeps our routes while we are down
	Deferral   time.Duration // how long we wait for End-of-RIB markers after our restart
	Restarting bool          // this is our restart
}

// Neighbor is a session to one address.
type Neighbor struct {
	Name    string
	Address netip.Addr
	Port    uint16
	Down    bool // administratively
	Passive bool // never dial
	// Yield: the peer dials after the loss of a session. An unpatched engine
	// ignores it.
	Yield bool
	Options
}

// Range accepts sessions from every address in Prefix.
type Range struct {
	Name   string
	Prefix netip.Prefix
	Options
}

// groupOf is the name of the engine's peer group behind a Range. Nothing else uses
// groups: every field of a group, zero ones too, would overwrite that of its
// neighbours.
func groupOf(name string) string { return groupPrefix + name }

const groupPrefix = "dynamic-"

// AddNeighbor adds a session, which the engine opens again whenever it ends.
func (e *Engine) AddNeighbor(n *Neighbor) error {
	return e.server.AddPeer(context.Background(), &api.AddPeerRequest{Peer: n.api()})
}

// UpdateNeighbor changes timers, limits and the password of a session.
func (e *Engine) UpdateNeighbor(n *Neighbor) error {
	_, err := e.server.UpdatePeer(context.Background(), &api.UpdatePeerRequest{Peer: n.api()})
	return err
}

// RemoveNeighbor closes the session to addr with a CEASE and removes it. The
// engine leaves the TCP MD5 key on the listener, where a later session without a
// password would time out in silence: remove the password first.
func (e *Engine) RemoveNeighbor(addr netip.Addr) error {
	return e.server.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: addr.String()})
}

// AddRange makes the engine accept sessions from a range.
func (e *Engine) AddRange(r *Range) error {
	ctx := context.Background()
	if err := e.server.AddPeerGroup(ctx, &api.AddPeerGroupRequest{PeerGroup: r.api()}); err != nil {
		return err
	}
	return e.server.AddDynamicNeighbor(ctx, &api.AddDynamicNeighborRequest{
		DynamicNeighbor: &api.DynamicNeighbor{Prefix: r.Prefix.String(), PeerGroup: groupOf(r.Name)},
	})
}

// CloseRange accepts no more sessions from a range; existing ones stay until
// [Engine.RemoveNeighbor]. Call [Engine.ForgetRange] after that.
func (e *Engine) CloseRange(name string, prefix netip.Prefix) error {
	return e.server.DeleteDynamicNeighbor(context.Background(), &api.DeleteDynamicNeighborRequest{Prefix: prefix.String(), PeerGroup: groupOf(name)})
}

// ForgetRange removes a range that is closed and has no session left.
func (e *Engine) ForgetRange(name string) error {
	return e.server.DeletePeerGroup(context.Background(), &api.DeletePeerGroupRequest{Name: groupOf(name)})
}

// Disable keeps the session to addr down until Enable; the CEASE carries why (RFC
// 9003, cut to 128 bytes). The engine drops a Disable or Enable that comes before
// it has acted on another.
func (e *Engine) Disable(addr netip.Addr, why string) error {
	return e.server.DisablePeer(context.Background(), &api.DisablePeerRequest{Address: addr.String(), Communication: cut(why)})
}

// Enable lets the session to addr come up again.
func (e *Engine) Enable(addr netip.Addr) error {
	return e.server.EnablePeer(context.Background(), &api.EnablePeerRequest{Address: addr.String()})
}

// Reset ends the session to addr with a CEASE that carries why.
func (e *Engine) Reset(addr netip.Addr, why string) error {
	return e.server.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: addr.String(), Communication: cut(why)})
}

// Shutdown ends all sessions with a CEASE that carries why. It becomes a hard
// reset where the N bit was negotiated (RFC 8538), otherwise those peers would keep
// our routes for the restart time.
func (e *Engine) Shutdown(why string) error {
	return e.server.ShutdownPeer(context.Background(), &api.ShutdownPeerRequest{Communication: cut(why)})
}

// Direction is a direction of routes.
type Direction uint8

// The directions.
const (
	In Direction = iota
	Out
	Both
)

// SoftReset applies the policy again to the routes of the session to addr, of all
// sessions for an invalid addr, without touching them (RFC 2918).
func (e *Engine) SoftReset(addr netip.Addr, d Direction) error {
	who := "all"
	if addr.IsValid() {
		who = addr.String()
	}
	dir := [...]api.ResetPeerRequest_SoftResetDirection{
		In: api.ResetPeerRequest_IN, Out: api.ResetPeerRequest_OUT, Both: api.ResetPeerRequest_BOTH,
	}[d]
	return e.server.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: who, Soft: true, Direction: dir})
}

// cut shortens a text to maxCommunication.
func cut(text string) string {
	if len(text) > maxCommunication {
		return text[:maxCommunication]
	}
	return text
}

// maxCommunication is the longest text the engine sends with a CEASE; RFC
// 9003 allows 255 bytes.
const maxCommunication = 128

func (n *Neighbor) api() *api.Peer {
	// A patch encodes Yield as passive with MTU discovery, which nothing else
	// uses. The unpatched engine would never dial.
	yield := n.Yield && Patched() && !n.Passive
	return &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: n.Address.String(), PeerAsn: n.ASN, AuthPassword: n.Password,
			AllowOwnAsn: uint32(n.AllowOwnAS), LocalAsn: n.LocalAS, Description: n.Name, AdminDown: n.Down,
		},
		Timers: n.timers(),
		Transport: &api.Transport{
			PassiveMode: n.Passive || yield, MtuDiscovery: yield, RemotePort: uint32(n.Port),
			LocalAddress: addrText(n.LocalAddress), BindInterface: n.Device,
		},
		RouteReflector:  n.reflector(),
		EbgpMultihop:    n.multihop(),
		TtlSecurity:     n.ttl(),
		GracefulRestart: n.gracefulRestart(),
		AfiSafis:        n.families(),
	}
}

func (r *Range) api() *api.PeerGroup {
	return &api.PeerGroup{
		Conf: &api.PeerGroupConf{
			PeerGroupName: groupOf(r.Name), PeerAsn: r.ASN, LocalAsn: r.LocalAS, AuthPassword: r.Password,
		},
		Timers:          r.timers(),
		Transport:       &api.Transport{PassiveMode: true, LocalAddress: addrText(r.LocalAddress), BindInterface: r.Device},
		RouteReflector:  r.reflector(),
		EbgpMultihop:    r.multihop(),
		TtlSecurity:     r.ttl(),
		GracefulRestart: r.gracefulRestart(),
		AfiSafis:        r.families(),
	}
}

func (o *Options) timers() *api.Timers {
	return &api.Timers{Config: &api.TimersConfig{
		HoldTime: seconds(o.HoldTime), KeepaliveInterval: seconds(o.Keepalive), ConnectRetry: seconds(o.ConnectRetry),
		IdleHoldTimeAfterReset: 1,
	}}
}

func (o *Options) reflector() *api.RouteReflector {
	if !o.Cluster.IsValid() {
		return nil
	}
	return &api.RouteReflector{RouteReflectorClient: true, RouteReflectorClusterId: o.Cluster.String()}
}

// gracefulRestart returns the capability: graceful restart in both roles with the
// N bit (RFC 8538).
func (o *Options) gracefulRestart() *api.GracefulRestart {
	return &api.GracefulRestart{
		Enabled: true, RestartTime: uint32(seconds(o.Restart.Time)), DeferralTime: uint32(seconds(o.Restart.Deferral)),
		NotificationEnabled: true, LocalRestarting: o.Restart.Restarting,
		LonglivedEnabled: o.LongLived > 0, StaleRoutesTime: uint32(seconds(o.StaleRoutes)),
	}
}

func (o *Options) multihop() *api.EbgpMultihop {
	if o.Multihop == 0 {
		return nil
	}
	return &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(o.Multihop)}
}

func (o *Options) ttl() *api.TtlSecurity {
	if o.TTLSecurity == 0 {
		return nil
	}
	return &api.TtlSecurity{Enabled: true, TtlMin: uint32(256 - o.TTLSecurity)}
}

func (o *Options) families() []*api.AfiSafi {
	list := make([]*api.AfiSafi, 0, len(o.Families))
	for _, f := range o.Families {
		a := &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: apiFamily(f), Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
		}
		if o.LongLived > 0 {
			a.LongLivedGracefulRestart = &api.LongLivedGracefulRestart{Config: &api.LongLivedGracefulRestartConfig{
				Enabled: true, RestartTime: uint32(seconds(o.LongLived)),
			}}
		}
		if o.MaxPrefixes > 0 {
			a.PrefixLimits = &api.PrefixLimit{Family: apiFamily(f), MaxPrefixes: o.MaxPrefixes, ShutdownThresholdPct: 75}
		}
		if o.SendPaths > 0 && f == IPv4 {
			a.AddPaths = &api.AddPaths{Config: &api.AddPathsConfig{SendMax: uint32(o.SendPaths)}}
		}
		list = append(list, a)
	}
	return list
}
