//go:debug multipathtcp=0

// Command lab shows onlink at work: `lab demo` tells the story of two racks
// and checks it, `lab up` leaves the same topology running with a shell, `lab drill`
// breaks a rack, and opens a shell to mend it.
//
// Where the kernel has no ipip devices it builds itself and onlink's programs,
// and runs inside user-mode Linux. It needs root.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"onlink/integration/lab"
	"onlink/integration/screen"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if code, ok := errors.AsType[exitError](err); ok {
		os.Exit(int(code))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use: "lab", Short: "racks, routers, onlink nodes and pods in network namespaces",
		SilenceUsage: true, SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.BoolVar(&o.native, "native", false, "use this machine's kernel")
	flags.BoolVar(&o.uml, "uml", false, "use user-mode Linux")
	flags.StringVar(&o.tor, "tor", string(lab.BIRD), "program of the top-of-rack routers: bird or frr")
	flags.StringVar(&o.bin, "bin", "", "folder with onlinkd, onlinkctl and onlink-cni (default: built now)")
	flags.StringVar(&o.name, "name", "demo", "name of the lab, the prefix of its namespaces")
	root.MarkFlagsMutuallyExclusive("native", "uml")

	demo := &cobra.Command{
		Use: "demo", Short: "build two racks, run the checks, say what is true", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), "demo", tellDemo) },
	}
	demo.Flags().BoolVar(&o.keep, "keep", false, "leave the lab up, with a shell, when a check fails")
	up := &cobra.Command{
		Use: "up", Short: "build two racks and open a shell in them", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), "up", leaveUp) },
	}
	drill := &cobra.Command{
		Use: "drill [NUMBER]", Short: "break a rack as docs/drill.md says, and open a shell to mend it", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return o.drill(c.Context(), args) },
	}
	root.AddCommand(demo, up, drill)
	return root
}

// run runs work on a kernel that can do it.
func (o options) run(ctx context.Context, verb string, work func(context.Context, options, *screen.Screen) error) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: run it with sudo")
	}
	out := screen.New(os.Stdout)
	programs, err := o.prepare(ctx, out)
	if err != nil {
		return err
	}
	defer programs.remove()
	if programs.guest {
		return programs.boot(ctx, o, verb, out)
	}
	o.bin = programs.bin
	return work(ctx, o, out)
}
