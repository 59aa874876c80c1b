package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"text/template"
	"time"
)

// birdConfig is the ToR's bird.conf. Nodes are eBGP peers with a fixed entry
// each, so that graceful restart (RFC 4724) can keep their routes while an
// agent restarts: BIRD forgets a dynamic (range) neighbour with its session.
// Between ToRs everything is announced; to nodes only the service prefixes.
var birdConfig = template.Must(template.New("bird.conf").Parse(`log stderr all;
router id {{.ToR.Core}};
graceful restart wait 20;
protocol device { scan time 5; }
protocol direct { ipv4; {{if .DualStack}}ipv6; {{end}}interface "rack"; }
protocol kernel { scan time 5; merge paths on; ipv4 { export where source = RTS_BGP; }; }
{{- if .DualStack}}
protocol kernel { scan time 5; merge paths on; ipv6 { export where source = RTS_BGP; }; }
{{- end}}
protocol static service { ipv4;
  {{range .Service}}route {{.}} blackhole; {{end}}
  {{range $prefix, $hop := .ToR.Through}}route {{$prefix}} via {{$hop}}; {{end}}
}
template bgp peer {
  graceful restart on;
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
  local {{$.ToR.Addr}} as {{$.ToR.ASN}}; neighbor {{.Addr}} as {{$.NodeASN}};
  ipv4 { import where net ~ [ {{$.Pool}}+ ]; export filter {
    if proto != "service" then reject;
    {{range $prefix, $hop := $.ToR.Through}}if net = {{$prefix}} then bgp_next_hop = {{$hop}}; {{end}}
    accept;
  }; };
{{- if $.Pool6.IsValid}}
  ipv6 { import where net ~ [ {{$.Pool6}}+ ]; export none; };
{{- end}}
}
{{- end}}
`))

// startBIRD writes bird.conf and starts bird; it returns once bird answers on
// its control socket.
func (t *ToR) startBIRD(ctx context.Context) error {
	var text bytes.Buffer
	service, ok := t.service()
	in := map[string]any{
		"ToR": t, "Others": t.others(), "Nodes": t.lab.rack(t.Number).bgpNodes(), "NodeASN": NodeASN,
		"DualStack": t.lab.Spec.DualStack, "Pool": t.lab.Spec.Pool.CIDR, "Pool6": t.lab.Spec.Pool.CIDR6,
	}
	announce := t.Announce
	if ok {
		announce = append(slices.Clip(announce), service)
	}
	in["Service"] = announce
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
	conn, err := net.DialTimeout("unix", t.file("ctl"), 5*time.Second)
	if err != nil {
		return "", fmt.Errorf("ask bird of %s: %w", t.Name, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return "", fmt.Errorf("ask bird of %s: %w", t.Name, err)
	}
	lines := bufio.NewScanner(conn)
	if _, err := birdReply(lines); err != nil {
		return "", fmt.Errorf("ask bird of %s: %w", t.Name, err)
	}
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", fmt.Errorf("ask bird of %s: %w", t.Name, err)
	}
	reply, err := birdReply(lines)
	if err != nil {
		return "", fmt.Errorf("ask bird of %s: %q: %w", t.Name, command, err)
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
