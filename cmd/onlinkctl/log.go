package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	onlinkv1 "onlink/proto/v1"
)

// logWords are the levels that the log command sets.
var logWords = []string{"debug", "info", "warn", "error", "config"}

func logCommand(a *app) *cobra.Command {
	var parts []string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "log [LEVEL]",
		Short: "Show or set the level of the agent's log, for each part",
		Long: `log shows the level of each part of the agent's log. With a LEVEL (debug, info, warn, error) it
sets that of all parts, or of those that --part names, until a restart, or for the time of --for.
Then, and with the LEVEL config at once, a part has the level of the configuration (log.level)
again, which a reload changes meanwhile. The part engine is the BGP engine itself: at debug it
writes a line for each path.`,
		Example: `  onlinkctl log
  onlinkctl log debug --part bgp --for 10m
  onlinkctl log debug --part engine,fib --for 1m
  onlinkctl log config`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: logWords,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && (len(parts) > 0 || cmd.Flags().Changed("for")) {
				return errors.New("--part and --for need a LEVEL, such as: onlinkctl log debug --part bgp --for 10m")
			}
			if cmd.Flags().Changed("for") && lasts <= 0 {
				return fmt.Errorf("--for %s: use more than 0, such as 10m", lasts)
			}
			return show(cmd, a, view[*onlinkv1.LogLevels]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.LogLevels, error) {
					if len(args) == 0 {
						return c.GetLogLevels(ctx, &onlinkv1.GetLogLevelsRequest{})
					}
					req := &onlinkv1.SetLogLevelRequest{Level: args[0], Parts: parts}
					if lasts > 0 {
						req.Lasts = durationpb.New(lasts)
					}
					return c.SetLogLevel(ctx, req)
				},
				table: a.logLevels,
			})
		},
	}
	cmd.Flags().StringSliceVar(&parts, "part", nil, "only these parts, as onlinkctl log lists them")
	cmd.Flags().DurationVar(&lasts, "for", 0, "how long, at most 24h (default: until a restart)")
	return cmd
}

// logLevels writes the parts, and where the level is not the configuration's.
func (a *app) logLevels(w io.Writer, r *onlinkv1.LogLevels) error {
	g := newGrid(w, "PART", "LEVEL", "SET BY", "ENDS")
	for _, p := range r.GetParts() {
		ends := ""
		switch {
		case p.GetBy() == "":
		case p.GetUntil().IsValid():
			ends = "in " + age(p.GetUntil().AsTime().Sub(a.now()))
		default:
			ends = "at a restart"
		}
		g.row(p.GetPart(), p.GetLevel(), p.GetBy(), ends)
	}
	if err := g.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nThe configuration has the level %s.\n", clean(r.GetConfigured()))
	return err
}
