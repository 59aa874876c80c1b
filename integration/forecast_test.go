package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/internal/ours"
	onlinkv1 "onlink/proto/v1"
)

// foretoldRoutes is what the test reads of a forecast.
type foretoldRoutes struct {
	Forecast struct {
		Sessions []struct {
			Name, Fate                           string
			Announces, Withdraws, Accepts, Drops foretoldList
		}
		Installs, Removes, Replaces foretoldList
		Restart, Unknown            string
		Mistakes                    []string
	}
}

type foretoldList struct {
	Count string
	First []struct{ Prefix, Text string }
}

// diff runs config diff with a configuration of a node.
func configDiff(ctx context.Context, t *testing.T, n *lab.Node, c *conf.Config) (told foretoldRoutes, text string) {
	t.Helper()
	yaml, err := c.YAML()
	must(t, err)
	file := filepath.Join(t.TempDir(), "next.yaml")
	must(t, os.WriteFile(file, yaml, 0o600))
	out, err := n.Ctl(ctx, "config", "diff", file, "-o", "json")
	must(t, err)
	if out.Code != 0 {
		t.Fatalf("config diff: %s", out.Stderr)
	}
	must(t, json.Unmarshal([]byte(out.Stdout), &told))
	table, err := n.Ctl(ctx, "config", "diff", file)
	must(t, err)
	return told, table.Stdout
}

// ourRoutes returns the kernel's routes of the agent.
func ourRoutes(n *lab.Node) ([]string, error) {
	routes, err := n.NS.Routes(ours.Protocol)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range routes {
		out = append(out, r.Prefix.String())
	}
	slices.Sort(out)
	return out, nil
}

// announced returns the prefixes that a node announces to its established sessions, as
// "PEER PREFIX".
func announced(ctx context.Context, n *lab.Node) ([]string, error) {
	admin, err := n.Admin()
	if err != nil {
		return nil, err
	}
	peers, err := admin.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range peers.GetPeers() {
		if p.GetState() != "Established" {
			continue
		}
		stream, err := admin.ListPeerRoutes(ctx, &onlinkv1.ListPeerRoutesRequest{Peer: p.GetName(), Set: onlinkv1.RouteSet_ROUTE_SET_ADVERTISED})
		if err != nil {
			return nil, err
		}
		for {
			part, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			for _, r := range part.GetRoutes() {
				out = append(out, p.GetName()+" "+r.GetPrefix())
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// TestConfigDiff: what config diff says of the kernel's routes and of the announcements
// is what happens when the file is applied; and it changes nothing.
func TestConfigDiff(t *testing.T) {
	ctx, l := labtest.Start(t, labtest.InRack("diff"))
	n, other := l.Node("r1n1"), l.Node("r1n2")
	theirs := labtest.BlockOf(ctx, t, other)
	mine := labtest.BlockOf(ctx, t, n)
	reflector, tor := "", ""
	for _, p := range n.Config().BGP.Peers {
		if p.ASN == lab.NodeASN {
			reflector = p.Name
		} else {
			tor = p.Name
		}
	}
	refuse := func(p string) []conf.Filter {
		return []conf.Filter{{Name: "refuse", Rules: []conf.FilterRule{{Match: conf.FilterMatch{Prefixes: conf.Rules(p)}, Action: "reject"}}}}
	}
	for _, c := range []struct {
		name   string
		change func(*conf.Config)
		want   []string // in the table
	}{
		{"nothing", func(*conf.Config) {}, []string{"no session changes (2)"}},
		{"another prefix", func(c *conf.Config) { c.BGP.Originate = []string{"192.0.2.0/24"} }, []string{
			"announce to " + reflector + ": 1\n  192.0.2.0/24  own prefixes", "announce to " + tor + ": 1\n  192.0.2.0/24  own prefixes",
		}},
		{"a block is refused", func(c *conf.Config) {
			c.BGP.Filters = refuse(theirs.String())
			c.BGP.Peer(reflector).Import.Filters = []string{"refuse"}
		}, []string{
			"drop from " + reflector + ": 1\n  " + theirs.String() + "  filter refuse rule 1", "remove from the kernel: 1\n  " + theirs.String() + "  via",
		}},
		{"nothing to the ToR", func(c *conf.Config) {
			c.BGP.Filters = refuse("10.244.0.0/16")
			c.BGP.Peer(tor).Export.Filters = []string{"refuse"}
		}, []string{"withdraw from " + tor + ": ", "  " + mine.String() + "  filter refuse rule 1"}},
		{"an aggregate in place of the block", func(c *conf.Config) {
			c.BGP.Peer(tor).Export.Aggregates = []conf.Aggregate{{Prefix: "10.244.0.0/16", SummaryOnly: true}}
		}, []string{
			"announce to " + tor + ": 1\n  10.244.0.0/16  own prefixes", "withdraw from " + tor + ": ", "  " + mine.String() + "  inside an aggregate with summaryOnly",
		}},
		{"an own prefix around a node's block", func(c *conf.Config) {
			c.BGP.Originate = []string{netip.PrefixFrom(theirs.Addr(), theirs.Bits()-1).Masked().String()}
		}, []string{"drop from " + reflector + ": ", "  " + theirs.String() + "  a prefix of this node, or inside one"}},
		{"without the reflector", func(c *conf.Config) {
			c.BGP.Peers = slices.DeleteFunc(c.BGP.Peers, func(p *conf.Peer) bool { return p.Name == reflector })
		}, []string{"removed", "drop from " + reflector, "  " + theirs.String() + "  the session is removed", "remove from the kernel: "}},
	} {
		next := n.Config()
		c.change(next)
		was, err := ourRoutes(n)
		must(t, err)
		sent, err := announced(ctx, n)
		must(t, err)
		told, text := configDiff(ctx, t, n, next)
		for _, line := range c.want {
			if !strings.Contains(text, line) {
				t.Errorf("%s: no %q in\n%s", c.name, line, text)
			}
		}
		f := told.Forecast
		if f.Unknown != "" || f.Restart != "" || len(f.Mistakes) > 0 {
			t.Errorf("%s: %+v", c.name, f)
		}
		after := append([]string(nil), was...)
		after = slices.DeleteFunc(after, func(p string) bool {
			return slices.ContainsFunc(f.Removes.First, func(r struct{ Prefix, Text string }) bool { return r.Prefix == p })
		})
		for _, r := range f.Installs.First {
			after = append(after, r.Prefix)
		}
		slices.Sort(after)
		willSend := append([]string(nil), sent...)
		for _, s := range f.Sessions {
			willSend = slices.DeleteFunc(willSend, func(line string) bool {
				return slices.ContainsFunc(s.Withdraws.First, func(r struct{ Prefix, Text string }) bool { return line == s.Name+" "+r.Prefix })
			})
			for _, r := range s.Announces.First {
				willSend = append(willSend, s.Name+" "+r.Prefix)
			}
		}
		slices.Sort(willSend)
		still, err := ourRoutes(n)
		must(t, err)
		if d := cmp.Diff(was, still); d != "" {
			t.Errorf("%s: config diff changed the kernel's routes:\n%s", c.name, d)
		}
		labtest.Reload(ctx, t, n, next)
		must(t, lab.Eventually(ctx, labtest.Patience, "the kernel's routes after "+c.name, func() error {
			is, err := ourRoutes(n)
			if d := cmp.Diff(after, is); d != "" {
				return fmt.Errorf("(-foretold +got):\n%s", d)
			}
			return err
		}))
		must(t, lab.Eventually(ctx, labtest.Patience, "the announcements after "+c.name, func() error {
			are, err := announced(ctx, n)
			if d := cmp.Diff(willSend, are); d != "" {
				return fmt.Errorf("(-foretold +got):\n%s", d)
			}
			return err
		}))
		labtest.Reload(ctx, t, n, n.Config())
		must(t, lab.Eventually(ctx, labtest.Patience, "the routes of before", func() error {
			is, err := ourRoutes(n)
			if d := cmp.Diff(was, is); d != "" {
				return fmt.Errorf("(-want +got):\n%s", d)
			}
			return err
		}))
		must(t, lab.Eventually(ctx, labtest.Patience, "the announcements of before", func() error {
			are, err := announced(ctx, n)
			if d := cmp.Diff(sent, are); d != "" {
				return fmt.Errorf("(-want +got):\n%s", d)
			}
			return err
		}))
	}
	restart := n.Config()
	restart.BGP.ASN = 64999
	if told, text := configDiff(ctx, t, n, restart); !strings.Contains(told.Forecast.Restart, "bgp.asn") || !strings.Contains(text, "the sessions restart gracefully") {
		t.Errorf("a change of the AS: %+v\n%s", told.Forecast, text)
	}
}
