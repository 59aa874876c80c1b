package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"onlink/cmd/onlinkctl/monitor"
)

// The bounds of --interval: each turn costs the agent a list of its sessions.
const (
	defaultInterval = 2 * time.Second
	leastInterval   = 500 * time.Millisecond
	mostInterval    = time.Minute
)

// The size of a frame that goes to no terminal.
const (
	frameWidth  = 80
	frameHeight = 24
)

func monitorCommand(a *app) *cobra.Command {
	var interval time.Duration
	var single bool
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Show sessions, routes, addresses and events live on the whole screen",
		Long: `monitor shows one agent on the whole screen of the terminal, live: its state, routes and drift;
its sessions, those that are down first; its problems; its pools; and the events since monitor began:
sessions that went down and came up with the reason, problems that appeared and ended, drain, and
counts that changed. Enter opens a row: a session in detail, the blocks of a pool, the full text of a
problem or event. ? lists the keys; q quits.

When the agent does not answer, the last data stays with its age, and monitor connects again by
itself. It changes nothing. The agent sends its status when it differs; sessions and pools are
requested at --interval, one request after the other, and never more than a fifth of the time.
No list of routes is requested.

--once prints one frame as text, without a terminal too. Its size is the terminal's, or that of COLUMNS
and LINES, or 80x24. With NO_COLOR there are no colours.`,
		Example: `  onlinkctl monitor
  onlinkctl monitor --interval 5s
  onlinkctl monitor --once
  COLUMNS=160 LINES=50 onlinkctl monitor --once
  onlinkctl --server r1n1:9180 --tls-ca ca.crt --tls-cert alice.crt --tls-key alice.key monitor`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case cmd.Flags().Changed("output"):
				return errors.New("monitor has one form of output, text; use onlinkctl status -o json or peers -o json for programs")
			case a.watch != 0:
				return errors.New("monitor has no --watch; use --interval")
			case interval < leastInterval || interval > mostInterval:
				return fmt.Errorf("--interval %s: use %s to %s", interval, leastInterval, mostInterval)
			case single:
				return a.frame(cmd)
			}
			if err := canFill(os.Stdout, os.Getenv("TERM")); err != nil {
				return err
			}
			return monitor.Run(cmd.Context(), monitor.New(monitorTexts), newFeed(a, interval), a.now)
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", defaultInterval, "pause between two requests of the sessions and pools")
	cmd.Flags().BoolVar(&single, "once", false, "print one frame as text, and end")
	// The only error is a flag that is not there.
	if err := cmd.RegisterFlagCompletionFunc("interval", cobra.NoFileCompletions); err != nil {
		panic(err)
	}
	return cmd
}

// monitorTexts are the words of the other commands.
var monitorTexts = monitor.Texts{Age: age, Trouble: peerTrouble, Peer: peerText}

// canFill returns why there is no screen to fill.
func canFill(out *os.File, terminal string) error {
	const instead = "use onlinkctl monitor --once, or onlinkctl status -o json"
	if !term.IsTerminal(int(out.Fd())) {
		return fmt.Errorf("the standard output is not a terminal, and monitor fills the screen of one; %s", instead)
	}
	if terminal == "" || terminal == "dumb" {
		return fmt.Errorf("TERM=%s names a terminal without a cursor that moves, and monitor fills the screen; set TERM, or %s", terminal, instead)
	}
	return nil
}

// frame prints one frame.
func (a *app) frame(cmd *cobra.Command) error {
	conn, err := a.connect()
	if err != nil {
		return err
	}
	defer conn.close() //nolint:errcheck // nothing was written
	m := monitor.New(monitorTexts)
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	for _, ask := range []question{askStatus, askPeers, askPools, askBlocks} {
		answer, err := ask(ctx, conn)
		if err != nil {
			return conn.problem(err)
		}
		answer.At = a.now()
		m.Take(answer)
	}
	width, height := frameSize(cmd.OutOrStdout())
	if width < monitor.LeastWidth || height < monitor.LeastHeight {
		return fmt.Errorf("a frame of %dx%d is too small; set COLUMNS and LINES to %dx%d or more", width, height, monitor.LeastWidth, monitor.LeastHeight)
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), m.Frame(width, height, a.now()))
	return err
}

// frameSize returns the size of a frame that is printed.
func frameSize(out io.Writer) (width, height int) {
	width, height = frameWidth, frameHeight
	if f, ok := out.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			width, height = w, h
		}
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		width = n
	}
	if n, err := strconv.Atoi(os.Getenv("LINES")); err == nil && n > 0 {
		height = n
	}
	return width, height
}
