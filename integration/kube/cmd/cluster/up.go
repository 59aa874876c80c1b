package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"onlink/integration/kube/cluster"
)

// isUp is the line by which the process that holds a cluster says so.
const isUp = "up"

// up starts a process that holds the cluster, and shows its progress.
func up(name *string) *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "up", Short: "start a cluster, which stays until cluster down", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.prepare(c.Context()); err != nil {
				return err
			}
			o.Name = *name
			return o.start()
		},
	}
	o.flags(c)
	return c
}

// order is what up passes to hold.
type order struct {
	Options cluster.Options
	ToRs    bool
}

func (o *options) start() error {
	text, err := json.Marshal(order{o.Options, o.tors})
	if err != nil {
		return fmt.Errorf("write order: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.Command(self, "hold")
	cmd.Stdin = strings.NewReader(string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt of this shell is not the cluster's
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start cluster: %w", err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start cluster: %w", err)
	}
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		if scanner.Text() == isUp {
			return nil // the process stays
		}
		fmt.Println(scanner.Text())
	}
	return errors.Join(errors.New("the cluster did not start"), cmd.Wait())
}

// hold is the process that has the cluster, until cluster down.
func hold(name *string) *cobra.Command {
	return &cobra.Command{
		Use: "hold", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var o order
			if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
				return fmt.Errorf("read order: %w", err)
			}
			*name = o.Options.Name
			return holdCluster(c.Context(), o)
		},
	}
}

func holdCluster(ctx context.Context, o order) error {
	o.Options.Progress = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	c, err := cluster.Start(ctx, o.Options)
	if err != nil {
		return err
	}
	return errors.Join(serveCluster(ctx, c, o.ToRs), c.Stop())
}

func serveCluster(ctx context.Context, c *cluster.Cluster, tors bool) error {
	if tors {
		if err := c.Lab.StartToRs(ctx); err != nil {
			return err
		}
	}
	config, err := c.Forward(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	script := filepath.Join(c.Lab.Dir, "kubectl")
	text := fmt.Sprintf("#!/bin/sh\nexec %s --kubeconfig %s \"$@\"\n", filepath.Join(c.Options.Bin, "kubectl"), config)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		return fmt.Errorf("write script: %w", err)
	}
	fmt.Printf("kubectl %s\nexport KUBECONFIG=%s (from this machine), %s (inside)\nlogs    %s/*.log, %s/*/*.log\n",
		script, config, c.Kubeconfig(), c.Lab.Dir, c.Lab.Dir)
	var names []string
	for _, n := range c.Nodes {
		names = append(names, n.Name)
	}
	fmt.Printf("nodes   %s (ip netns exec %s.NODE ...; cluster enter NODE ...)\n", strings.Join(names, " "), c.Options.Name)
	return serve(ctx, c, func() error {
		fmt.Println(isUp)
		// The reader of the progress leaves: nothing may be written there again.
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer null.Close()
		for _, std := range []*os.File{os.Stdout, os.Stderr} {
			if err := syscall.Dup2(int(null.Fd()), int(std.Fd())); err != nil {
				return err
			}
		}
		return nil
	})
}
