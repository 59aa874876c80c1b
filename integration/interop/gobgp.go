package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"text/template"

	"onlink/integration/lab"
)

// gobgp is gobgpd, the daemon of GoBGP.
type gobgp struct{}

var gobgpConfig = template.Must(template.New("gobgpd.toml").Parse(`[global.config]
  as = {{.ASN}}
  router-id = "{{.RouterID}}"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "{{.Remote}}"
    peer-as = {{.RemoteASN}}
    auth-password = "{{.Password}}"
  [neighbors.transport.config]
    local-address = "{{.Local}}"
  [neighbors.timers.config]
    connect-retry = 2
    idle-hold-time-after-reset = 1
{{- if .TTLSecurity}}
  [neighbors.ttl-security.config]
    enabled = true
    ttl-min = 255
{{- end}}
{{- if .Restart}}
  [neighbors.graceful-restart.config]
    enabled = true
    restart-time = 60
    deferral-time = 10
{{- end}}
{{- range .Families}}
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "{{.}}"
{{- if $.Restart}}
    [neighbors.afi-safis.mp-graceful-restart.config]
      enabled = true
{{- end}}
{{- end}}
`))

func (gobgp) start(ctx context.Context, r *Router) error {
	var text bytes.Buffer
	s := r.setup
	var families []string
	if s.IPv4 {
		families = append(families, "ipv4-unicast")
	}
	if s.IPv6 {
		families = append(families, "ipv6-unicast")
	}
	err := gobgpConfig.Execute(&text, struct {
		Setup

		Families []string
	}{s, families})
	if err != nil {
		return fmt.Errorf("write gobgpd.toml: %w", err)
	}
	if err := r.write("gobgpd.toml", text.String(), 0o644); err != nil {
		return err
	}
	argv := []string{"gobgpd", "-p", "-f", r.file("gobgpd.toml"), "--api-hosts", "127.0.0.1:50051", "--pprof-disable"}
	if s.Restarted {
		argv = append(argv, "-r")
	}
	p, err := r.run(argv...)
	if err != nil {
		return err
	}
	if err := lab.Started(ctx, p, func() error { _, err := r.ask(ctx, "gobgp", "-j", "global"); return err }); err != nil {
		return err
	}
	return r.gobgpEach(ctx, "add")
}

// gobgpEach adds or deletes all that the router announces.
func (r *Router) gobgpEach(ctx context.Context, verb string) error {
	standard, large := r.setup.split()
	for _, p := range r.setup.Announce {
		argv := []string{"gobgp", "global", "rib", verb, p.String(), "nexthop", r.setup.hop(p).String()}
		if len(standard) > 0 {
			argv = append(argv, "community", strings.Join(standard, ","))
		}
		if len(large) > 0 {
			argv = append(argv, "large-community", strings.Join(large, ","))
		}
		family := "ipv4"
		if p.Addr().Is6() {
			family = "ipv6"
		}
		if _, err := r.ask(ctx, append(argv, "-a", family)...); err != nil {
			return err
		}
	}
	return nil
}

func (gobgp) withdraw(ctx context.Context, r *Router) error { return r.gobgpEach(ctx, "del") }

// gobgpPath is one path as the tool prints it; attributes are told apart by
// their type code.
type gobgpPath struct {
	Peer       string            `json:"neighbor-ip"`
	Attributes []json.RawMessage `json:"attrs"`
}

func (gobgp) learned(ctx context.Context, r *Router) ([]Route, error) {
	var out []Route
	for family, on := range map[string]bool{"ipv4": r.setup.IPv4, "ipv6": r.setup.IPv6} {
		if !on {
			continue
		}
		text, err := r.ask(ctx, "gobgp", "-j", "global", "rib", "-a", family)
		if err != nil {
			return nil, err
		}
		list, err := parseGoBGP(text, r.setup.Remote.String())
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// parseGoBGP reads a table's paths that came from a peer.
func parseGoBGP(text []byte, peer string) ([]Route, error) {
	var table map[netip.Prefix][]gobgpPath
	if err := json.Unmarshal(text, &table); err != nil {
		return nil, fmt.Errorf("read table: %w: %s", err, text)
	}
	var out []Route
	for p, paths := range table {
		for _, path := range paths {
			if path.Peer != peer {
				continue
			}
			route := Route{Prefix: p}
			for _, a := range path.Attributes {
				if err := route.gobgpAttribute(a); err != nil {
					return nil, fmt.Errorf("read %s: %w: %s", p, err, a)
				}
			}
			out = append(out, route)
		}
	}
	return out, nil
}

// gobgpAttribute takes one attribute; the codes are IANA's.
func (r *Route) gobgpAttribute(text json.RawMessage) error {
	var code struct {
		Type int `json:"type"`
	}
	if err := json.Unmarshal(text, &code); err != nil {
		return err
	}
	into := func(v any) error { return json.Unmarshal(text, v) }
	switch code.Type {
	case 2:
		return r.gobgpPath(text)
	case 3, 14:
		var v struct {
			Hop netip.Addr `json:"nexthop"`
		}
		err := into(&v)
		r.NextHop = v.Hop
		return err
	case 5:
		var v struct {
			Value uint32 `json:"value"`
		}
		err := into(&v)
		r.LocalPref = v.Value
		return err
	case 8:
		var v struct {
			List []uint32 `json:"communities"`
		}
		err := into(&v)
		for _, c := range v.List {
			r.Communities = append(r.Communities, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
		}
		return err
	case 9:
		var v struct {
			Value netip.Addr `json:"value"`
		}
		err := into(&v)
		r.Originator = v.Value
		return err
	case 10:
		var v struct {
			Value []netip.Addr `json:"value"`
		}
		err := into(&v)
		r.Clusters = v.Value
		return err
	case 32:
		var v struct {
			List []struct{ ASN, LocalData1, LocalData2 uint32 } `json:"value"`
		}
		err := into(&v)
		for _, c := range v.List {
			r.Communities = append(r.Communities, fmt.Sprintf("%d:%d:%d", c.ASN, c.LocalData1, c.LocalData2))
		}
		return err
	}
	return nil
}

func (r *Route) gobgpPath(text json.RawMessage) error {
	var v struct {
		Segments []struct {
			ASNs []uint64 `json:"asns"`
		} `json:"as_paths"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	var list []string
	for _, s := range v.Segments {
		for _, as := range s.ASNs {
			list = append(list, strconv.FormatUint(as, 10))
		}
	}
	r.ASPath = strings.Join(list, " ")
	return nil
}
