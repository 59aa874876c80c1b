package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"onlink/agent"
)

// bfdWord is the command of the process that watches peers for the agent.
const bfdWord = "watch-peers"

// bfdCommand is not for people: the agent starts it when a peer has bfd.
func bfdCommand() *cobra.Command {
	return &cobra.Command{
		Use:    bfdWord,
		Short:  "Watch peers with BFD for the agent that started this",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			// The agent's end is the end of stdin: whoever stops both must not
			// stop this one first, or it could not say AdminDown.
			signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			return agent.WatchPeers(os.Stdin, os.Stdout)
		},
	}
}
