package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"

	onlinkv1 "onlink/proto/v1"
)

func announcementsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "announcements",
		Short: "Show the prefixes that this node announces for owners, such as services",
		Long: `announcements shows the prefixes that this node announces besides its blocks, by owner: the
peers that receive each ("all": every peer whose policy accepts it), whether it is announced,
announced with GRACEFUL_SHUTDOWN, withdrawn by a drain, withheld since a boot of the machine until
its owner sends it again, or rejected, and why.`,
		Example: `  onlinkctl announcements
  onlinkctl announcements -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, a, view[*onlinkv1.ListAnnouncementsReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ListAnnouncementsReply, error) {
					return c.ListAnnouncements(ctx, &onlinkv1.ListAnnouncementsRequest{})
				},
				table: announcementsTable,
			})
		},
	}
}

func announcementsTable(w io.Writer, r *onlinkv1.ListAnnouncementsReply) error {
	g := newGrid(w, "PREFIX", "OWNER", "PEERS", "STATE", "REASON")
	for _, set := range r.GetSets() {
		for _, one := range set.GetAnnouncements() {
			peers := "all"
			if len(one.GetPeers()) > 0 {
				peers = strings.Join(one.GetPeers(), ",")
			}
			g.row(one.GetPrefix(), set.GetOwner(), peers, one.GetState(), one.GetReason())
		}
		for _, no := range set.GetWithheld() {
			g.row(no.GetPrefix(), set.GetOwner(), "", "withheld", no.GetReason())
		}
		for _, no := range set.GetRejected() {
			g.row(no.GetPrefix(), set.GetOwner(), "", "rejected", no.GetReason())
		}
	}
	return g.flush()
}

// announceFlags are what announce makes a set of.
type announceFlags struct {
	file                         string
	prefixes, communities, peers []string
	localPref, med               uint32
	reason                       string
	shutdown, none, confirm      bool
}

func announceCommand(a *app) *cobra.Command {
	var f announceFlags
	cmd := &cobra.Command{
		Use:   "announce OWNER",
		Short: "Replace the prefixes that this node announces for an owner",
		Long: `announce makes the given prefixes the announcements of an owner: those that it had before
and that are not given are withdrawn. They outlive restarts. A change that withdraws more than a
third of them, and at least two, is held until onlinkctl config confirm, or made at once with
--confirm. In Kubernetes the owner "services" belongs to onlink-kube.

A file has announcements as onlinkctl announcements -o yaml shows them:

  announcements:
    - {prefix: 203.0.113.7/32, peers: [tor1], communities: ["64512:7"], local_pref: 200, med: 5}
    - {prefix: 203.0.113.8/32, graceful_shutdown: true, reason: maintenance}`,
		Example: `  onlinkctl announce operator --prefix 203.0.113.7/32 --peer tor1 --community 64512:7
  onlinkctl announce operator -f announcements.yaml
  onlinkctl announce operator --none`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := f.request(cmd)
			if err != nil {
				return err
			}
			req.Owner, req.Confirm = args[0], f.confirm
			return show(cmd, a, view[*onlinkv1.AnnounceReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.AnnounceReply, error) {
					return c.Announce(ctx, req)
				},
				table:  announceText,
				broken: func(r *onlinkv1.AnnounceReply) bool { return r.GetHeld() != nil || len(r.GetRejected()) > 0 },
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "a file with the announcements; -: standard input")
	fl.StringArrayVar(&f.prefixes, "prefix", nil, "a prefix or an address; more than one may be given")
	fl.BoolVar(&f.none, "none", false, "announce nothing for the owner")
	fl.StringArrayVar(&f.peers, "peer", nil, "with --prefix: the name of a peer that receives them; without: all")
	fl.StringArrayVar(&f.communities, "community", nil, "with --prefix: a community, as 64512:7 or 64512:1:2")
	fl.Uint32Var(&f.localPref, "local-pref", 0, "with --prefix: LOCAL_PREF, for peers of our AS")
	fl.Uint32Var(&f.med, "med", 0, "with --prefix: MED")
	fl.BoolVar(&f.shutdown, "graceful-shutdown", false, "with --prefix: announce with GRACEFUL_SHUTDOWN (RFC 8326)")
	fl.StringVar(&f.reason, "reason", "", "with --prefix: why, shown by onlinkctl announcements")
	fl.BoolVar(&f.confirm, "confirm", false, "make the change whatever it withdraws")
	cmd.MarkFlagsOneRequired("file", "prefix", "none")
	cmd.MarkFlagsMutuallyExclusive("file", "prefix", "none")
	for _, name := range []string{"peer", "community", "local-pref", "med", "graceful-shutdown", "reason"} {
		cmd.MarkFlagsMutuallyExclusive("file", name)
		cmd.MarkFlagsMutuallyExclusive("none", name)
	}
	return cmd
}

// request returns the set that the flags describe.
func (f *announceFlags) request(cmd *cobra.Command) (*onlinkv1.AnnounceRequest, error) {
	req := &onlinkv1.AnnounceRequest{}
	if f.file != "" {
		return req, f.read(cmd, req)
	}
	for _, text := range f.prefixes {
		p, err := prefixOf(text)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(text, "/") { // with one the agent rejects host bits: a mistake
			text = p.String()
		}
		one := &onlinkv1.Announcement{
			Prefix: text, Communities: f.communities, Peers: f.peers, GracefulShutdown: f.shutdown, Reason: f.reason,
		}
		if cmd.Flags().Changed("local-pref") {
			one.LocalPref = &f.localPref
		}
		if cmd.Flags().Changed("med") {
			one.Med = &f.med
		}
		req.Announcements = append(req.Announcements, one)
	}
	return req, nil
}

// read reads the announcements of the file.
func (f *announceFlags) read(cmd *cobra.Command, req *onlinkv1.AnnounceRequest) error {
	text, err := readFile(cmd, f.file)
	if err != nil {
		return err
	}
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err == nil {
		err = protojson.Unmarshal(asJSON, req)
	}
	if err != nil {
		return fmt.Errorf("%s: %s; write announcements: [{prefix: 203.0.113.7/32}], see onlinkctl announce --help", f.file, clean(err.Error()))
	}
	if len(req.GetAnnouncements()) == 0 {
		return errors.New(f.file + " has no announcements: use --none to withdraw all of the owner")
	}
	return nil
}

// announceText writes the result of a replacement.
func announceText(w io.Writer, r *onlinkv1.AnnounceReply) error {
	if h := r.GetHeld(); h != nil {
		_, err := fmt.Fprintf(w, "HELD: it would withdraw %s; nothing is changed. To make it: onlinkctl config confirm %s\n", clean(h.GetReason()), clean(h.GetDigest()))
		return err
	}
	if _, err := fmt.Fprintf(w, "%d announced\n", r.GetAnnounced()); err != nil {
		return err
	}
	for _, no := range r.GetRejected() {
		if _, err := fmt.Fprintf(w, "rejected: %s: %s\n", clean(no.GetPrefix()), clean(no.GetReason())); err != nil {
			return err
		}
	}
	return nil
}
