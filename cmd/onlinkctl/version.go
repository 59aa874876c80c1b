package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"onlink/internal/version"
	onlinkv1 "onlink/proto/v1"
)

// versions is the answer of the command.
type versions struct {
	Onlinkctl version.Info  `json:"onlinkctl"`
	Onlinkd   *agentVersion `json:"onlinkd,omitempty"` // nil: no answer
	Problem   string        `json:"problem,omitempty"` // why there is none
	// Skew is the difference of the two in words, with the remedy; empty: there is none.
	Skew string `json:"skew,omitempty"`
}

// skewOf returns the difference between this program and an agent.
func skewOf(agent string) string {
	own := version.Get().Version
	if agent == "" || agent == own {
		return ""
	}
	return fmt.Sprintf("onlinkctl is %s and the agent %s: what only one of them knows fails or is not shown; use the onlinkctl of the agent's package, or, where that was upgraded, systemctl restart onlinkd (routes and pods stay)", own, clean(agent))
}

// agentVersion is what an agent reports of itself.
type agentVersion struct {
	Version string `json:"version"`
	Engine  string `json:"engine"`
}

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the versions of onlinkctl and of the agent",
		Long: `version shows the versions of onlinkctl and, if it runs, of the agent. An
agent that does not answer is no error here. A difference between the two is a note, with what to
do; so it is in onlinkctl status, as is a program of the agent that was replaced since its start.`,
		Example: `  onlinkctl version
  onlinkctl version -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versions{Onlinkctl: version.Get()}
			if err := a.askVersion(cmd.Context(), &v); err != nil {
				return err
			}
			if a.output != "table" {
				return a.encode(cmd.OutOrStdout(), v)
			}
			return v.write(cmd.OutOrStdout())
		},
	}
}

// askVersion adds the agent's version, or why there is none.
func (a *app) askVersion(ctx context.Context, v *versions) error {
	conn, err := a.connect()
	if err != nil {
		return err
	}
	defer conn.close() //nolint:errcheck // nothing was written
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	s, err := conn.GetStatus(ctx, &onlinkv1.GetStatusRequest{})
	if err != nil {
		v.Problem = conn.problem(err).Error()
		return nil
	}
	v.Onlinkd, v.Skew = &agentVersion{clean(s.GetVersion()), clean(s.GetGobgp())}, skewOf(s.GetVersion())
	return nil
}

func (v *versions) write(out io.Writer) error {
	agent := "unknown, " + v.Problem
	if v.Onlinkd != nil {
		agent = v.Onlinkd.Version + ", " + v.Onlinkd.Engine
	}
	if _, err := fmt.Fprintf(out, "onlinkctl: %s\nonlinkd:   %s\n", v.Onlinkctl.String(), agent); err != nil || v.Skew == "" {
		return err
	}
	_, err := fmt.Fprintf(out, "Note:      %s\n", v.Skew)
	return err
}
