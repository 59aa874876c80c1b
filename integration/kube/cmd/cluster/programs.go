package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"onlink/integration/kube/binaries"
	"onlink/integration/kube/cluster"
)

// defaultRoot is the folder of the programs, in the tree.
const defaultRoot = "build/kube"

// programs returns the folder of Kubernetes' programs: the one that is named, or
// that of the tree, where they are built first.
func programs(ctx context.Context, named string) (string, error) {
	if named == "" {
		named = os.Getenv(cluster.BinVariable)
	}
	if named != "" {
		return filepath.Abs(named)
	}
	dir, err := binaries.Build(ctx, defaultRoot, os.Stdout)
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// test runs the tests that need a cluster, and prints what it runs.
func test() *cobra.Command {
	c := &cobra.Command{Use: "test", Short: "run the tests of package integration/kube", Args: cobra.NoArgs}
	pattern := c.Flags().String("run", ".", "tests to run, as go test takes it")
	c.RunE = func(c *cobra.Command, _ []string) error { return goTest(c.Context(), *pattern) }
	return c
}

// goTest runs tests of package integration/kube, and prints the command. Three of those
// that have an API server and no cluster run at a time: they wait more than they compute.
func goTest(ctx context.Context, pattern string) error {
	bin, err := programs(ctx, "")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-timeout", "30m", "-parallel", "3", "-run", pattern, "./integration/kube")
	cmd.Env = append(os.Environ(), cluster.BinVariable+"="+bin)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	fmt.Printf("%s=%s %s\n", cluster.BinVariable, bin, strings.Join(cmd.Args, " "))
	return cmd.Run()
}
