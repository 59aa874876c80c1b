package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func peersCommand(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "peers [NAME|ADDRESS disable|enable|reset]",
		Short: "Show or control the BGP sessions",
		Long: `peers shows the BGP sessions: RECEIVED prefixes before and ACCEPTED after the
import policy, and SENT ones. An address with a "*" is a dynamic peer. SINCE is how long the
session has been up, or down. BFD is the state of the peer's BFD session, "-" without one.
LAST ERROR is the reason why it last ended or does not come up, and its age. Dynamic peers
whose session failed, and unknown addresses that connect (ROLE "-"), are shown for 10 minutes.

With a peer and an action it changes one session: disable keeps it down until enable or a
restart of the agent, reset lets it come up again at once. The peer receives the reason.`,
		Example: `  onlinkctl peers
  onlinkctl peers --watch
  onlinkctl peers tor1 disable --reason 'uplink replaced, ticket 4711'`,
		Args: peersArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return controlPeer(cmd, a, args[0], args[1], reason)
			}
			return show(cmd, a, view[*onlinkv1.ListPeersReply]{
				fetch: func(ctx context.Context, c *connection) (*onlinkv1.ListPeersReply, error) {
					return c.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
				},
				table: peersTable,
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "the reason, for disable and reset: at most 128 bytes, sent to the peer (RFC 9003)")
	return cmd
}

// peerActions are the values of peers' second argument.
var peerActions = map[string]onlinkv1.PeerAction{
	"disable": onlinkv1.PeerAction_PEER_ACTION_DISABLE,
	"enable":  onlinkv1.PeerAction_PEER_ACTION_ENABLE,
	"reset":   onlinkv1.PeerAction_PEER_ACTION_RESET,
}

func peersArgs(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case len(args) != 2:
		return errors.New("a peer needs an action; use disable, enable or reset, as in: onlinkctl peers tor1 disable")
	case peerActions[args[1]] == onlinkv1.PeerAction_PEER_ACTION_UNSPECIFIED:
		return fmt.Errorf("unknown action %q; use disable, enable or reset", args[1])
	}
	return nil
}

func controlPeer(cmd *cobra.Command, a *app, peer, action, reason string) error {
	return show(cmd, a, view[*onlinkv1.ControlPeerReply]{
		fetch: func(ctx context.Context, c *connection) (*onlinkv1.ControlPeerReply, error) {
			return c.ControlPeer(ctx, &onlinkv1.ControlPeerRequest{Peer: peer, Action: peerActions[action], Reason: reason})
		},
		table: func(w io.Writer, r *onlinkv1.ControlPeerReply) error {
			return peersTable(w, &onlinkv1.ListPeersReply{Peers: []*onlinkv1.Peer{r.GetPeer()}})
		},
	})
}

func peersTable(w io.Writer, r *onlinkv1.ListPeersReply) error {
	g := newGrid(w, "NAME", "ADDRESS", "AS", "ROLE", "STATE", "SINCE", "RECEIVED", "ACCEPTED", "SENT", "FLAPS", "BFD", "LAST ERROR")
	for _, p := range r.GetPeers() {
		address := p.GetAddress()
		if p.GetDynamic() {
			address += "*"
		}
		g.row(p.GetName(), address, num(p.GetAsn()), p.GetRole(), p.GetState(), age(p.GetSince().AsDuration()),
			num(p.GetPrefixesIn()), num(p.GetAccepted()), num(p.GetPrefixesOut()), num(p.GetFlaps()), p.GetBfd().GetState(), peerTrouble(p))
	}
	return g.flush()
}

// peerTrouble returns why a session is held down, else why and when it last failed.
func peerTrouble(p *onlinkv1.Peer) string {
	switch {
	case p.GetHeld() != "":
		return "held down: " + p.GetHeld()
	case p.GetTrouble() != "" && p.GetTrouble() != p.GetLastError():
		return p.GetTrouble()
	case p.GetLastError() != "" && p.GetLastErrorAge() != nil:
		return age(p.GetLastErrorAge().AsDuration()) + " ago: " + p.GetLastError()
	}
	return p.GetLastError()
}
