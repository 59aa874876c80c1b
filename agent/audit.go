package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// What an audit entry can say was done.
const (
	auditReleaseNode    = "release-node"
	auditReleaseAddress = "release-address"
	auditTakeOver       = "take-over"
)

// auditor notes in the database what is taken by force: before it is done, so
// that nothing can be done unnoted, and how it went.
type auditor struct {
	store *ipam.Store
	log   *slog.Logger
}

// do does what an operator asks for, and returns what was taken.
func (a auditor) do(ctx context.Context, action, target string, deed func() ([]ipam.Block, error)) ([]ipam.Block, error) {
	by := caller(ctx)
	n, err := a.store.BeginAudit(ipam.AuditEntry{Began: time.Now(), Action: action, Target: target, By: by})
	if err != nil {
		return nil, fmt.Errorf("not done: it cannot be noted: %w", err)
	}
	taken, err := deed()
	if aerr := a.store.EndAudit(n, taken, err); aerr != nil {
		a.log.Error("audit entry not completed", "err", aerr)
	}
	a.log.Warn("taken by an operator", "action", action, "target", target, "by", by, "blocks", len(taken), "err", err)
	return taken, err
}

// AuditIPAM implements onlinkv1.AdminServer.
func (s *admin) AuditIPAM(context.Context, *onlinkv1.AuditIPAMRequest) (*onlinkv1.AuditIPAMReply, error) {
	entries, err := s.a.store.Audit()
	if err != nil {
		return nil, status.Errorf(codes.Internal, "audit: %v", err)
	}
	rep := &onlinkv1.AuditIPAMReply{}
	for _, e := range entries {
		w := &onlinkv1.AuditEntry{
			Began: timestamppb.New(e.Began), Action: e.Action, Target: e.Target, By: e.By, Done: e.Done, Failed: e.Failed,
		}
		for _, b := range e.Blocks {
			w.Blocks = append(w.Blocks, b.String())
		}
		rep.Entries = append(rep.Entries, w)
	}
	return rep, nil
}
