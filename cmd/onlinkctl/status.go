package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func statusCommand(a *app) *cobra.Command {
	return a.addNodes(&cobra.Command{
		Use:   "status",
		Short: "Show the agent at a glance",
		Long: `status shows the agent at a glance, and each problem with its remedy. With --nodes it is
one line for each node, then their problems, then the nodes without an answer (exit code 1).`,
		Example: `  onlinkctl status
  onlinkctl status --nodes all --tls-ca ca.crt --tls-cert alice.crt --tls-key alice.key
  onlinkctl status -o json
  onlinkctl status --watch=5s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fetch := func(ctx context.Context, c *connection) (*onlinkv1.Status, error) {
				return c.GetStatus(ctx, &onlinkv1.GetStatusRequest{})
			}
			if a.nodes != "" {
				return showNodes(cmd, a, fan[*onlinkv1.Status]{
					key: "status", fetch: fetch, headers: statusHeaders, rows: statusRow, below: problemLines,
				})
			}
			return show(cmd, a, view[*onlinkv1.Status]{
				fetch: fetch,
				table: func(w io.Writer, s *onlinkv1.Status) error { return a.status(w, s) },
			})
		},
	})
}

// statusHeaders are the columns of a status in one line.
var statusHeaders = []string{"ADDRESS", "STATE", "IN SYNC", "DRAIN", "PEERS", "ROUTES", "UNRESOLVED", "FAILED", "ADDRESSES", "PROBLEMS", "VERSION"}

// statusRow writes a status in one line.
func statusRow(g *grid, s *onlinkv1.Status) {
	g.row(s.GetAddress(), s.GetPhase(), yesNo(s.GetInSync()), s.GetDrain(), fmt.Sprintf("%d/%d", s.GetPeersEstablished(), s.GetPeersTotal()),
		num(s.GetRoutesUnicast()), num(s.GetRoutesUnresolved()), num(s.GetRoutesFailed()),
		fmt.Sprintf("%d/%d", s.GetAddressesUsed(), s.GetAddressesTotal()), strconv.Itoa(len(s.GetProblems())), s.GetVersion())
}

// problemLines writes the problems of one of several nodes.
func problemLines(w io.Writer, node string, s *onlinkv1.Status) error {
	for _, p := range s.GetProblems() {
		if _, err := fmt.Fprintf(w, "%s: problem: %s\n", clean(node), clean(p)); err != nil {
			return err
		}
	}
	return nil
}

// status writes one line per subject.
func (a *app) status(w io.Writer, s *onlinkv1.Status) error {
	running := "-"
	if s.GetStarted().IsValid() {
		running = age(a.now().Sub(s.GetStarted().AsTime()))
	}
	role := ""
	if s.GetReflector() {
		role = ", route reflector"
	}
	lines := []struct{ key, text string }{
		{"Node", fmt.Sprintf("%s (%s)", s.GetNode(), s.GetAddress())},
		{"Agent", fmt.Sprintf("%s, %s, running %s", s.GetVersion(), s.GetGobgp(), running)},
		{"State", fmt.Sprintf("%s, in sync: %s", s.GetPhase(), yesNo(s.GetInSync()))},
		{"BGP", fmt.Sprintf("AS %d, router ID %s%s", s.GetAsn(), s.GetRouterId(), role)},
		{"Peers", peerCount(s)},
		{"Routes", fmt.Sprintf("%d (%d tunnelled), %d unresolved, %d failed, %d repaired",
			s.GetRoutesUnicast(), s.GetRoutesTunnelled(), s.GetRoutesUnresolved(), s.GetRoutesFailed(), s.GetFibDrift())},
		{"Addresses", fmt.Sprintf("%d of %d used in %d blocks", s.GetAddressesUsed(), s.GetAddressesTotal(), s.GetBlocks())},
		{"Announced", announced(s)},
		{"Registry", s.GetRegistry()},
		{"Features", features(s.GetFeatures())},
	}
	for _, l := range lines {
		if l.text == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-11s%s\n", l.key+":", clean(l.text)); err != nil {
			return err
		}
	}
	for _, st := range s.GetStations() {
		if _, err := fmt.Fprintf(w, "%-11s%s\n", "BMP:", clean(a.station(st))); err != nil {
			return err
		}
	}
	notes := s.GetNotes()
	if skew := skewOf(s.GetVersion()); skew != "" {
		notes = append(slices.Clone(notes), skew)
	}
	for _, n := range notes {
		if _, err := fmt.Fprintf(w, "%-11s%s\n", "Note:", clean(n)); err != nil {
			return err
		}
	}
	for _, h := range s.GetHeld() {
		if _, err := fmt.Fprintf(w, "%-11s%s\n", "Held:", clean(a.held(h))); err != nil {
			return err
		}
	}
	for _, p := range s.GetProblems() {
		if _, err := fmt.Fprintf(w, "%-11s%s\n", "Problem:", clean(p)); err != nil {
			return err
		}
	}
	return nil
}

// peerCount counts the sessions, and the peers that are gone if there are any.
func peerCount(s *onlinkv1.Status) string {
	text := fmt.Sprintf("%d of %d established", s.GetPeersEstablished(), s.GetPeersTotal())
	if n := s.GetPeersGone(); n > 0 {
		text += fmt.Sprintf(", %d gone", n)
	}
	return text
}

// station is one line about a monitoring station.
func (a *app) station(s *onlinkv1.Station) string {
	text := fmt.Sprintf("%s (%s), %s: ", s.GetName(), s.GetAddress(), strings.Join(s.GetMonitor(), ", "))
	since := "-"
	if s.GetSince().IsValid() {
		since = age(a.now().Sub(s.GetSince().AsTime()))
	}
	if s.GetConnected() {
		text += fmt.Sprintf("connected for %s, %d messages sent", since, s.GetMessages())
	} else {
		text += "no connection for " + since
	}
	if n := s.GetOverflows(); n > 0 {
		text += fmt.Sprintf(", reads too slowly: connections closed: %d", n)
	}
	if s.GetLastError() != "" {
		text += ", last error: " + s.GetLastError()
	}
	return text
}

// held is one line about a change that waits for a confirmation.
func (a *app) held(h *onlinkv1.HeldChange) string {
	since := ""
	if h.GetSince().IsValid() {
		since = ", for " + age(a.now().Sub(h.GetSince().AsTime()))
	}
	return fmt.Sprintf("%s%s: would remove %s (digest %s)", h.GetWhat(), since, h.GetReason(), h.GetDigest())
}

// announced counts the prefixes of owners; "": there are none.
func announced(s *onlinkv1.Status) string {
	if s.GetAnnouncements()+s.GetAnnouncementsWithheld()+s.GetAnnouncementsRejected() == 0 {
		return ""
	}
	text := fmt.Sprintf("%d prefixes of owners, such as services", s.GetAnnouncements())
	if n := s.GetAnnouncementsWithheld(); n > 0 {
		text += fmt.Sprintf(", %d withheld", n)
	}
	if n := s.GetAnnouncementsRejected(); n > 0 {
		text += fmt.Sprintf(", %d rejected", n)
	}
	return text
}

// features lists the kernel's features, and the effect of each missing one.
func features(list []*onlinkv1.Feature) string {
	words := make([]string, len(list))
	for i, f := range list {
		switch words[i] = f.GetName(); {
		case f.GetAvailable():
		case f.GetDetail() == "":
			words[i] = "no " + f.GetName()
		default:
			words[i] = fmt.Sprintf("no %s (%s)", f.GetName(), f.GetDetail())
		}
	}
	return strings.Join(words, ", ")
}
