package admin

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"onlink/agent/announce"
	"onlink/agent/hold"
	"onlink/agent/state"
	onlinkv1 "onlink/proto/v1"
)

// TestAnnounce: a set is taken with its attributes and listed again; what is left
// out is in the reply; what would withdraw too much is held, and confirmed as other
// held changes are.
func TestAnnounce(t *testing.T) {
	s := (&bed{}).server(t)
	pref, med := uint32(0), uint32(7)
	full := &onlinkv1.Announcement{
		Prefix: "203.0.113.7/32", Communities: []string{"64512:1", "64512:1:2"}, LocalPref: &pref, Med: &med, Peers: []string{"tor1"},
		GracefulShutdown: true, Reason: "default/web",
	}
	send := func(confirm bool, list ...*onlinkv1.Announcement) *onlinkv1.AnnounceReply {
		t.Helper()
		rep, err := s.Announce(t.Context(), &onlinkv1.AnnounceRequest{Owner: "services", Announcements: list, Confirm: confirm})
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	_, err := s.Announce(t.Context(), &onlinkv1.AnnounceRequest{Owner: "a b"})
	wantCode(t, err, codes.InvalidArgument)

	rep := send(false, full, &onlinkv1.Announcement{Prefix: "203.0.113.8/32"}, &onlinkv1.Announcement{Prefix: "10.244.1.0/26"})
	if rep.GetAnnounced() != 2 || len(rep.GetRejected()) != 1 || rep.GetRejected()[0].GetPrefix() != "10.244.1.0/26" || rep.GetHeld() != nil {
		t.Errorf("reply: %v", rep)
	}
	list, err := s.ListAnnouncements(t.Context(), nil)
	if err != nil || len(list.GetSets()) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	got := list.GetSets()[0]
	full.State = "graceful-shutdown"
	if d := cmp.Diff([]*onlinkv1.Announcement{full, {Prefix: "203.0.113.8/32", State: "announced"}}, got.GetAnnouncements(), protocmp.Transform()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got.GetOwner() != "services" || time.Since(got.GetChanged().AsTime()) > time.Minute || len(got.GetRejected()) != 1 {
		t.Errorf("set: %v", got)
	}
	routes, err := s.ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{Prefix: "203.0.113.7"})
	want := []*onlinkv1.Route{{Prefix: "203.0.113.7/32", Kind: "announced", Reason: "services: default/web"}}
	if d := cmp.Diff(want, routes.GetRoutes(), protocmp.Transform()); d != "" || err != nil {
		t.Errorf("routes (%v) -want +got:\n%s", err, d)
	}
	w := statusToWire(&state.Snapshot{Announcements: s.Announcements.Sets()})
	if w.GetAnnouncements() != 2 || w.GetAnnouncementsRejected() != 1 {
		t.Errorf("status: %d announcements, %d rejected", w.GetAnnouncements(), w.GetAnnouncementsRejected())
	}

	rep = send(false)
	if rep.GetHeld().GetWhat() != "announce services" || rep.GetAnnounced() != 2 {
		t.Errorf("an empty set: %v", rep)
	}
	if _, err := s.Confirm(t.Context(), &onlinkv1.ConfirmRequest{Digest: rep.GetHeld().GetDigest()}); err != nil {
		t.Error(err)
	}
	if sets := s.Announcements.Sets(); len(sets) != 0 {
		t.Errorf("after the confirmation: %v", sets)
	}
	send(false, full, &onlinkv1.Announcement{Prefix: "203.0.113.8/32"})
	if rep = send(true); rep.GetHeld() != nil || rep.GetAnnounced() != 0 {
		t.Errorf("confirmed at once: %v", rep)
	}
}

// TestAnnounceThisBoot: a set that does not outlive a boot is shown as withheld after one,
// and is in force again once its owner sends it.
func TestAnnounceThisBoot(t *testing.T) {
	folder := t.TempDir()
	booted := func(boot string) *Server {
		s := (&bed{}).server(t)
		s.Announcements = announcements(t, folder, boot, hold.New(slog.New(slog.DiscardHandler)))
		return s
	}
	req := &onlinkv1.AnnounceRequest{Owner: "services", ThisBoot: true, Announcements: []*onlinkv1.Announcement{{Prefix: "203.0.113.7/32", Reason: "default/web"}}}
	if rep, err := booted("first").Announce(t.Context(), req); err != nil || rep.GetAnnounced() != 1 {
		t.Fatalf("%v, %v", rep, err)
	}
	if sets := booted("first").Announcements.Sets(); len(sets) != 1 || len(sets[0].Announcements) != 1 {
		t.Errorf("after a restart of the agent: %+v", sets)
	}

	s := booted("second")
	list, err := s.ListAnnouncements(t.Context(), nil)
	if err != nil || len(list.GetSets()) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	withheld := []*onlinkv1.AnnounceRejection{{Prefix: "203.0.113.7/32", Reason: announce.WithheldReason}}
	if d := cmp.Diff(withheld, list.GetSets()[0].GetWithheld(), protocmp.Transform()); d != "" || len(list.GetSets()[0].GetAnnouncements()) != 0 {
		t.Errorf("%v; -want +got:\n%s", list, d)
	}
	routes, err := s.ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{})
	want := []*onlinkv1.Route{{Prefix: "203.0.113.7/32", Kind: "withheld", Reason: "services: default/web (" + announce.WithheldReason + ")"}}
	if d := cmp.Diff(want, routes.GetRoutes(), protocmp.Transform()); d != "" || err != nil {
		t.Errorf("routes (%v) -want +got:\n%s", err, d)
	}
	if w := statusToWire(&state.Snapshot{Announcements: s.Announcements.Sets()}); w.GetAnnouncements() != 0 || w.GetAnnouncementsWithheld() != 1 {
		t.Errorf("status: %d announcements, %d withheld", w.GetAnnouncements(), w.GetAnnouncementsWithheld())
	}

	if rep, err := s.Announce(t.Context(), req); err != nil || rep.GetAnnounced() != 1 || rep.GetHeld() != nil {
		t.Errorf("sent again: %v, %v", rep, err)
	}
}
