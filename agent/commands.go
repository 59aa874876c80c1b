package agent

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"onlink/agent/config"
	"onlink/agent/install"
	"onlink/agent/pods"
	"onlink/agent/preflight"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/cni"
	"onlink/internal/version"
)

// This file holds the commands of the program besides running an agent.

// VersionText returns the version as `onlinkd --version` shows it: with commit and
// engine.
func VersionText() string { return version.Get().String(bgp.Engine()) }

// CheckConfig returns the mistakes of a valid configuration with which the start of
// an agent would fail, or a part of it never work. It opens what the start opens on
// this machine, unless fileOnly; see [preflight]. The error is of type
// [config.Errors], or that of reading the kernel's state.
func CheckConfig(ctx context.Context, cfg *config.Config, fileOnly bool) error {
	mistakes := preflight.File(cfg)
	if !fileOnly {
		var err error
		if mistakes, err = preflight.Machine(ctx, cfg, preflight.Setup{OwnDevice: ownDevice, Database: databasePath(cfg)}); err != nil {
			return err
		}
	}
	if len(mistakes) > 0 {
		return mistakes
	}
	return nil
}

// InstallCNI installs the plugin from outside, see [install.Once].
func InstallCNI(ctx context.Context, cfg *config.Config) (cni.Installation, error) {
	return install.Once(ctx, cfg.CNI)
}

// UninstallCNI removes the files that [InstallCNI] or the agent installed.
func UninstallCNI(cfg *config.Config) error { return install.Undo(cfg.CNI) }

// WatchPeers is the program of [Options].BFD: it watches peers for the agent at
// the other end of in and out, until in ends.
func WatchPeers(in io.Reader, out io.Writer) error {
	return bfd.Serve(in, out, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// Fsck checks the database of an agent that is not running, see [pods.Fsck].
func Fsck(cfg *config.Config, repair bool) (problems, repaired []string, err error) {
	return pods.Fsck(databasePath(cfg), cfg.FIB.Table, repair)
}

// databasePath returns the path of the node's database.
func databasePath(cfg *config.Config) string { return filepath.Join(cfg.Paths.State, "onlink.db") }
