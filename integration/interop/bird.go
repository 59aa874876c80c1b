package interop

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"

	"onlink/integration/lab"
)

// bird is BIRD 2.
type bird struct{}

var birdConfig = template.Must(template.New("bird.conf").Parse(`log stderr all;
router id {{.RouterID}};
graceful restart wait 20;
protocol device { }
protocol direct { ipv4; ipv6; }
protocol static own4 { ipv4; {{range .Own4}}route {{.}} blackhole { {{$.Tags}} }; {{end}} }
protocol static own6 { ipv6; {{range .Own6}}route {{.}} blackhole { {{$.Tags}} }; {{end}} }
{{- if .BFD}}
protocol bfd { interface "*" { interval {{.BFDInterval}} ms; idle tx interval 300 ms; multiplier 3; }; }
{{- end}}
protocol bgp peer {
  local {{.Local}} as {{.ASN}}; neighbor {{.Remote}} as {{.RemoteASN}};
  direct;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
{{- if .Password}}  password "{{.Password}}"; {{end}}
{{- if .TTLSecurity}}  ttl security on; {{end}}
{{- if .Restart}}  graceful restart on; {{end}}
{{- if .LongLived}}
  graceful restart on; graceful restart time 2;
  long lived graceful restart on; long lived stale time {{.LongLived}};
{{- end}}
{{- if .BFD}}  bfd on; {{end}}
{{- if .IPv4}}
  ipv4 { import all; export where source = RTS_STATIC; next hop address {{.HopIPv4}}; {{if .ExtendedHop}}extended next hop on;{{end}} };
{{- end}}
{{- if .IPv6}}
  ipv6 { import all; export where source = RTS_STATIC; next hop address {{.HopIPv6}}; };
{{- end}}
}
`))

func (bird) start(ctx context.Context, r *Router) error {
	var text bytes.Buffer
	s := r.setup
	err := birdConfig.Execute(&text, struct {
		Setup

		Own4, Own6  []netip.Prefix
		Tags        string
		BFDInterval int
	}{s, s.announced(true), s.announced(false), birdTags(s), bfdInterval})
	if err != nil {
		return fmt.Errorf("write bird.conf: %w", err)
	}
	if err := r.write("bird.conf", text.String(), 0o644); err != nil {
		return err
	}
	argv := []string{"bird", "-f", "-c", r.file("bird.conf"), "-s", r.file("ctl"), "-P", r.file("pid")}
	if s.Restarted {
		argv = append(argv, "-R")
	}
	p, err := r.run(argv...)
	if err != nil {
		return err
	}
	return lab.Started(ctx, p, func() error {
		_, err := lab.AskBIRD(r.file("ctl"), "show status")
		return err
	})
}

// birdTags are the statements that add the setup's communities.
func birdTags(s Setup) string {
	var b strings.Builder
	standard, large := s.split()
	for _, c := range standard {
		fmt.Fprintf(&b, "bgp_community.add((%s)); ", strings.ReplaceAll(c, ":", ","))
	}
	for _, c := range large {
		fmt.Fprintf(&b, "bgp_large_community.add((%s)); ", strings.ReplaceAll(c, ":", ","))
	}
	return b.String()
}

func (bird) withdraw(_ context.Context, r *Router) error {
	for _, protocol := range []string{"own4", "own6"} {
		if _, err := lab.AskBIRD(r.file("ctl"), "disable "+protocol); err != nil {
			return err
		}
	}
	return nil
}

func (bird) learned(_ context.Context, r *Router) ([]Route, error) {
	var out []Route
	for _, table := range []string{"master4", "master6"} {
		text, err := lab.AskBIRD(r.file("ctl"), "show route table "+table+` all where proto = "peer"`)
		if err != nil {
			return nil, err
		}
		list, err := parseBIRD(text)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// Since returns since when BIRD has the session, as the time of a day that it does not
// name. It computes that anew for each answer, which moves it by milliseconds. The
// router's kind must be BIRD.
func (r *Router) Since() (time.Time, error) {
	text, err := lab.AskBIRD(r.file("ctl"), "show protocols peer")
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(text) { // Name Proto Table State Since Info
		if f := strings.Fields(line); len(f) > 5 && f[0] == "peer" && f[5] == "Established" {
			return time.Parse(time.TimeOnly, f[4])
		}
	}
	return time.Time{}, fmt.Errorf("BIRD has no session: %s", text)
}

var (
	// A route begins with its prefix; another one to the same begins with blanks.
	birdRoute = regexp.MustCompile(`^(\S+/\d+)?\s+(?:unicast|unreachable|blackhole) \[peer `)
	birdPairs = regexp.MustCompile(`\(([\d, ]+)\)`)
)

// parseBIRD reads what "show route all" prints.
func parseBIRD(text string) ([]Route, error) {
	var out []Route
	var prefix netip.Prefix
	for line := range strings.Lines(text) {
		if m := birdRoute.FindStringSubmatch(line); m != nil {
			if m[1] != "" {
				var err error
				if prefix, err = netip.ParsePrefix(m[1]); err != nil {
					return nil, fmt.Errorf("read %q: %w", line, err)
				}
			}
			out = append(out, Route{Prefix: prefix})
			continue
		}
		key, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found || len(out) == 0 {
			continue
		}
		if err := out[len(out)-1].birdAttribute(key, strings.TrimSpace(value)); err != nil {
			return nil, fmt.Errorf("read %q: %w", line, err)
		}
	}
	return out, nil
}

func (r *Route) birdAttribute(key, value string) (err error) {
	switch key {
	case "BGP.as_path":
		r.ASPath = value
	case "BGP.next_hop": // an IPv6 one may be followed by its link-local sister
		hop, local, both := strings.Cut(value, " ")
		if both && hop == "::" { // a neighbour without another address
			hop = local
		}
		r.NextHop, err = netip.ParseAddr(hop)
	case "BGP.local_pref", "BGP.med":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 32)
		if key == "BGP.med" {
			r.MED = uint32(n)
		} else {
			r.LocalPref = uint32(n)
		}
	case "BGP.community", "BGP.large_community":
		for _, m := range birdPairs.FindAllStringSubmatch(value, -1) {
			r.Communities = append(r.Communities, strings.NewReplacer(", ", ":", ",", ":").Replace(m[1]))
		}
	case "BGP.originator_id":
		r.Originator, err = netip.ParseAddr(value)
	case "BGP.cluster_list":
		for id := range strings.FieldsSeq(value) {
			var a netip.Addr
			if a, err = netip.ParseAddr(id); err != nil {
				return err
			}
			r.Clusters = append(r.Clusters, a)
		}
	}
	return err
}
