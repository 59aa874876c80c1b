package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"onlink/integration/bed"
	"onlink/integration/kube/api"
	"onlink/integration/kube/cluster"
	"onlink/integration/vm"
)

// policyTest is the test that needs a kernel with ipip and nft_queue.
const policyTest = "TestNetworkPolicy"

// policy is the command that runs it.
func policy() *cobra.Command {
	var accel, part string
	c := &cobra.Command{
		Use: "policy", Short: "run " + policyTest + " on Debian's stock kernel in QEMU", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return judge(c.Context(), accel, part) },
	}
	c.Flags().StringVar(&part, "run", ".", "parts of it to run, as go test takes them")
	c.Flags().StringVar(&accel, "accel", bed.Interpreted, "QEMU's accelerator; kvm is fast, and may hang in a nested machine")
	return c
}

// judge renders the manifest with what enforces NetworkPolicies, and runs the test. The
// API server is in this kernel: an interpreted one bears it for minutes only to start.
func judge(ctx context.Context, accel, part string) (err error) {
	bin, err := programs(ctx, "")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "onlink-policy-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	manifest := filepath.Join(dir, "onlink.yaml")
	cmd := exec.CommandContext(ctx, "go", "run", "./tools/manifests", "-set", "networkPolicy.enabled=true", "-o", manifest)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text)
	}
	server, err := api.Launch(ctx, bin, dir)
	if err != nil {
		return err
	}
	defer server.Stop()
	access := filepath.Join(dir, "access")
	if err := server.WriteAccess(access, vm.HostAddress); err != nil {
		return err
	}
	return bed.Kernel(ctx, bed.KernelOptions{
		Out: os.Stdout, Run: "^" + policyTest + "$/(" + part + ")", Packages: []string{"./integration/kube"}, Accel: accel, Network: true,
		Env: []string{cluster.BinVariable + "=" + bin, cluster.PolicyVariable + "=" + manifest, cluster.AccessVariable + "=" + access},
	})
}
