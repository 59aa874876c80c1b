package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"onlink/integration/bed"
	"onlink/integration/kube/cluster"
	"onlink/integration/uml"
)

// tunnelTest is the test that a kernel without ipip skips.
const tunnelTest = "TestTunnelled"

// tunnel is the command that runs it, here or in user-mode Linux.
func tunnel() *cobra.Command {
	return &cobra.Command{
		Use: "tunnel", Short: "run " + tunnelTest + ", in user-mode Linux where this kernel has no ipip", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if uml.HasIPIP() {
				return goTest(c.Context(), "^"+tunnelTest+"$")
			}
			return tunnelled(c.Context())
		},
	}
}

// tunnelTime bounds it in user-mode Linux, which has one CPU and slow system calls.
const tunnelTime = 40 * time.Minute

// legacy are the programs by which kube-proxy writes to iptables' own tables: the
// user-mode kernel lacks those of nf_tables, to which Debian's default leads.
var legacy = []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"}

// tunnelled runs the test in user-mode Linux.
func tunnelled(ctx context.Context) (err error) {
	bin, err := programs(ctx, "")
	if err != nil {
		return err
	}
	if err := bed.Install(ctx, os.Stdout, bed.NeedUML); err != nil {
		return err
	}
	out, err := os.MkdirTemp("", "onlink-kube-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(out)) }()
	if err := fillGuest(ctx, out, bin); err != nil {
		return err
	}
	fmt.Printf("%s in user-mode Linux\n", tunnelTest)
	code, err := uml.Run(ctx, uml.Options{
		Out: out, Timeout: tunnelTime, Memory: "6G", Stdout: os.Stdout, Stderr: os.Stderr,
		Env: []string{cluster.BinVariable + "=/out/kube", cluster.OwnVariable + "=/out/own", "ONLINK_BIN=/out/bin"},
	}, []string{"/bin/sh", "-c", "cd /out/integration/kube && exec /out/kube.test -test.v -test.run '^" + tunnelTest + "$'"})
	if err != nil {
		return fmt.Errorf("run %s in user-mode Linux: %w", tunnelTest, err)
	}
	if code != 0 {
		return fmt.Errorf("%s in user-mode Linux: exit code %d, see above", tunnelTest, code)
	}
	return nil
}

// fillGuest copies what the guest needs: it runs as a user who may not enter every
// folder of the host.
func fillGuest(ctx context.Context, out, bin string) error {
	for from, to := range map[string]string{bin: "kube", os.Getenv("ONLINK_BIN"): "bin", "deploy/kubernetes": "deploy/kubernetes"} {
		if err := os.CopyFS(filepath.Join(out, to), os.DirFS(from)); err != nil {
			return fmt.Errorf("copy %s: %w", from, err)
		}
	}
	for _, name := range legacy {
		if err := os.Symlink("/usr/sbin/xtables-legacy-multi", filepath.Join(out, "kube", name)); err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(out, "integration", "kube"), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := cluster.Programs(ctx, filepath.Join(out, "own")); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-o", filepath.Join(out, "kube.test"), "./integration/kube")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text)
	}
	return nil
}
