package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func configDiffCommand(a *app) *cobra.Command {
	var items uint32
	cmd := &cobra.Command{
		Use:   "diff FILE",
		Short: "Print what the agent would do with another configuration file",
		Long: `diff prints what the running agent would do with a file, computed over the routes that it has now:
which sessions it would reset, add and remove; which prefixes it would announce and withdraw,
accept and drop, with the rule that decides; and which kernel routes would change. It changes
nothing. "-" reads from standard input.

The counts are whole; --routes bounds the lists. Of a session that is new, the routes that it will
bring are unknown. A change that needs a restart restarts every session gracefully, and has no
lists.`,
		Example: `  onlinkctl config diff onlinkd.yaml
  onlinkctl config diff onlinkd.yaml --routes 1000 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readFile(cmd, args[0])
			if err != nil {
				return err
			}
			req := &onlinkv1.ChangeConfigRequest{Text: text, DryRun: true, Restart: true, Forecast: max(items, 1)}
			return show(cmd, a, view[*onlinkv1.ChangeConfigReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ChangeConfigReply, error) {
					return c.ChangeConfig(ctx, req)
				},
				table: func(w io.Writer, r *onlinkv1.ChangeConfigReply) error { return forecastTable(w, r.GetForecast()) },
			})
		},
	}
	routesFlag(cmd, &items)
	return cmd
}

// routesFlag bounds the lists of a forecast.
func routesFlag(cmd *cobra.Command, items *uint32) {
	cmd.Flags().Uint32Var(items, "routes", 10, "print at most so many routes of each list, 1 to 1000")
}

// forecastTable prints a forecast: the sessions that change, then the routes.
func forecastTable(w io.Writer, f *onlinkv1.Forecast) error {
	for _, m := range f.GetMistakes() {
		if _, err := fmt.Fprintf(w, "mistake: %s\n", clean(m)); err != nil {
			return err
		}
	}
	switch {
	case f.GetRestart() != "":
		_, err := fmt.Fprintf(w, "%s: the sessions restart gracefully, routes and pods stay\n", clean(f.GetRestart()))
		return err
	case f.GetUnknown() != "":
		_, err := fmt.Fprintf(w, "what would change is unknown: %s\n", clean(f.GetUnknown()))
		return err
	}
	if err := sessionsTable(w, f.GetSessions()); err != nil {
		return err
	}
	lists := routeLists(f)
	for _, l := range lists {
		if err := l.print(w); err != nil {
			return err
		}
	}
	return nil
}

// sessionsTable prints the sessions that a change touches.
func sessionsTable(w io.Writer, list []*onlinkv1.SessionForecast) error {
	g := newGrid(w, "SESSION", "ADDRESS", "FATE", "ANNOUNCE", "WITHDRAW", "CHANGE", "ACCEPT", "DROP", "WHY")
	kept := 0
	for _, s := range list {
		anew := s.GetAnnouncesChanged().GetCount() + s.GetAcceptsChanged().GetCount()
		if s.GetFate() == "kept" && anew+s.GetAnnounces().GetCount()+s.GetWithdraws().GetCount()+s.GetAccepts().GetCount()+s.GetDrops().GetCount() == 0 {
			kept++
			continue
		}
		number := func(n uint64) string { return strconv.FormatUint(n, 10) }
		fate := s.GetFate()
		if !s.GetUp() && fate != "added" {
			fate += " (down)"
		}
		g.row(s.GetName(), s.GetAddress(), fate, number(s.GetAnnounces().GetCount()), number(s.GetWithdraws().GetCount()), number(anew),
			number(s.GetAccepts().GetCount()), number(s.GetDrops().GetCount()), s.GetWhy())
	}
	if kept == len(list) {
		_, err := fmt.Fprintf(w, "no session changes (%d)\n", kept)
		return err
	}
	if err := g.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d other sessions do not change\n", kept)
	return err
}

// routeList is a list of a forecast with its heading.
type routeList struct {
	heading string
	list    *onlinkv1.ForecastList
}

func routeLists(f *onlinkv1.Forecast) (out []routeList) {
	for _, s := range f.GetSessions() {
		out = append(out,
			routeList{"announce to " + s.GetName(), s.GetAnnounces()}, routeList{"withdraw from " + s.GetName(), s.GetWithdraws()},
			routeList{"announce with other attributes to " + s.GetName(), s.GetAnnouncesChanged()},
			routeList{"accept from " + s.GetName(), s.GetAccepts()}, routeList{"drop from " + s.GetName(), s.GetDrops()},
			routeList{"accept with other attributes from " + s.GetName(), s.GetAcceptsChanged()})
	}
	return append(out, routeList{"install into the kernel", f.GetInstalls()}, routeList{"remove from the kernel", f.GetRemoves()}, routeList{"replace in the kernel", f.GetReplaces()})
}

// print prints a list that is not empty.
func (l routeList) print(w io.Writer) error {
	if l.list.GetCount() == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\n%s: %d\n", clean(l.heading), l.list.GetCount()); err != nil {
		return err
	}
	for _, r := range l.list.GetFirst() {
		if _, err := fmt.Fprintf(w, "  %s  %s\n", r.GetPrefix(), clean(r.GetText())); err != nil {
			return err
		}
	}
	if more := l.list.GetCount() - uint64(len(l.list.GetFirst())); more > 0 {
		_, err := fmt.Fprintf(w, "  and %d more\n", more)
		return err
	}
	return nil
}
