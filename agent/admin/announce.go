package admin

import (
	"context"
	"errors"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"onlink/agent/announce"
	"onlink/agent/drain"
	onlinkv1 "onlink/proto/v1"
)

// Announce implements onlinkv1.AdminServer. It returns when the speaker has the
// announcements. Once begun the replacement is done to the end, also when the
// caller goes away.
func (s *Server) Announce(ctx context.Context, r *onlinkv1.AnnounceRequest) (*onlinkv1.AnnounceReply, error) {
	req := announce.Request{Owner: r.GetOwner(), ThisBoot: r.GetThisBoot(), List: make([]announce.Entry, 0, len(r.GetAnnouncements()))}
	for _, a := range r.GetAnnouncements() {
		req.List = append(req.List, entryOf(a))
	}
	replace := func(ctx context.Context) (announce.Outcome, error) {
		if r.GetGuardAny() && !r.GetConfirm() {
			return s.Announcements.ReplaceKeeping(ctx, req)
		}
		return s.Announcements.Replace(ctx, req, r.GetConfirm())
	}
	out, err := replace(context.WithoutCancel(ctx))
	switch {
	case errors.Is(err, announce.ErrInvalid):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case err != nil:
		return nil, status.Error(codes.Internal, err.Error())
	case out.Held != nil:
		s.Log.Warn("announcements are held", "by", caller(ctx), "owner", r.GetOwner(), "would_withdraw", out.Held.Reason)
		return s.announced(r.GetOwner(), &onlinkv1.AnnounceReply{Held: heldToWire(*out.Held)}), nil
	}
	if err := s.Announcements.Await(ctx, out.Version); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return s.announced(r.GetOwner(), &onlinkv1.AnnounceReply{}), nil
}

// announced adds the owner's announcements in force to a reply.
func (s *Server) announced(owner string, rep *onlinkv1.AnnounceReply) *onlinkv1.AnnounceReply {
	for _, set := range s.Announcements.Sets() {
		if set.Owner == owner {
			rep.Announced, rep.Rejected = number(len(set.Announcements)), rejectionsToWire(set.Rejected)
		}
	}
	return rep
}

// ListAnnouncements implements onlinkv1.AdminServer.
func (s *Server) ListAnnouncements(context.Context, *onlinkv1.ListAnnouncementsRequest) (*onlinkv1.ListAnnouncementsReply, error) {
	rep := &onlinkv1.ListAnnouncementsReply{}
	phase, _ := s.Drainer.State()
	for _, set := range s.Announcements.Sets() {
		w := &onlinkv1.AnnouncementSet{Owner: set.Owner, Changed: timestamppb.New(set.Changed), Rejected: rejectionsToWire(set.Rejected)}
		for i := range set.Announcements {
			w.Announcements = append(w.Announcements, announcementToWire(&set.Announcements[i], phase))
		}
		for i := range set.Withheld {
			w.Withheld = append(w.Withheld, &onlinkv1.AnnounceRejection{Prefix: set.Withheld[i].Prefix.String(), Reason: announce.WithheldReason})
		}
		rep.Sets = append(rep.Sets, w)
	}
	return rep, nil
}

// announcedRoutes are the announcements as routes of the node: the kernel has
// none for them, because the service proxy of the node answers.
func (s *Server) announcedRoutes(match func(netip.Prefix) bool) []*onlinkv1.Route {
	var out []*onlinkv1.Route
	for _, set := range s.Announcements.Sets() {
		add := func(list []announce.Announcement, kind, why string) {
			for i := range list {
				a := &list[i]
				if !match(a.Prefix) {
					continue
				}
				reason := set.Owner
				if a.Reason != "" {
					reason += ": " + a.Reason
				}
				out = append(out, &onlinkv1.Route{Prefix: a.Prefix.String(), Kind: kind, Reason: reason + why})
			}
		}
		add(set.Announcements, "announced", "")
		add(set.Withheld, "withheld", " ("+announce.WithheldReason+")")
	}
	return out
}

// entryOf reads an announcement of a request.
func entryOf(w *onlinkv1.Announcement) announce.Entry {
	return announce.Entry{Text: w.GetPrefix(), Announcement: announce.Announcement{
		Communities: w.GetCommunities(), LocalPref: w.LocalPref, MED: w.Med, Peers: w.GetPeers(),
		GracefulShutdown: w.GetGracefulShutdown(), Reason: w.GetReason(),
	}}
}

// announcementToWire is an announcement in force, in a phase of the node's drain.
func announcementToWire(a *announce.Announcement, phase drain.Phase) *onlinkv1.Announcement {
	w := &onlinkv1.Announcement{
		Prefix: a.Prefix.String(), Communities: a.Communities, LocalPref: a.LocalPref, Med: a.MED, Peers: a.Peers,
		GracefulShutdown: a.GracefulShutdown, Reason: a.Reason, State: "announced",
	}
	switch {
	case phase == drain.Drained:
		w.State = "withdrawn"
	case phase == drain.Leaving, a.GracefulShutdown:
		w.State = "graceful-shutdown"
	}
	return w
}

func rejectionsToWire(list []announce.Rejection) []*onlinkv1.AnnounceRejection {
	var out []*onlinkv1.AnnounceRejection
	for _, r := range list {
		out = append(out, &onlinkv1.AnnounceRejection{Prefix: r.Prefix, Reason: r.Reason})
	}
	return out
}
