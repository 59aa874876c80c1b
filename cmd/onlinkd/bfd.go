package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"onlink/agent"
)

// bfdWord is the command of the process that runs BFD for the agent.
const bfdWord = "watch-peers"

// bfdCommand is not for operators: the agent starts it when a peer has bfd.
func bfdCommand() *cobra.Command {
	return &cobra.Command{
		Use:    bfdWord,
		Short:  "Run BFD for the agent that started this process",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			// The process ends with stdin, after the agent: if a signal to both
			// ended it first, it could not send AdminDown.
			signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			return agent.WatchPeers(os.Stdin, os.Stdout)
		},
	}
}
