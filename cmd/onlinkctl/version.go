package main

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

// Version is set by the linker (-X main.Version=v1.2.3); a build without it
// shows Go's version of the source.
var Version = ""

// version returns the version of this program.
func version() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the versions of onlinkctl and of the agent",
		Long: `version shows the versions of onlinkctl and, if it runs, of the agent. An
agent that does not answer is no error here.`,
		Example: `  onlinkctl version`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if _, err := fmt.Fprintln(out, "onlinkctl:", version()); err != nil {
				return err
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			defer conn.close() //nolint:errcheck // nothing was written
			ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
			defer cancel()
			s, err := conn.GetStatus(ctx, &onlinkv1.GetStatusRequest{})
			if err != nil {
				_, err = fmt.Fprintln(out, "onlinkd:   unknown,", conn.problem(err))
				return err
			}
			_, err = fmt.Fprintf(out, "onlinkd:   %s, %s\n", clean(s.GetVersion()), clean(s.GetGobgp()))
			return err
		},
	}
}
