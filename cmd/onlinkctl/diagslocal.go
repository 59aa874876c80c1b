package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"onlink/agent/config"
	"onlink/diags"
)

// The folders of container runtimes, where the configuration names no others.
const (
	defaultConfDir = "/etc/cni/net.d"
	defaultBinDir  = "/opt/cni/bin"
)

// local is what this machine has of a node whose agent does not answer.
type local struct {
	file     string
	text     []byte // of the configuration without secrets
	err      error  // why there is none
	conf     *config.Config
	redactor *diags.Redactor
}

// newLocal reads the configuration file, for the secrets that it names.
func newLocal(file string) *local {
	l := &local{file: file, conf: config.Default()}
	var found config.Secrets
	text, err := config.File{Path: file}.Text()
	if err == nil {
		l.text, found, err = config.Shown(text, diags.Removed)
	}
	if c, perr := config.Parse(file, text); perr == nil {
		l.conf = c
	}
	l.err = err
	files := append(l.conf.SecretFiles(), found.Files...)
	l.redactor = diags.NewRedactor(append(diags.SecretsIn(files), found.Values...)...)
	return l
}

// parts returns the parts of this machine.
func (l *local) parts() []diags.Part {
	install := l.conf.CNI.Install
	confDir, binDir := install.ConfDir, install.BinDir
	if confDir == "" {
		confDir = defaultConfDir
	}
	if binDir == "" {
		binDir = defaultBinDir
	}
	out := []diags.Part{
		{Name: "agent/config.yaml", Write: func(_ context.Context, w io.Writer) error {
			if l.err != nil {
				return l.err
			}
			_, err := w.Write(l.text)
			return err
		}},
		{Name: "agent/config-mistakes.txt", Write: func(_ context.Context, w io.Writer) error {
			_, err := config.Load(l.file)
			if err == nil {
				_, err = fmt.Fprintln(w, "none")
			}
			return err
		}},
		{Name: "agent/journal.txt", Write: journal},
		{Name: "agent/processes.txt", Write: processes},
		diags.Folder(l.conf.Paths.State), diags.Folder(l.conf.Paths.Run),
		diags.CNI(confDir), diags.Folder(confDir), diags.Folder(binDir),
	}
	return append(out, diags.Machine()...)
}

// programs are those of an agent's process.
var programs = []string{"onlinkd", "onlinkctl", "onlink-cni", "onlink-kube"}

// processes writes the state of each process of onlink: one that hangs in the kernel
// shows where.
func processes(_ context.Context, w io.Writer) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	n := 0
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || !slices.Contains(programs, filepath.Base(exe)) {
			continue
		}
		n++
		for _, name := range []string{"status", "wchan", "stack"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				text = []byte(err.Error())
			}
			if _, err := fmt.Fprintf(w, "==> %s %s %s\n%s\n", dir, exe, name, text); err != nil {
				return err
			}
		}
	}
	if n == 0 {
		return errors.New("no process of onlink runs on this machine, or this user may not see it")
	}
	return nil
}
