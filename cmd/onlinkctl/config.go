package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func configCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show or change the agent's configuration file",
		Long: `config shows the agent's onlinkd.yaml, and changes it and the running agent together: a change
applies as a whole, or not at all and with the reason. Sessions that it does not name stay up. A
change that needs a restart is rejected without --restart.`,
		Example: `  onlinkctl config show > onlinkd.yaml
  onlinkctl config diff onlinkd.yaml
  onlinkctl config apply onlinkd.yaml
  onlinkctl config reload
  onlinkctl config set-peer '{name: tor2, address: 10.57.0.2, asn: 65001, export: {filters: [to-backup-tor]}}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(configShowCommand(a), configDiffCommand(a), configApplyCommand(a), configReloadCommand(a), configConfirmCommand(a))
	for _, e := range configEdits {
		cmd.AddCommand(configEditCommand(a, e))
	}
	return cmd
}

func configShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Short:   "Print the configuration file",
		Long:    `show prints the file as it is; -o json and yaml add its digest, for config apply --if-digest.`,
		Example: `  onlinkctl config show`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, a, view[*onlinkv1.GetConfigReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.GetConfigReply, error) {
					return c.GetConfig(ctx, &onlinkv1.GetConfigRequest{})
				},
				table: func(w io.Writer, r *onlinkv1.GetConfigReply) error {
					_, err := io.WriteString(w, cleanText(r.GetText()))
					return err
				},
			})
		},
	}
}

// changeFlags are the flags of every change.
type changeFlags struct {
	dry     bool
	confirm bool
	digest  string
	restart bool
	routes  uint32
}

func (f *changeFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.dry, "dry-run", false, "change nothing, and print what would change, as config diff does")
	routesFlag(cmd, &f.routes)
	confirmFlag(cmd, &f.confirm)
	cmd.Flags().StringVar(&f.digest, "if-digest", "", "reject the change if the file has changed since (the digest of config show -o json)")
	cmd.Flags().BoolVar(&f.restart, "restart", false, "make also a change that needs a restart: the agent begins anew, and keeps routes and pods")
}

// confirmFlag makes changes that would be held.
func confirmFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "confirm", false,
		"make the change also when it would withdraw most announcements, or remove most peers or pools, all reflectors or every session")
}

func configApplyCommand(a *app) *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Replace the configuration file and apply it",
		Long: `apply replaces the agent's configuration file, and applies it as SIGHUP does. A file with an
error changes nothing, and one that would remove much is held until it is confirmed. "-" reads from
standard input.`,
		Example: `  onlinkctl config apply onlinkd.yaml --dry-run
  onlinkctl config apply onlinkd.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readFile(cmd, args[0])
			if err != nil {
				return err
			}
			return changeConfig(cmd, a, f, &onlinkv1.ChangeConfigRequest{Text: text})
		},
	}
	f.add(cmd)
	return cmd
}

func configReloadCommand(a *app) *cobra.Command {
	req := &onlinkv1.ReloadConfigRequest{}
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Apply the changed file to the running agent",
		Long: `reload applies the agent's configuration file, as SIGHUP does, or prints the reason why it is
rejected or held: then the last good one stays in force. Key files are read again too.`,
		Example: `  onlinkctl config reload`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, a, view[*onlinkv1.ReloadConfigReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ReloadConfigReply, error) {
					return c.ReloadConfig(ctx, req)
				},
				table: func(w io.Writer, r *onlinkv1.ReloadConfigReply) error {
					_, err := fmt.Fprintf(w, "%s is in force\n", clean(r.GetFile()))
					return err
				},
			})
		},
	}
	confirmFlag(cmd, &req.Confirm)
	return cmd
}

func configConfirmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "confirm [DIGEST]",
		Short: "Apply a change that the agent holds",
		Long: `confirm applies a change of the configuration or of announcements that the agent holds because of
what it would remove. status lists the held changes; when there is only one, it needs no digest.`,
		Example: `  onlinkctl config confirm
  onlinkctl config confirm 5d41402abc4b2a76`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &onlinkv1.ConfirmRequest{}
			if len(args) > 0 {
				req.Digest = args[0]
			}
			return show(cmd, a, view[*onlinkv1.ConfirmReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ConfirmReply, error) {
					return c.Confirm(ctx, req)
				},
				table: func(w io.Writer, r *onlinkv1.ConfirmReply) error {
					_, err := fmt.Fprintf(w, "the change of %s is made\n", clean(r.GetChange().GetWhat()))
					return err
				},
			})
		},
	}
}

// maxFile is the size of the largest configuration file, in bytes: no request holds more.
const maxFile = 4 << 20

func readFile(cmd *cobra.Command, name string) (string, error) {
	var b []byte
	var err error
	if name == "-" {
		name = "standard input"
		b, err = io.ReadAll(cmd.InOrStdin())
	} else if b, err = os.ReadFile(name); err == nil && len(b) == 0 {
		err = errors.New(name + " is empty; write {} for an empty configuration")
	}
	switch { // a message to the agent could not hold it
	case err != nil:
	case len(b) > maxFile:
		err = fmt.Errorf("%s is larger than %d KiB; is this the right file?", name, maxFile>>10)
	case !utf8.Valid(b):
		err = errors.New(name + " is no UTF-8 text; is this the right file?")
	}
	return string(b), err
}

// configEdit is a command that edits one entry.
type configEdit struct {
	use, short, example string
	edit                func(arg string) *onlinkv1.ConfigEdit
}

var configEdits = []configEdit{
	{
		"set-peer ENTRY", "Add an entry to bgp.peers, or replace the one with its name",
		`  onlinkctl config set-peer '{name: tor2, address: 10.57.0.2, asn: 65001}'`,
		func(arg string) *onlinkv1.ConfigEdit {
			return &onlinkv1.ConfigEdit{Edit: &onlinkv1.ConfigEdit_PutPeer{PutPeer: arg}}
		},
	}, {
		"remove-peer NAME", "Remove an entry from bgp.peers", `  onlinkctl config remove-peer tor2`,
		func(arg string) *onlinkv1.ConfigEdit {
			return &onlinkv1.ConfigEdit{Edit: &onlinkv1.ConfigEdit_RemovePeer{RemovePeer: arg}}
		},
	}, {
		"set-filter ENTRY", "Add an entry to bgp.filters, or replace the one with its name",
		`  onlinkctl config set-filter '{name: to-backup-tor, rules: [{set: {prepend: 2}, action: next}]}'`,
		func(arg string) *onlinkv1.ConfigEdit {
			return &onlinkv1.ConfigEdit{Edit: &onlinkv1.ConfigEdit_PutFilter{PutFilter: arg}}
		},
	}, {
		"remove-filter NAME", "Remove an entry from bgp.filters", `  onlinkctl config remove-filter to-backup-tor`,
		func(arg string) *onlinkv1.ConfigEdit {
			return &onlinkv1.ConfigEdit{Edit: &onlinkv1.ConfigEdit_RemoveFilter{RemoveFilter: arg}}
		},
	},
}

func configEditCommand(a *app, e configEdit) *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:     e.use,
		Short:   e.short,
		Long:    e.short + `, in the agent's file and in the running agent. An entry has the form of the file.`,
		Example: e.example,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeConfig(cmd, a, f, &onlinkv1.ChangeConfigRequest{Edits: []*onlinkv1.ConfigEdit{e.edit(args[0])}})
		},
	}
	f.add(cmd)
	return cmd
}

func changeConfig(cmd *cobra.Command, a *app, f changeFlags, req *onlinkv1.ChangeConfigRequest) error {
	req.DryRun, req.IfDigest, req.Confirm, req.Restart = f.dry, f.digest, f.confirm, f.restart
	if f.dry {
		req.Forecast = max(f.routes, 1)
	}
	return show(cmd, a, view[*onlinkv1.ChangeConfigReply]{
		fetch: func(ctx context.Context, c *connection) (*onlinkv1.ChangeConfigReply, error) {
			return c.ChangeConfig(ctx, req)
		},
		table: func(w io.Writer, r *onlinkv1.ChangeConfigReply) error {
			if r.GetForecast() != nil {
				if err := forecastTable(w, r.GetForecast()); err != nil {
					return err
				}
			}
			what := "in force, the file is written"
			switch held := r.GetHeld(); {
			case held != nil && f.dry:
				what = "would be held: it would remove " + clean(held.GetReason())
			case held != nil:
				what = fmt.Sprintf("held, nothing changed: it would remove %s; onlinkctl config confirm %s applies it", clean(held.GetReason()), clean(held.GetDigest()))
			case f.dry:
				what = "ok, nothing changed"
			case !r.GetChanged():
				what = "in force, the file is unchanged"
			}
			_, err := fmt.Fprintln(w, what)
			return err
		},
		broken: func(r *onlinkv1.ChangeConfigReply) bool { return r.GetHeld() != nil && !f.dry },
	})
}
