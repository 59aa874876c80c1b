package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"onlink/agent"
)

// errProblems ends fsck with exit code 1; the problems are printed already.
var errProblems = errors.New("the database has problems")

// fsckCommand checks the database; path is the root command's flag.
func fsckCommand(path *string) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Check the database of a stopped agent, and repair it",
		Long: `fsck checks the database of an agent that does not run: its pages, its records,
and that they agree with the pods' interfaces in the kernel. It prints a line
per problem, and its exit code is 1 when there is one.

With --repair it repairs faults with one right answer. A file that cannot be
read is rebuilt by "onlinkd --repair-database". For a running agent use
"onlinkctl ipam check".`,
		Example: `  onlinkd fsck
  onlinkd fsck --repair --config ./onlinkd.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(*path, cmd.Flags().Changed("config"))
			if err != nil {
				return err
			}
			problems, repaired, err := agent.Fsck(cfg, repair)
			for _, text := range repaired {
				fmt.Fprintln(cmd.OutOrStdout(), "repaired:", text)
			}
			for _, text := range problems {
				fmt.Fprintln(cmd.OutOrStdout(), text)
			}
			switch {
			case err != nil:
				return err
			case len(problems) > 0:
				return fmt.Errorf("%w: %d", errProblems, len(problems))
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return nil
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "repair faults with one right answer")
	return cmd
}
