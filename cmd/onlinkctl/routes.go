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
	return &cobra.Command{
		Use:   "routes [PREFIX|ADDRESS]",
		Short: "Show the decided routes and their reasons",
		Long: `routes shows the decided routes, one line per next hop, with the reason for
each, and whether the kernel holds them. Prefixes that this node announces for others, such as
services, come last; the kernel holds no routes for them. With a prefix or an address: only the
routes that cover it or lie inside it.`,
		Example: `  onlinkctl routes
  onlinkctl routes 10.244.1.7
  onlinkctl routes 10.244.0.0/16 -o yaml`,
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
			return show(cmd, a, view[*onlinkv1.ListRoutesReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ListRoutesReply, error) {
					return c.ListRoutes(ctx, &onlinkv1.ListRoutesRequest{Prefix: prefix})
				},
				table: routesTable,
			})
		},
	}
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

func routesTable(w io.Writer, r *onlinkv1.ListRoutesReply) error {
	g := newGrid(w, "PREFIX", "KIND", "VIA", "DEV", "TUNNEL", "REASON", "INSTALLED")
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
	return g.flush()
}
