package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"onlink/integration/lab"
)

// Router is a BIRD on one of the lab's ToRs, a BGP peer of every node. It has
// what the nodes announce of services, and nothing else: it announces nothing,
// and pods are the nodes' own concern.
type Router struct {
	ToR *lab.ToR
	ASN uint32

	socket string
}

// Path is what one node announces to a [Router] for one prefix.
type Path struct {
	Node        string
	LocalPref   int
	Communities string // as BIRD writes them: "(65535,0) (64512,100)"
}

// String is the node, the preference and the communities.
func (p Path) String() string {
	return strings.TrimSpace(fmt.Sprint(p.Node, " ", p.LocalPref, " ", p.Communities))
}

// routerConfig is the bird.conf. A peer of another AS has no LOCAL_PREF of the
// node's: RFC 8326 has such a router give routes with GRACEFUL_SHUTDOWN the lowest
// one itself, which is the filter's middle line.
var routerConfig = template.Must(template.New("bird.conf").Parse(`log stderr all;
router id {{.ToR.Core}};
graceful restart wait 20;
protocol device { scan time 5; }
protocol kernel { scan time 5; merge paths on; ipv4 { import none; export all; }; }
{{- if .DualStack}}
protocol kernel { scan time 5; merge paths on; ipv6 { import none; export all; }; }
{{- end}}
{{- range .Families}}
filter services_{{.Name}} {
  if net !~ [ {{range $i, $p := .Accept}}{{if $i}}, {{end}}{{$p}}+{{end}} ] then reject;
  {{- if $.External}}
  if (65535, 0) ~ bgp_community then bgp_local_pref = 0;
  {{- end}}
  accept;
}
{{- end}}
{{- range .Nodes}}
protocol bgp {{.Name}} {
  local {{$.ToR.Addr}} as {{$.ASN}}; neighbor {{.Addr}} as {{$.NodeASN}}; direct;
  graceful restart on; connect delay time 1; connect retry time 1; error wait time 1, 2;
  {{- range $.Families}}
  {{.Name}} { import filter services_{{.Name}}; export none; };
  {{- end}}
}
{{- end}}
`))

// StartRouter starts BIRD on a ToR, in an AS of its own or in the nodes'. It takes
// parts of the accepted prefixes, in both families where the cluster has both. Its
// kernel spreads over the best paths. It ends with the cluster.
func (c *Cluster) StartRouter(ctx context.Context, t *lab.ToR, asn uint32, accept ...netip.Prefix) (*Router, error) {
	r := &Router{ToR: t, ASN: asn, socket: filepath.Join(c.Lab.Dir, t.Name+".services.ctl")}
	type family struct {
		Name   string
		Accept []netip.Prefix
	}
	v4, v6 := family{Name: "ipv4"}, family{Name: "ipv6"}
	for _, p := range accept {
		if p.Addr().Is4() {
			v4.Accept = append(v4.Accept, p)
		} else {
			v6.Accept = append(v6.Accept, p)
		}
	}
	var families []family
	for _, f := range []family{v4, v6} {
		if len(f.Accept) > 0 {
			families = append(families, f)
		}
	}
	var text bytes.Buffer
	in := map[string]any{
		"ToR": t, "ASN": asn, "NodeASN": lab.NodeASN, "External": asn != lab.NodeASN, "DualStack": c.Options.DualStack,
		"Families": families, "Nodes": c.Lab.Racks[t.Number-1].Nodes,
	}
	if err := routerConfig.Execute(&text, in); err != nil {
		return nil, fmt.Errorf("write configuration of %s: %w", t.Name, err)
	}
	file := func(ext string) string { return filepath.Join(c.Lab.Dir, t.Name+".services."+ext) }
	if err := os.WriteFile(file("conf"), text.Bytes(), 0o644); err != nil {
		return nil, fmt.Errorf("write configuration of %s: %w", t.Name, err)
	}
	p, err := t.NS.Start(t.Name, file("log"), "bird", "-f", "-c", file("conf"), "-s", r.socket, "-P", file("pid"))
	if err != nil {
		return nil, err
	}
	c.programs[t.Name] = p
	return r, lab.Started(ctx, p, func() error {
		_, err := lab.AskBIRD(r.socket, "show status")
		return err
	})
}

// Routes returns what the nodes announce at present, in both families: of each
// prefix one path a node.
func (r *Router) Routes() (map[netip.Prefix][]Path, error) {
	text, err := lab.AskBIRD(r.socket, "show route all")
	if err != nil {
		return nil, fmt.Errorf("ask bird of %s: %w", r.ToR.Name, err)
	}
	routes, err := parseRoutes(text)
	if err != nil {
		return nil, fmt.Errorf("read routes of %s: %w\n%s", r.ToR.Name, err, text)
	}
	return routes, nil
}

// parseRoutes reads BIRD's `show route all`: a line "PREFIX unicast [NODE TIME] ..."
// for the best path, the others of the prefix without PREFIX, and the attributes of
// each below, indented.
func parseRoutes(text string) (map[netip.Prefix][]Path, error) {
	routes := map[netip.Prefix][]Path{}
	var at netip.Prefix
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if before, after, ok := strings.Cut(line, "unicast ["); ok {
			if prefix := strings.TrimSpace(before); prefix != "" {
				var err error
				if at, err = netip.ParsePrefix(prefix); err != nil {
					return nil, err
				}
			}
			node, _, _ := strings.Cut(after, " ")
			routes[at] = append(routes[at], Path{Node: node})
			continue
		}
		if len(words) < 2 || len(routes[at]) == 0 {
			continue
		}
		p := &routes[at][len(routes[at])-1]
		switch words[0] {
		case "BGP.local_pref:":
			n, err := strconv.Atoi(words[1])
			if err != nil {
				return nil, err
			}
			p.LocalPref = n
		case "BGP.community:":
			p.Communities = strings.Join(words[1:], " ")
		}
	}
	return routes, nil
}
