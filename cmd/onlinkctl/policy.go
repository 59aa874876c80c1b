package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func policyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Test the BGP policy on a route",
		Long: `policy evaluates the import and export policy in force: filters, prefix lists and the
rules that come before them.`,
		Example: `  onlinkctl policy test --peer tor1 --direction export 10.244.1.0/26`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(policyTestCommand(a))
	return cmd
}

// routeFlags are the flags that describe a route.
type routeFlags struct {
	peer, direction              string
	communities                  []string
	asPath, nextHop, origin, src string
	localPref, med               uint32
}

func policyTestCommand(a *app) *cobra.Command {
	var f routeFlags
	cmd := &cobra.Command{
		Use:   "test --peer NAME|ADDRESS --direction import|export PREFIX",
		Short: "Show the effect of the policy on a route, rule by rule",
		Long: `test evaluates the policy in force on a route from the peer (import) or to the peer
(export). It announces and changes nothing. It shows every rule that matched, the deciding one
last, and the route before and after.

Missing attributes of an exported route come from the agent's table, if it has the prefix;
those of an imported one have the values of a plain announcement. For dynamic clients of a
reflector, --peer takes any address inside their range. It exits with 1 when the route is rejected.`,
		Example: `  onlinkctl policy test --peer tor1 --direction export 10.244.1.0/26
  onlinkctl policy test --peer tor1 --direction import 0.0.0.0/0
  onlinkctl policy test --peer tor1 --direction import 172.16.0.0/16 \
      --as-path '65001 65010' --community 65001:7 --community 65001:1:2 --med 50
  onlinkctl policy test --peer 10.57.0.12 --direction export 10.244.2.0/26 --source reflected -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := f.request(cmd, args[0])
			if err != nil {
				return err
			}
			return show(cmd, a, view[*onlinkv1.TestPolicyReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.TestPolicyReply, error) {
					return c.TestPolicy(ctx, req)
				},
				table:  policyText,
				broken: func(r *onlinkv1.TestPolicyReply) bool { return !r.GetAccepted() },
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.peer, "peer", "", "the peer's name or address (required)")
	fl.StringVar(&f.direction, "direction", "", "import: routes from the peer; export: routes to the peer (required)")
	fl.StringArrayVar(&f.communities, "community", nil, "a community of the route, AS:VALUE or AS:VALUE:VALUE; may be repeated")
	fl.StringVar(&f.asPath, "as-path", "", `its AS_PATH, such as "65001 65010 {65020,65030}"`)
	fl.Uint32Var(&f.med, "med", 0, "its MULTI_EXIT_DISC")
	fl.Uint32Var(&f.localPref, "local-pref", 0, "its LOCAL_PREF")
	fl.StringVar(&f.nextHop, "next-hop", "", "its next hop")
	fl.StringVar(&f.origin, "origin", "", "its ORIGIN: igp, egp or incomplete (default igp)")
	fl.StringVar(&f.src, "source", "", "export: the origin of the route: own, service, reflected or external")
	// The only errors are flags that are not there.
	for flag, complete := range map[string]cobra.CompletionFunc{
		"peer":      a.completePeers,
		"direction": cobra.FixedCompletions([]string{"import", "export"}, cobra.ShellCompDirectiveNoFileComp),
		"origin":    cobra.FixedCompletions([]string{"igp", "egp", "incomplete"}, cobra.ShellCompDirectiveNoFileComp),
		"source":    cobra.FixedCompletions([]string{"own", "service", "reflected", "external"}, cobra.ShellCompDirectiveNoFileComp),
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err)
		}
	}
	return cmd
}

// policyDirections are the values of --direction.
var policyDirections = map[string]onlinkv1.PolicyDirection{
	"import": onlinkv1.PolicyDirection_POLICY_DIRECTION_IMPORT,
	"export": onlinkv1.PolicyDirection_POLICY_DIRECTION_EXPORT,
}

func (f *routeFlags) request(cmd *cobra.Command, prefix string) (*onlinkv1.TestPolicyRequest, error) {
	p, err := prefixOf(prefix)
	if err != nil {
		return nil, err
	}
	dir, ok := policyDirections[f.direction]
	switch {
	case f.peer == "":
		return nil, errors.New("no peer: add --peer with a name of onlinkctl peers")
	case !ok:
		return nil, fmt.Errorf("unknown --direction %q; use import or export", f.direction)
	case f.src != "" && f.direction == "import":
		return nil, errors.New("--source is for --direction export: an imported route is the peer's")
	}
	r := &onlinkv1.PolicyRoute{Prefix: p.String(), NextHop: f.nextHop, AsPath: f.asPath, Origin: f.origin, Source: f.src}
	if cmd.Flags().Changed("med") {
		r.Med = &f.med
	}
	if cmd.Flags().Changed("local-pref") {
		r.LocalPref = &f.localPref
	}
	for _, c := range f.communities {
		switch strings.Count(c, ":") {
		case 1:
			r.Communities = append(r.Communities, c)
		case 2:
			r.LargeCommunities = append(r.LargeCommunities, c)
		default:
			return nil, fmt.Errorf("--community %q is neither AS:VALUE nor AS:VALUE:VALUE", c)
		}
	}
	return &onlinkv1.TestPolicyRequest{Peer: f.peer, Direction: dir, Route: r}, nil
}

// completePeers offers the names of the agent's peers to the shell. It drops the
// error of an agent that does not answer: a completion has no place for it.
func (a *app) completePeers(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	conn, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer conn.close() //nolint:errcheck // nothing was written
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	reply, err := conn.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []cobra.Completion
	for _, p := range reply.GetPeers() {
		if p.GetStranger() {
			continue
		}
		name := p.GetName()
		if p.GetDynamic() || name == "" {
			name = p.GetAddress()
		}
		if strings.HasPrefix(name, begun) && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// policyText writes the rules that matched, the route before and after, and
// the verdict.
func policyText(w io.Writer, r *onlinkv1.TestPolicyReply) error {
	g := newGrid(w, "RULE", "EFFECT")
	for _, s := range r.GetSteps() {
		g.row(s.GetRule(), s.GetEffect())
	}
	if err := g.flush(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	g = newGrid(w, "ATTRIBUTE", "BEFORE", "AFTER")
	after := r.GetAfter()
	if !r.GetAccepted() {
		after = &onlinkv1.PolicyRoute{}
	}
	b, c := attributes(r.GetBefore()), attributes(after)
	for i, name := range []string{"prefix", "source", "next hop", "AS_PATH", "LOCAL_PREF", "MED", "origin", "communities", "large communities"} {
		g.row(name, b[i], c[i])
	}
	if err := g.flush(); err != nil {
		return err
	}
	verdict := "REJECTED"
	if r.GetAccepted() {
		verdict = "ok"
	}
	_, err := fmt.Fprintf(w, "\n%s: %s\n", verdict, clean(r.GetRule()))
	return err
}

// attributes lists a route's attributes in the order of policyText.
func attributes(r *onlinkv1.PolicyRoute) []string {
	optional := func(n *uint32) string {
		if n == nil {
			return ""
		}
		return strconv.FormatUint(uint64(*n), 10)
	}
	return []string{
		r.GetPrefix(), r.GetSource(), r.GetNextHop(), r.GetAsPath(), optional(r.LocalPref), optional(r.Med), r.GetOrigin(),
		strings.Join(r.GetCommunities(), " "), strings.Join(r.GetLargeCommunities(), " "),
	}
}
