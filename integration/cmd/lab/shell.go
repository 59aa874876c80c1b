package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"onlink/integration/lab"
	"onlink/integration/screen"
)

// shell prints the cheat sheet and runs a shell on this terminal.
func shell(ctx context.Context, l *lab.Lab, out *screen.Screen) error {
	cheat(l, out)
	path := "/bin/bash"
	if _, err := os.Stat(path); err != nil {
		path = "/bin/sh"
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "PATH="+l.Bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "PS1=onlink lab# ")
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil // the last command's failure is the shell's exit code
	}
	if err != nil {
		return fmt.Errorf("run shell: %w", err)
	}
	return nil
}

// cheat prints what to type.
func cheat(l *lab.Lab, out *screen.Screen) {
	n := l.Workers()[0]
	t := l.ToRs()[0]
	out.Title("the lab is up; `exit` takes it down")
	var names []string
	for _, t := range l.ToRs() {
		names = append(names, t.NS.Name)
	}
	for _, n := range l.Nodes() {
		names = append(names, n.NS.Name)
	}
	for _, p := range l.Pods() {
		names = append(names, p.NS.Name)
	}
	out.Block("namespaces: " + strings.Join(names, " "))
	rows := [][]string{
		{"a node's routes", "ip -n " + n.NS.Name + " route"},
		{"a node's agent", "onlinkctl --socket " + n.AdminSocket() + " status"},
		{"", "onlinkctl --socket " + n.AdminSocket() + " routes"},
		{"its log", "less " + n.LogFile()},
	}
	if l.Spec.ToR == lab.BIRD {
		rows = append(rows, []string{"a ToR", "birdc -s " + filepath.Join(l.Dir, t.Name+".ctl") + " show route"})
	} else {
		rows = append(rows, []string{"a ToR's routes", "ip -n " + t.NS.Name + " route"})
	}
	if pods := l.Pods(); len(pods) > 1 {
		far := pods[len(pods)-1]
		rows = append(rows,
			[]string{"why a pod is reachable", "onlinkctl --socket " + n.AdminSocket() + " explain " + far.Addr().String()},
			[]string{"pod to pod", "ip netns exec " + pods[0].NS.Name + " ping " + far.Addr().String()},
			[]string{"the wire", "ip netns exec " + n.NS.Name + " tcpdump -ni eth0 proto 4"})
	}
	out.Columns(rows)
}
