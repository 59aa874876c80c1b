package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func routesCommand(a *app) *cobra.Command {
	return a.addNodes(&cobra.Command{
		Use:   "routes [PREFIX|ADDRESS]",
		Short: "Show the decided routes and their reasons",
		Long: `routes shows the decided routes, one line per next hop, with the reason for
each, and whether the kernel holds them. Prefixes that this node announces for others, such as
services, come last; the kernel holds no routes for them. With a prefix or an address: only the
routes that cover it or lie inside it, and below them all BGP paths to these prefixes, the best
one first: why each of the others is not the best (RFC 4271 section 9.1.2), or not accepted.
With --nodes it shows the decided routes of these nodes, without the paths.`,
		Example: `  onlinkctl routes
  onlinkctl routes 10.244.1.7
  onlinkctl routes 10.244.0.0/16 -o yaml
  onlinkctl routes 10.244.1.7 --nodes r1n1,r1n2 --tls-ca ca.crt --tls-cert alice.crt --tls-key alice.key`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := ""
			if len(args) == 1 {
				p, err := prefixOf(args[0])
				if err != nil {
					return err
				}
				prefix = p.String()
			}
			req := &onlinkv1.ListRoutesRequest{Prefix: prefix, Candidates: prefix != "" && a.nodes == ""}
			fetch := func(ctx context.Context, c *connection) (*onlinkv1.ListRoutesReply, error) {
				return c.ListRoutes(ctx, req)
			}
			if a.nodes != "" {
				return showNodes(cmd, a, fan[*onlinkv1.ListRoutesReply]{key: "routes", fetch: fetch, headers: routeHeaders, rows: routeRows})
			}
			return show(cmd, a, view[*onlinkv1.ListRoutesReply]{fetch: fetch, table: routesTable})
		},
	})
}

// prefixOf reads a CIDR or one address.
func prefixOf(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither a prefix nor an address; use one such as 10.244.0.0/26 or 10.244.0.7", s)
	}
	return p.Masked(), nil
}

var routeHeaders = []string{"PREFIX", "KIND", "VIA", "DEV", "TUNNEL", "REASON", "INSTALLED"}

func routesTable(w io.Writer, r *onlinkv1.ListRoutesReply) error {
	g := newGrid(w, routeHeaders...)
	routeRows(g, r)
	if err := g.flush(); err != nil {
		return err
	}
	return pathsTable(w, r)
}

// routeRows writes the decided routes, one line a next hop.
func routeRows(g *grid, r *onlinkv1.ListRoutesReply) {
	for _, route := range r.GetRoutes() {
		installed := yesNo(route.GetInstalled())
		if k := route.GetKind(); k == "announced" || k == "withheld" {
			installed = "" // the kernel needs none
		}
		if e := route.GetError(); e != "" {
			installed += ": " + e
		}
		if len(route.GetHops()) == 0 {
			g.row(route.GetPrefix(), route.GetKind(), "", "", "", route.GetReason(), installed)
			continue
		}
		for i, hop := range route.GetHops() {
			reason := hop.GetReason()
			if reason == "" || reason == "none" {
				reason = route.GetReason()
			}
			if i == 0 {
				g.row(route.GetPrefix(), route.GetKind(), hop.GetVia(), hop.GetDev(), yesNo(hop.GetTunnel()), reason, installed)
				continue
			}
			g.more("", "", hop.GetVia(), hop.GetDev(), yesNo(hop.GetTunnel()), reason)
		}
	}
}

// pathsTable writes the BGP paths of an answer, if there are any.
func pathsTable(w io.Writer, r *onlinkv1.ListRoutesReply) error {
	if len(r.GetCandidates()) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	g := newGrid(w, "PREFIX", "STATE", "NEXT HOP", "PEER", "AS PATH", "LOCAL_PREF", "MED", "ORIGIN", "AGE", "WHY")
	for _, one := range r.GetCandidates() {
		prefix := one.GetPrefix()
		for _, p := range one.GetPaths() {
			g.row(prefix, p.GetState(), p.GetNextHop(), pathPeer(p), p.GetAsPath(), num(p.GetLocalPref()), num(p.GetMed()), p.GetOrigin(), age(p.GetAge().AsDuration()), p.GetReason())
		}
	}
	if err := g.flush(); err != nil {
		return err
	}
	if n := r.GetCandidatesLeftOut(); n > 0 {
		_, err := fmt.Fprintf(w, "%d more prefixes have paths: name one for them\n", n)
		return err
	}
	return nil
}

// pathPeer names the source of a path.
func pathPeer(p *onlinkv1.Path) string {
	switch {
	case p.GetPeer() == "":
		return "this node"
	case p.GetPeerName() == "" || p.GetPeerName() == p.GetPeer():
		return p.GetPeer()
	}
	return fmt.Sprintf("%s (%s)", p.GetPeerName(), p.GetPeer())
}
