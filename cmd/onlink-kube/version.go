package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"onlink/internal/version"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of onlink-kube",
		Example: `  onlink-kube version`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "onlink-kube:", version.Get().String())
			return err
		},
	}
}
