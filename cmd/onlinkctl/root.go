package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// command returns the whole command tree; now is the clock of ages.
func command(now func() time.Time) *cobra.Command {
	a := &app{now: now}
	root := &cobra.Command{
		Use:   "onlinkctl",
		Short: "Show and control the onlink agent of this node",
		Long: `onlinkctl shows the state of this node's onlink agent: its BGP sessions, its routes
and the reason for each, its blocks and addresses. Only announce, config, drain, undrain, peers with an
action and some ipam commands change something.`,
		Example: `  onlinkctl status                # the agent at a glance
  onlinkctl peers --watch         # sessions, every two seconds
  onlinkctl explain 10.244.1.7    # does a packet reach it, and how?
  onlinkctl routes -o json        # for programs
  onlinkctl --server r1n1:9180 --tls-ca ca.crt --tls-cert alice.crt --tls-key alice.key status`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.environment(cmd.Flags().Changed); err != nil {
				return err
			}
			return a.validate()
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", defaultSocket, "the agent's admin socket (api.admin.socket in onlinkd.yaml)")
	f.StringVar(&a.server, serverFlag, "", "an agent on another machine, as host:port (its api.admin.tcp), or "+serverEnv)
	f.StringVar(&a.tls.CA, caFlag, "", "authority of the certificate that --server shows, or "+caEnv)
	f.StringVar(&a.tls.Cert, certFlag, "", "certificate to show to --server, or "+certEnv)
	f.StringVar(&a.tls.Key, keyFlag, "", "its private key, or "+keyEnv)
	f.DurationVar(&a.timeout, "timeout", defaultTimeout, "maximum wait for an answer")
	f.StringVarP(&a.output, "output", "o", "table", "form of the output: "+strings.Join(formats, ", "))
	f.DurationVar(&a.watch, "watch", 0, "repeat the output at this interval")
	f.Lookup("watch").NoOptDefVal = defaultWatch
	// The only error is a flag that is not there.
	if err := root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
	root.AddCommand(
		statusCommand(a), monitorCommand(a), peersCommand(a), routesCommand(a), blocksCommand(a),
		poolsCommand(a), namespacesCommand(a), ipamCommand(a), drainCommand(a), undrainCommand(a), policyCommand(a), configCommand(a),
		announcementsCommand(a), announceCommand(a),
		explainCommand(a), logCommand(a), diagsCommand(a), versionCommand(a), pkiCommand(a),
	)
	return root
}
