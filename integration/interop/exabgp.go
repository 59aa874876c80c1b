package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"text/template"

	"onlink/integration/lab"
)

// exabgp is ExaBGP. It keeps no table: it hands every event to a program and
// takes commands from it. Here that program is two cats, and the events' file
// is read as the table.
type exabgp struct{}

var exabgpConfig = template.Must(template.New("exabgp.conf").Parse(`process table {
  run {{.Script}};
  encoder json;
}
neighbor {{.Remote}} {
  router-id {{.RouterID}};
  local-address {{.Local}};
  local-as {{.ASN}};
  peer-as {{.RemoteASN}};
  hold-time 90;
{{- if .Password}}
  md5-password "{{.Password}}";
{{- end}}
{{- if .TTLSecurity}}
  outgoing-ttl 255;
  incoming-ttl 255;
{{- end}}
  family {
{{- if .IPv4}}
    ipv4 unicast;
{{- end}}
{{- if .IPv6}}
    ipv6 unicast;
{{- end}}
  }
  capability {
{{- if .Restart}}
    graceful-restart 60;
{{- end}}
{{- if .ExtendedHop}}
    nexthop enable;
{{- end}}
    asn4 enable;
  }
{{- if .ExtendedHop}}
  nexthop {
    ipv4 unicast ipv6;
  }
{{- end}}
  api {
    processes [ table ];
    neighbor-changes;
    receive {
      parsed;
      update;
    }
  }
  announce {
{{- if .IPv4}}
    ipv4 {
{{- range .Own4}}
      unicast {{.}} next-hop {{$.HopIPv4}}{{$.Tags}};
{{- end}}
    }
{{- end}}
{{- if .IPv6}}
    ipv6 {
{{- range .Own6}}
      unicast {{.}} next-hop {{$.HopIPv6}}{{$.Tags}};
{{- end}}
    }
{{- end}}
  }
}
`))

// exabgpScript appends events to one file and passes on the commands of
// another; it ends with ExaBGP.
const exabgpScript = `#!/bin/sh
tail -n +1 --pid=$$ -f '%s' &
exec cat >>'%s'
`

func (exabgp) start(ctx context.Context, r *Router) error {
	var text bytes.Buffer
	s := r.setup
	err := exabgpConfig.Execute(&text, struct {
		Setup

		Own4, Own6   []netip.Prefix
		Script, Tags string
	}{s, s.announced(true), s.announced(false), r.file("table.sh"), exabgpTags(s)})
	if err != nil {
		return fmt.Errorf("write exabgp.conf: %w", err)
	}
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{"exabgp.conf", text.String(), 0o644},
		{"commands", "", 0o644},
		{"events", "", 0o644},
		{"table.sh", fmt.Sprintf(exabgpScript, r.file("commands"), r.file("events")), 0o755},
	} {
		if err := r.write(f.name, f.text, f.mode); err != nil {
			return err
		}
	}
	p, err := r.run("env", "exabgp.daemon.drop=false", "exabgp.daemon.user=root", "exabgp.api.cli=false", "exabgp.api.ack=false",
		"exabgp.log.level=INFO", "exabgp", r.file("exabgp.conf"))
	if err != nil {
		return err
	}
	return lab.Started(ctx, p, func() error {
		if log := r.Logs(1000); !strings.Contains(log, "loaded new configuration successfully") {
			return errNotRead
		}
		return nil
	})
}

var errNotRead = errors.New("it has not read its configuration")

// exabgpTags are the attributes of the setup's communities.
func exabgpTags(s Setup) string {
	tags := ""
	standard, large := s.split()
	if len(standard) > 0 {
		tags += " community [ " + strings.Join(standard, " ") + " ]"
	}
	if len(large) > 0 {
		tags += " large-community [ " + strings.Join(large, " ") + " ]"
	}
	return tags
}

func (exabgp) withdraw(_ context.Context, r *Router) error {
	f, err := os.OpenFile(r.file("commands"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // the writes below are what counts
	for _, p := range r.setup.Announce {
		if _, err := fmt.Fprintf(f, "withdraw route %s next-hop %s\n", p, r.setup.hop(p)); err != nil {
			return err
		}
	}
	return nil
}

// exabgpEvent is one line of ExaBGP's JSON.
type exabgpEvent struct {
	Type     string `json:"type"`
	Neighbor struct {
		State   string `json:"state"`
		Message struct {
			Update struct {
				Attribute struct {
					ASPath     []uint64     `json:"as-path"`
					LocalPref  uint32       `json:"local-preference"`
					Community  [][2]uint32  `json:"community"`
					Large      [][3]uint32  `json:"large-community"`
					Originator netip.Addr   `json:"originator-id"`
					Clusters   []netip.Addr `json:"cluster-list"`
				} `json:"attribute"`
				// by family, then by next hop
				Announce map[string]json.RawMessage `json:"announce"`
				Withdraw map[string][]exabgpPrefix  `json:"withdraw"`
			} `json:"update"`
		} `json:"message"`
	} `json:"neighbor"`
}

type exabgpPrefix struct {
	NLRI netip.Prefix `json:"nlri"`
}

func (exabgp) learned(_ context.Context, r *Router) ([]Route, error) {
	text, err := os.ReadFile(r.file("events"))
	if err != nil {
		return nil, err
	}
	table := map[netip.Prefix]Route{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !json.Valid(lines.Bytes()) {
			continue // the last line may not be whole yet
		}
		var e exabgpEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("read event: %w: %s", err, lines.Text())
		}
		if err := e.fold(table); err != nil {
			return nil, fmt.Errorf("read event: %w: %s", err, lines.Text())
		}
	}
	var out []Route
	for _, route := range table {
		out = append(out, route)
	}
	return out, lines.Err()
}

// fold brings the table up to date with an event.
func (e *exabgpEvent) fold(table map[netip.Prefix]Route) error {
	if e.Type == "state" && e.Neighbor.State == "down" {
		clear(table)
	}
	u := &e.Neighbor.Message.Update
	for _, list := range u.Withdraw {
		for _, p := range list {
			delete(table, p.NLRI)
		}
	}
	for family, text := range u.Announce {
		if !strings.HasSuffix(family, " unicast") {
			continue
		}
		var byHop map[string][]exabgpPrefix
		if err := json.Unmarshal(text, &byHop); err != nil {
			return err
		}
		for hop, list := range byHop {
			for _, p := range list {
				route, err := e.route(hop)
				if err != nil {
					return err
				}
				route.Prefix = p.NLRI
				table[p.NLRI] = route
			}
		}
	}
	return nil
}

// route is a route with the event's attributes.
func (e *exabgpEvent) route(hop string) (Route, error) {
	a := &e.Neighbor.Message.Update.Attribute
	r := Route{ASPath: strings.Trim(fmt.Sprint(a.ASPath), "[]"), LocalPref: a.LocalPref, Originator: a.Originator, Clusters: a.Clusters}
	for _, c := range a.Community {
		r.Communities = append(r.Communities, fmt.Sprintf("%d:%d", c[0], c[1]))
	}
	for _, c := range a.Large {
		r.Communities = append(r.Communities, fmt.Sprintf("%d:%d:%d", c[0], c[1], c[2]))
	}
	var err error
	r.NextHop, err = netip.ParseAddr(hop)
	return r, err
}
