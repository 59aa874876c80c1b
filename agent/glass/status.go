package glass

import (
	"net/netip"
	"time"

	"onlink/agent/state"
	"onlink/rib"
)

// statusView is the header of the page.
type statusView struct {
	Node      string    `json:"node"`
	Version   string    `json:"version"`
	Engine    string    `json:"engine"`
	Started   time.Time `json:"started"`
	Address   string    `json:"address"`
	Address6  string    `json:"address6,omitempty"`
	ASN       uint32    `json:"asn"`
	RouterID  string    `json:"routerId"`
	Reflector bool      `json:"reflector"`
	Drain     string    `json:"drain"`
	InSync    bool      `json:"inSync"`

	Sessions    int `json:"sessions"` // expected ones
	Established int `json:"established"`
	Unicast     int `json:"unicast"`
	Tunnelled   int `json:"tunnelled"`
	Unresolved  int `json:"unresolved"`
	Failed      int `json:"failed"`
	Blocks      int `json:"blocks"`
	Used        int `json:"used"` // addresses
	Size        int `json:"size"` // of the blocks, addresses

	Problems     []string `json:"problems"`
	MoreProblems int      `json:"moreProblems"`
}

func statusOf(s *state.Snapshot) *statusView {
	v := &statusView{
		Node: s.Node.Name, Version: s.Node.Version, Engine: s.Node.Engine, Started: s.Node.Started,
		Address: s.Node.Address.String(), Address6: text(s.Node.Address6), ASN: s.Node.ASN, RouterID: text(s.Node.RouterID), Reflector: s.Node.Reflector,
		Drain: s.Drain.String(), InSync: s.Routes.InSync,
		Unicast: s.Routes.Counts.ByKind[rib.Unicast], Tunnelled: s.Routes.Counts.Tunnelled,
		Unresolved: s.Routes.Counts.ByKind[rib.Unresolved], Failed: len(s.Routes.Failed), Blocks: len(s.IPAM.Blocks),
		Problems: []string{},
	}
	v.Sessions, v.Established = s.Sessions.Count()
	v.Used, v.Size = s.IPAM.Addresses()
	all := s.Problems()
	for _, line := range all[:min(len(all), maxProblems)] {
		v.Problems = append(v.Problems, short(line))
	}
	v.MoreProblems = len(all) - len(v.Problems)
	return v
}

// text is "" for the zero Addr.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// short bounds a text: peers choose parts of some. A cut rune becomes a sign of that in
// the JSON.
func short(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText] + "…"
}
