package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/template"
	"time"
)

// birdConfig is the ToR's bird.conf. Nodes are eBGP peers with a fixed entry
// each, so that graceful restart (RFC 4724) can keep their routes while an
// agent restarts: BIRD forgets a dynamic (range) neighbour with its session.
// Between ToRs everything is announced; to nodes only the service prefixes, and
// with [ToR.Transit] the pods of other nodes.
var birdConfig = template.Must(template.New("bird.conf").Parse(`log stderr all;
router id {{.ToR.Core}};
graceful restart wait 20;
protocol device { scan time 5; }
protocol direct { ipv4; {{if .DualStack}}ipv6; {{end}}interface "rack"; }
protocol kernel { scan time 5; merge paths on; ipv4 { export where source = RTS_BGP; }; }
{{- if .DualStack}}
protocol kernel { scan time 5; merge paths on; ipv6 { export where source = RTS_BGP; }; }
{{- end}}
{{- range .Services}}
protocol static {{.Name}} { {{.Family}};
  {{range .Prefixes}}route {{.}} blackhole; {{end}}
  {{range $prefix, $hop := .Through}}route {{$prefix}} via {{$hop}}; {{end}}
}
{{- end}}
protocol static over6 { ipv4;
  {{range $prefix, $hop := .ToR.Over6}}route {{$prefix}} blackhole; {{end}}
}
{{- if .ToR.BFD}}
protocol bfd { interface "*" { interval 300 ms; idle tx interval 300 ms; multiplier 3; }; }
{{- end}}
template bgp peer {
  graceful restart on;
{{- if .ToR.BFD}}
  bfd on;
{{- end}}
  connect delay time 1; connect retry time 1; error wait time 1, 2;
}
{{- range .Others}}
protocol bgp {{.Name}} from peer {
  local {{$.ToR.Core}} as {{$.ToR.ASN}}; neighbor {{.Core}} as {{.ASN}};
  ipv4 { import all; export where source = RTS_DEVICE || source = RTS_BGP; };
}
{{- if $.DualStack}}
protocol bgp {{.Name}}v6 from peer {
  local {{$.ToR.Core6}} as {{$.ToR.ASN}}; neighbor {{.Core6}} as {{.ASN}};
  ipv6 { import all; export where source = RTS_DEVICE || source = RTS_BGP; };
}
{{- end}}
{{- end}}
{{- range .Nodes}}
protocol bgp {{.Name}} from peer {
  local {{$.ToR.Addr}} as {{$.ToR.ASN}}; neighbor {{.Addr}} as {{call $.ASN .}};
{{- range $.Services}}
  {{.Family}} { import where net ~ [ {{.Pool}}+{{range .Accept}}, {{.}}+{{end}} ]; next hop address {{.Self}}; export filter {
    {{if $.ToR.Transit}}if source = RTS_BGP && net ~ [ {{.Pool}}+{{range .Accept}}, {{.}}+{{end}} ] then accept; {{end}}
    if proto != "{{.Name}}" then reject;
    {{range $prefix, $hop := .Through}}if net = {{$prefix}} then bgp_next_hop = {{$hop}}; {{end}}
    accept;
  }; };
{{- end}}
}
{{- if $.ToR.Over6}}
protocol bgp {{.Name}}over6 from peer {
  local {{$.ToR.Addr6}} as {{$.ToR.ASN}}; neighbor {{.Addr6}} as {{call $.ASN .}};
  ipv4 { extended next hop on; import none; export filter {
    if proto != "over6" then reject;
    {{range $prefix, $hop := $.ToR.Over6}}if net = {{$prefix}} then bgp_next_hop = {{$hop}}; {{end}}
    accept;
  }; };
}
{{- end}}
{{- end}}
`))

// birdService is what a ToR tells its nodes in one family, and hears of them.
type birdService struct {
	Name, Family string
	Pool         netip.Prefix
	Self         netip.Addr
	Prefixes     []netip.Prefix
	Accept       []netip.Prefix
	Through      map[netip.Prefix]netip.Addr
}

// birdServices returns the families that the lab's pools have.
func (t *ToR) birdServices() []birdService {
	out := []birdService{{Name: "service", Family: "ipv4", Pool: t.lab.Spec.Pool.CIDR, Self: t.Addr}}
	if p := t.lab.Spec.Pool.CIDR6; p.IsValid() {
		out = append(out, birdService{Name: "service6", Family: "ipv6", Pool: p, Self: t.Addr6})
	}
	announce := t.Announce
	if service, ok := t.service(); ok {
		announce = append(slices.Clip(announce), service)
	}
	for i := range out {
		s := &out[i]
		other := func(p netip.Prefix) bool { return p.Addr().Is4() != s.Self.Is4() }
		s.Prefixes = slices.DeleteFunc(slices.Clone(announce), other)
		s.Accept = slices.DeleteFunc(slices.Clone(t.Accept), other)
		s.Through = maps.Clone(t.Through)
		maps.DeleteFunc(s.Through, func(p netip.Prefix, _ netip.Addr) bool { return other(p) })
	}
	return out
}

// startBIRD writes bird.conf and starts bird; it returns once bird answers on
// its control socket.
func (t *ToR) startBIRD(ctx context.Context) error {
	var text bytes.Buffer
	nodes := t.lab.rack(t.Number).bgpNodes()
	if t.Reflectors {
		nodes = t.lab.rack(t.Number).Nodes
	}
	in := map[string]any{
		"ToR": t, "Others": t.others(), "Nodes": nodes, "ASN": t.nodeASN,
		"DualStack": t.lab.Spec.DualStack, "Services": t.birdServices(),
	}
	if err := birdConfig.Execute(&text, in); err != nil {
		return fmt.Errorf("write configuration of %s: %w", t.Name, err)
	}
	if err := os.WriteFile(t.file("conf"), text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write configuration of %s: %w", t.Name, err)
	}
	p, err := start(t.NS, t.Name, t.file("log"), "bird", "-f", "-c", t.file("conf"), "-s", t.file("ctl"), "-P", t.file("pid"))
	if err != nil {
		return err
	}
	t.procs = append(t.procs, p)
	return poll(ctx, "start "+t.Name, p, func() error {
		_, err := t.BIRD("show status")
		return err
	})
}

// BIRD sends one command to the router's control socket, as birdc does, and
// returns the reply without the protocol's line numbers.
func (t *ToR) BIRD(command string) (string, error) {
	reply, err := AskBIRD(t.file("ctl"), command)
	if err != nil {
		return "", fmt.Errorf("ask bird of %s: %w", t.Name, err)
	}
	return reply, nil
}

// AskBIRD is [ToR.BIRD] for any bird, by its control socket.
func AskBIRD(socket, command string) (string, error) {
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(conn)
	if _, err := birdReply(lines); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", err
	}
	reply, err := birdReply(lines)
	if err != nil {
		return "", fmt.Errorf("%q: %w", command, err)
	}
	return reply, nil
}

// birdReply reads one reply: lines "CODE-text" or " text", the last one
// "CODE text". Codes from 8000 up are errors.
func birdReply(lines *bufio.Scanner) (string, error) {
	var out strings.Builder
	for lines.Scan() {
		line := lines.Text()
		coded := len(line) >= 5 && strings.Trim(line[:4], "0123456789") == ""
		if !coded {
			fmt.Fprintln(&out, strings.TrimPrefix(line, " "))
			continue
		}
		fmt.Fprintln(&out, line[5:])
		if line[4] == ' ' {
			if line[0] >= '8' {
				return "", fmt.Errorf("bird refuses: %s", line[5:])
			}
			return out.String(), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", errors.New("bird closed the connection")
}
