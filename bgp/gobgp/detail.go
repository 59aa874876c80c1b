package gobgp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"google.golang.org/protobuf/types/known/anypb"
)

// Detail is the engine's state of one session in detail.
type Detail struct {
	Local    netip.Addr // our end; the zero Addr while there is no connection
	RouterID netip.Addr // the peer's; the zero Addr while the session is down
	// Hold, Keepalive and Retry are configured; the negotiated ones are zero while the
	// session is down.
	Hold, Keepalive, Retry              time.Duration
	NegotiatedHold, NegotiatedKeepalive time.Duration
	// Ours are the capabilities that we offer, Theirs those in the peer's last OPEN.
	Ours, Theirs   []Capability
	Sent, Received Messages
	Families       []FamilyState
}

// Capability is one capability of an OPEN (RFC 5492).
type Capability struct {
	Code  uint8
	Name  string // "graceful restart"
	Value string // "120s, N bit; ipv4 F bit"; may hold text of the peer
}

// Messages counts messages by their type.
type Messages struct{ Open, Update, Notification, Keepalive, Refresh, Discarded, Total uint64 }

// FamilyState counts the routes of one family of a session.
type FamilyState struct {
	Family             Family
	Received, Accepted int
}

// Detail returns the state of the session to addr in detail; false when there is
// none.
func (e *Engine) Detail(addr netip.Addr) (d Detail, ok bool, err error) {
	err = e.server.ListPeer(context.Background(), &api.ListPeerRequest{Address: addr.String()}, func(p *api.Peer) {
		d, ok = detailOf(p), true
	})
	return d, ok, err
}

func detailOf(p *api.Peer) Detail {
	st, conf, timers := p.GetState(), p.GetTimers().GetConfig(), p.GetTimers().GetState()
	d := Detail{
		Hold: span(conf.GetHoldTime()), Keepalive: span(conf.GetKeepaliveInterval()), Retry: span(conf.GetConnectRetry()),
		Ours: capabilityList(st.GetLocalCap()), Theirs: capabilityList(st.GetRemoteCap()),
		Sent: messagesOf(st.GetMessages().GetSent()), Received: messagesOf(st.GetMessages().GetReceived()),
	}
	if st.GetSessionState() == api.PeerState_ESTABLISHED {
		d.NegotiatedHold, d.NegotiatedKeepalive = span(timers.GetNegotiatedHoldTime()), span(timers.GetKeepaliveInterval())
		d.RouterID, _ = netip.ParseAddr(st.GetRouterId())
	}
	if a, err := netip.ParseAddr(p.GetTransport().GetLocalAddress()); err == nil && !a.IsUnspecified() {
		d.Local = a.Unmap()
	}
	for _, f := range p.GetAfiSafis() {
		family := familyOf(apiutil.ToRouteFamily(f.GetConfig().GetFamily()))
		d.Families = append(d.Families, FamilyState{
			Family: family, Received: int(f.GetState().GetReceived()), Accepted: int(f.GetState().GetAccepted()),
		})
	}
	return d
}

func span(seconds uint64) time.Duration { return time.Duration(seconds) * time.Second }

func messagesOf(m *api.Message) Messages {
	return Messages{
		Open: m.GetOpen(), Update: m.GetUpdate(), Notification: m.GetNotification(), Keepalive: m.GetKeepalive(),
		Refresh: m.GetRefresh(), Discarded: m.GetDiscarded(), Total: m.GetTotal(),
	}
}

// capabilityList returns capabilities in words, by code and value. Those that one OPEN
// repeats, one a family, stay apart; those that cannot be decoded are left out.
func capabilityList(list []*anypb.Any) []Capability {
	out := make([]Capability, 0, len(list))
	for i := range list {
		decoded, err := apiutil.UnmarshalCapabilities(list[i : i+1])
		if err != nil || len(decoded) != 1 {
			continue
		}
		name, value := capabilityText(decoded[0])
		out = append(out, Capability{Code: uint8(decoded[0].Code()), Name: name, Value: value})
	}
	slices.SortFunc(out, func(a, b Capability) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
	return slices.Compact(out)
}

// capabilityText names a capability and its value.
func capabilityText(c bgp.ParameterCapabilityInterface) (name, value string) {
	switch c := c.(type) {
	case *bgp.CapMultiProtocol:
		return "family " + familyText(c.CapValue), ""
	case *bgp.CapRouteRefresh:
		return "route refresh", ""
	case *bgp.CapEnhancedRouteRefresh:
		return "enhanced route refresh", ""
	case *bgp.CapRouteRefreshCisco:
		return "route refresh (before RFC 2918)", ""
	case *bgp.CapFourOctetASNumber:
		return "four-octet AS", strconv.FormatUint(uint64(c.CapValue), 10)
	case *bgp.CapExtendedNexthop:
		var list []string
		for _, t := range c.Tuples {
			list = append(list, familyText(bgp.AfiSafiToRouteFamily(t.NLRIAFI, uint8(t.NLRISAFI)))+" with "+afiText(t.NexthopAFI)+" next hops")
		}
		return "extended next hop", strings.Join(list, ", ")
	case *bgp.CapGracefulRestart:
		return "graceful restart", restartText(c)
	case *bgp.CapLongLivedGracefulRestart:
		var list []string
		for _, t := range c.Tuples {
			list = append(list, fmt.Sprintf("%s %ds%s", familyText(bgp.AfiSafiToRouteFamily(t.AFI, t.SAFI)), t.RestartTime, flag(t.Flags&0x80 != 0, " F bit")))
		}
		return "long-lived graceful restart", strings.Join(list, ", ")
	case *bgp.CapAddPath:
		var list []string
		for _, t := range c.Tuples {
			list = append(list, familyText(t.RouteFamily)+" "+t.Mode.String())
		}
		return "additional paths", strings.Join(list, ", ")
	case *bgp.CapFQDN:
		return "host name", strings.TrimSuffix(c.HostName+"."+c.DomainName, ".")
	case *bgp.CapSoftwareVersion:
		return "software version", c.SoftwareVersion
	}
	return fmt.Sprintf("code %d", c.Code()), ""
}

// restartText describes graceful restart (RFC 4724, RFC 8538).
func restartText(c *bgp.CapGracefulRestart) string {
	const restarted, keepsOnNotification = 8, 4
	list := []string{fmt.Sprintf("%ds%s%s", c.Time, flag(c.Flags&restarted != 0, ", has restarted"), flag(c.Flags&keepsOnNotification != 0, ", N bit"))}
	for _, t := range c.Tuples {
		list = append(list, familyText(bgp.AfiSafiToRouteFamily(t.AFI, t.SAFI))+flag(t.Flags&0x80 != 0, " F bit"))
	}
	return strings.Join(list, ", ")
}

func flag(set bool, text string) string {
	if set {
		return text
	}
	return ""
}

// familyText is the name of a family: "ipv4" for the unicast ones.
func familyText(f bgp.RouteFamily) string {
	if own := familyOf(f); own != 0 {
		return own.String()
	}
	return f.String()
}

func afiText(afi uint16) string {
	switch afi {
	case bgp.AFI_IP:
		return "ipv4"
	case bgp.AFI_IP6:
		return "ipv6"
	}
	return fmt.Sprintf("AFI %d", afi)
}

// String returns the family's name in texts for operators.
func (f Family) String() string {
	if f == IPv6 {
		return "ipv6"
	}
	return "ipv4"
}
