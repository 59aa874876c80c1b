package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func peersCommand(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "peers [NAME|ADDRESS [ACTION | SET [PREFIX]]]",
		Short: "Show or control the BGP sessions",
		Long: `peers shows the BGP sessions: RECEIVED prefixes before and ACCEPTED after the
import policy, and SENT ones. An address with a "*" is a dynamic peer. SINCE is how long the
session has been up, or down. BFD is the state of the peer's BFD session, "-" without one.
LAST ERROR is the reason why it last ended or does not come up, and its age. A dynamic peer that
had a session and is gone stays in the list, with the routes that went with it, until forget or
for 7 days. Dynamic peers that never had a session, and unknown addresses that connect (ROLE "-"),
are shown for 10 minutes.

With --nodes it shows the sessions of these nodes.

With a peer it shows the session in detail: addresses and timers, the capabilities of both ends,
messages, faults, and the peers that receive the same announcements (update group).

SET lists routes of one peer, each with the rule that decided:
  received     as the peer announces them
  accepted     those that the import policy accepts, as it changes them
  rejected     the others
  advertised   as they are announced to the peer
PREFIX selects the routes that cover it or lie inside it; with advertised it also shows those
that are not announced, and why. With -o json each line is one route.

ACTION changes one session:
  disable      keeps it down until enable, the removal of the peer from the configuration,
               or a restart of the agent
  enable       ends disable
  reset        ends it; it comes up again at once
  refresh in   asks the peer for its routes again (ROUTE-REFRESH) and applies the import policy
               again; the session stays
  refresh out  announces all routes to the peer again; the session stays
  forget       removes a peer that is gone from the list
The peer receives the reason of disable and reset.`,
		Example: `  onlinkctl peers
  onlinkctl peers --watch
  onlinkctl peers --nodes all --tls-ca ca.crt --tls-cert alice.crt --tls-key alice.key
  onlinkctl peers tor1
  onlinkctl peers tor1 rejected
  onlinkctl peers tor1 advertised 10.244.1.0/26
  onlinkctl peers 10.57.0.12 received -o json
  onlinkctl peers tor1 refresh in
  onlinkctl peers tor1 disable --reason 'uplink replaced, ticket 4711'
  onlinkctl peers 10.57.0.12 forget`,
		Args: peersArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return listPeers(cmd, a)
			case a.nodes != "":
				return errors.New("--nodes lists the sessions of several nodes; use --server for one session of one node")
			case len(args) == 1:
				return showPeer(cmd, a, args[0])
			case peerSets[args[1]] != onlinkv1.RouteSet_ROUTE_SET_UNSPECIFIED:
				return peerRoutes(cmd, a, args[0], peerSets[args[1]], args[2:])
			}
			return controlPeer(cmd, a, args[0], strings.Join(args[1:], " "), reason)
		},
		ValidArgsFunction: a.completePeerArgs,
	}
	cmd.Flags().StringVar(&reason, "reason", "", "the reason, for disable and reset: at most 128 bytes, sent to the peer (RFC 9003)")
	return a.addNodes(cmd)
}

// listPeers shows the sessions of one node, or of several.
func listPeers(cmd *cobra.Command, a *app) error {
	fetch := func(ctx context.Context, c *connection) (*onlinkv1.ListPeersReply, error) {
		return c.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
	}
	if a.nodes != "" {
		return showNodes(cmd, a, fan[*onlinkv1.ListPeersReply]{key: "peers", fetch: fetch, headers: peerHeaders, rows: peerRows})
	}
	return show(cmd, a, view[*onlinkv1.ListPeersReply]{fetch: fetch, table: peersTable})
}

// peerActions are the values of peers' arguments after the peer.
var peerActions = map[string]onlinkv1.PeerAction{
	"disable":     onlinkv1.PeerAction_PEER_ACTION_DISABLE,
	"enable":      onlinkv1.PeerAction_PEER_ACTION_ENABLE,
	"reset":       onlinkv1.PeerAction_PEER_ACTION_RESET,
	"refresh in":  onlinkv1.PeerAction_PEER_ACTION_REFRESH_IN,
	"refresh out": onlinkv1.PeerAction_PEER_ACTION_REFRESH_OUT,
	"forget":      onlinkv1.PeerAction_PEER_ACTION_FORGET,
}

// peerSets are the sets of routes of one peer.
var peerSets = map[string]onlinkv1.RouteSet{
	"received":   onlinkv1.RouteSet_ROUTE_SET_RECEIVED,
	"accepted":   onlinkv1.RouteSet_ROUTE_SET_ACCEPTED,
	"rejected":   onlinkv1.RouteSet_ROUTE_SET_REJECTED,
	"advertised": onlinkv1.RouteSet_ROUTE_SET_ADVERTISED,
}

// peerWords are the words that may follow a peer.
const peerWords = "disable, enable, reset, refresh in, refresh out, forget, or received, accepted, rejected, advertised for its routes"

func peersArgs(_ *cobra.Command, args []string) error {
	if len(args) < 2 {
		return nil
	}
	rest := strings.Join(args[1:], " ")
	switch _, set := peerSets[args[1]]; {
	case set && len(args) > 3:
		return fmt.Errorf("too many arguments after %s; use one prefix or address, as in: onlinkctl peers tor1 %s 10.244.0.0/16", args[1], args[1])
	case set && len(args) == 3:
		_, err := prefixOf(args[2])
		return err
	case set, peerActions[rest] != onlinkv1.PeerAction_PEER_ACTION_UNSPECIFIED:
		return nil
	case args[1] == "refresh":
		return errors.New("refresh needs a direction; use refresh in or refresh out, as in: onlinkctl peers tor1 refresh in")
	}
	return fmt.Errorf("unknown %q after a peer; use %s", rest, peerWords)
}

// completePeerArgs completes the peer, then what can be done with it.
func (a *app) completePeerArgs(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	words := []cobra.Completion{"disable", "enable", "reset", "refresh", "forget", "received", "accepted", "rejected", "advertised"}
	switch {
	case len(args) == 0:
		return a.completePeers(cmd, args, begun)
	case len(args) == 2 && args[1] == "refresh":
		words = []cobra.Completion{"in", "out"}
	case len(args) > 1:
		words = nil
	}
	return slices.DeleteFunc(words, func(w cobra.Completion) bool { return !strings.HasPrefix(w, begun) }), cobra.ShellCompDirectiveNoFileComp
}

func controlPeer(cmd *cobra.Command, a *app, peer, action, reason string) error {
	return show(cmd, a, view[*onlinkv1.ControlPeerReply]{
		fetch: func(ctx context.Context, c *connection) (*onlinkv1.ControlPeerReply, error) {
			return c.ControlPeer(ctx, &onlinkv1.ControlPeerRequest{Peer: peer, Action: peerActions[action], Reason: reason})
		},
		table: func(w io.Writer, r *onlinkv1.ControlPeerReply) error {
			if r.GetDone() != "" {
				_, err := fmt.Fprintf(w, "%s: %s\n", peerTitle(r.GetPeer()), clean(r.GetDone()))
				return err
			}
			return peersTable(w, &onlinkv1.ListPeersReply{Peers: []*onlinkv1.Peer{r.GetPeer()}})
		},
	})
}

// peerTitle names a peer by its name and address.
func peerTitle(p *onlinkv1.Peer) string {
	if p.GetName() == "" {
		return clean(p.GetAddress())
	}
	return clean(fmt.Sprintf("%s (%s)", p.GetName(), p.GetAddress()))
}

func peersTable(w io.Writer, r *onlinkv1.ListPeersReply) error {
	g := newGrid(w, peerHeaders...)
	peerRows(g, r)
	return g.flush()
}

var peerHeaders = []string{"NAME", "ADDRESS", "AS", "ROLE", "STATE", "SINCE", "RECEIVED", "ACCEPTED", "SENT", "FLAPS", "BFD", "LAST ERROR"}

// peerRows writes the sessions, one line each.
func peerRows(g *grid, r *onlinkv1.ListPeersReply) {
	for _, p := range r.GetPeers() {
		address := p.GetAddress()
		if p.GetDynamic() {
			address += "*"
		}
		g.row(p.GetName(), address, num(p.GetAsn()), p.GetRole(), p.GetState(), age(p.GetSince().AsDuration()),
			num(p.GetPrefixesIn()), num(p.GetAccepted()), num(p.GetPrefixesOut()), num(p.GetFlaps()), p.GetBfd().GetState(), peerTrouble(p))
	}
}

// peerTrouble returns why a session is held down, else why and when it last failed, and
// what went with it.
func peerTrouble(p *onlinkv1.Peer) string {
	switch {
	case p.GetHeld() != "":
		return "held down: " + p.GetHeld()
	case p.GetTrouble() != "" && p.GetTrouble() != p.GetLastError():
		return p.GetTrouble()
	}
	text := p.GetLastError()
	if text != "" && p.GetLastErrorAge() != nil {
		text = age(p.GetLastErrorAge().AsDuration()) + " ago: " + text
	}
	if p.GetGone() && p.GetLost() != nil {
		text += "; " + lossText(p.GetLost())
	}
	return text
}

// lossNamed bounds the prefixes that a line names.
const lossNamed = 3

// lossText describes the routes that went with a session.
func lossText(l *onlinkv1.PeerLoss) string {
	text := fmt.Sprintf("it had %d routes, %d of them accepted", l.GetReceived(), l.GetAccepted())
	list := l.GetPrefixes()
	if len(list) == 0 {
		return text
	}
	text += ": " + strings.Join(list[:min(len(list), lossNamed)], ", ")
	if l.GetAccepted() > lossNamed {
		text += ", ..."
	}
	return text
}
